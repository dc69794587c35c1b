"""Policies: from a window of observations to a chunk of actions."""
