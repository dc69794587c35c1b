"""The verbs that work on devices: one module each."""
