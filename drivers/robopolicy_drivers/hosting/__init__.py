"""Devices in processes of their own: what the drivers of all robots and sensors have in common.

``device``, ``robot`` and ``sensor`` are the side of the program that uses a device; ``robot_loop`` and
``sensor_loop`` run in the device's process.
"""
