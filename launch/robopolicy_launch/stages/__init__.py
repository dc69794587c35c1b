"""The stages of the main job, one module each; verbs run one, ``demo`` runs all."""
