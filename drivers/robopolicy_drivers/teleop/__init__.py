"""Devices by which a person steers a robot, real or simulated."""
