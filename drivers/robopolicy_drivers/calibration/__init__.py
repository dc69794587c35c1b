"""Calibration: delays of devices, camera intrinsics, and where a camera sits on or beside a robot."""
