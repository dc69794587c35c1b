"""Real-time building blocks: deadline loop, shared-memory ring, trajectory, device process."""
