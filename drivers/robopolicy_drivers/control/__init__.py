"""Kinematics and controllers in batched numpy."""
