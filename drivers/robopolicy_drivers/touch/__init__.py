"""Sensors of touch and force: gels with markers before a camera, taxels, force and torque at the tool."""
