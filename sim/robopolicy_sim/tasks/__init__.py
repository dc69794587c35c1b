"""Simulated tasks as Gymnasium environments; their configs import neither mujoco nor torch."""
