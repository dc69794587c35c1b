"""Certificates: how far an action can move when the observation does, and what follows in closed loop."""
