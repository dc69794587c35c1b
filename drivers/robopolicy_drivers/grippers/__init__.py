"""Grippers of one opening: what they share, and one module a vendor."""
