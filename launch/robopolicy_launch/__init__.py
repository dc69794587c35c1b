"""The robopolicy command: verbs, presets, run folders and reports."""
