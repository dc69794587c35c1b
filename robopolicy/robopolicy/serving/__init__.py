"""Serving policies to robots: the inference server."""
