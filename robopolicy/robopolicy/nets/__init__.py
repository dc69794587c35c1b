"""Neural networks: parts that policies are built from."""
