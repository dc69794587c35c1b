"""Vehicles that fly under an autopilot."""
