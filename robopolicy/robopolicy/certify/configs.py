"""Settings of a certificate. Imports no torch, so that the command can show and check them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class CertificateConfig:
    """What a certificate is asked for.

    Attributes:
        empirical: write a certificate without upper bounds where the policy has none.
        points: windows at which the policy's steepness is measured.
        seed: of windows, noise and searches.
        tolerance: how far an action may move, as a share of its scale in the normalizer; of rotations [rad].
        tolerances: the same in real units, by unit, e.g. ``{m: 0.01, rad: 0.05}``.
        disturbance: size of an observation error, as the l2 length of the change of the normalized window.
        expert_lipschitz: of the expert, in normalized numbers; estimated from the data where it is not given.
        contraction: of the expert's closed loop from one inference to the next, in a metric of the
            normalized window; estimated from the data, with ``input_gain``, where it is not given.
        input_gain: how far the next window moves for one unit of the normalized executed actions.
        cost_state: how much the cost of a step changes at most with the normalized window.
        cost_action: how much it changes with the normalized actions.
        discount: of the cost, from one inference to the next.
    """

    empirical: bool = False
    points: int = 256
    seed: int = 0
    tolerance: float = 0.05
    tolerances: dict[str, float] = field(default_factory=dict)
    disturbance: float = 0.1
    expert_lipschitz: float | None = None
    contraction: float | None = None
    input_gain: float | None = None
    cost_state: float = 1.0
    cost_action: float = 1.0
    discount: float = 0.95
