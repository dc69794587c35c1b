"""Typed settings of the trainer. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class AugmentationConfig:
    """How much training images are changed, all frames of a window alike.

    Attributes:
        shift: they are moved by up to this many pixels in both directions (0: not at all).
        brightness: multiplied by up to 1 plus or minus this; 0 to 1.
        contrast: likewise, about the mean.
        saturation: likewise, about grey.
        hue: turned by up to this part of the circle of colours; 0 to 0.5.
    """

    shift: int = 2
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0


@dataclass
class TrainerConfig:
    """How a policy is trained.

    Attributes:
        steps: optimizer steps.
        batch_size: windows in a step, on each process.
        learning_rate: peak, after a linear warm-up; it then falls to zero along a cosine.
        warmup_steps: of the learning rate.
        weight_decay: AdamW's, of the layers' weights; not of biases, normalizations and embeddings.
        betas: AdamW's.
        gradient_clip: largest gradient norm.
        ema_decay: largest decay of the averaged weights, which are what is saved and evaluated.
        bf16: compute in bfloat16 where it is safe (weights stay float32), if the hardware can; processors
            that only imitate it, many times slower, keep float32.
        mirror: train on the mirror image of half of the windows, where the task has a mirror symmetry.
        augmentation: of the training images.
        device: ``auto`` (GPU when there is one), ``cpu`` or ``cuda``.
        threads: of torch on the CPU; more than one help large nets on quiet machines, and cost much on busy
            ones. 0: torch's own choice.
        seed: of weights, order and noise.
        validation_fraction: of the episodes, held out.
        validate_every: steps between validations.
        log_every: steps between lines in metrics.jsonl.
        checkpoint_every: steps between saves of checkpoints/last.
    """

    steps: int = 5000
    batch_size: int = 128
    learning_rate: float = 1e-3
    warmup_steps: int = 200
    weight_decay: float = 1e-6
    betas: tuple[float, float] = (0.95, 0.999)
    gradient_clip: float = 1.0
    ema_decay: float = 0.999
    bf16: bool = False
    mirror: bool = True
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    device: str = "auto"
    threads: int = 1
    seed: int = 0
    validation_fraction: float = 0.05
    validate_every: int = 500
    log_every: int = 50
    checkpoint_every: int = 1000
