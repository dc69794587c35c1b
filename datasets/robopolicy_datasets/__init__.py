"""The shared words (spec, clock, geometry, errors, registry) and the demonstration data. Needs no torch."""
