"""From action chunks to commands: the chunk scheduler and the executor."""
