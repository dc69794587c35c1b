"""Samplers: from noise to an action chunk through a learned field."""
