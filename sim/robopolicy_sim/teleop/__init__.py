"""Persons who demonstrate the simulated tasks."""
