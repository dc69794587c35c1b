"""A vehicle to try drivers on: a simulated body under an autopilot that speaks MAVLink through MAVSDK."""
