"""Scripted experts that demonstrate the simulated tasks."""
