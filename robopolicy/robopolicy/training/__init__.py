"""Training: batches of windows in, checkpoints and metrics out."""
