"""Cameras: RealSense, and everything that OpenCV opens."""
