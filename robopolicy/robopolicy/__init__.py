"""robopolicy: learning and using robot policies.

The public names are imported on first use, so that ``import robopolicy`` is quick and loads no torch.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "load_policy": "robopolicy.checkpoint",
    "save_policy": "robopolicy.checkpoint",
    "train": "robopolicy.training.trainer",
    "evaluate": "robopolicy.evaluation.closed_loop",
    "ChunkPolicy": "robopolicy.policies.chunk_policy",
    "DiffusionConfig": "robopolicy.policies.configs",
    "FlowConfig": "robopolicy.policies.configs",
    "TrainerConfig": "robopolicy.training.configs",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'robopolicy' has no attribute '{name}'")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
