"""The doctor of demo stores: finds faults, computes statistics, and writes corrected copies."""
