"""The verbs that work on demo stores: one module each."""
