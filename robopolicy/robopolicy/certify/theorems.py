"""What a policy's Lipschitz constant implies: six theorems, each as a function from findings to a finding.

The system is ``x+ = f(x, u)``, of which the policy measures ``y = x + d`` with ``|d| <= disturbance``. The
policy has the Lipschitz constant ``alpha``, the expert that it imitates ``expert``. All norms are l2, of
whatever numbers the constants are given in. A result is of the weakest kind among what goes into it.

The claims are those of Al Makdah, Krishnan and Pasqualetti, "Learning Lipschitz Feedback Policies from Expert
Demonstrations" (arXiv 2103.16629); constants and derivations are our own, in ``docs/certificates.md``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from robopolicy.certify.finding import Finding, weakest
from robopolicy_datasets.errors import ConfigError


@dataclass(frozen=True)
class Loop:
    """The expert's closed loop, in some metric ``|x|_P`` in which each of its steps brings states closer.

    Attributes:
        contraction: beta: ``|x+ - x'+|_P <= beta |x - x'|_P``; from 1 on, nothing follows.
        input_gain: l_u: how far the next state moves in that metric for one unit of the action, times the
            largest l2 length of a state whose length in the metric is 1. Who knows ``M beta^t`` instead of a
            metric multiplies the gain in l2 by M, and has no ``contraction_rate``.
    """

    contraction: Finding
    input_gain: Finding

    @property
    def kind(self) -> str:
        """The weaker kind of the two."""
        return weakest(self.contraction, self.input_gain)

    @property
    def assumption(self) -> str:
        """Where the constants come from."""
        return self.contraction.assumption

    @property
    def gain(self) -> float:
        """How far the state strays for each unit by which every action is wrong: ``l_u / (1 - beta)``."""
        beta = self.contraction.value
        return self.input_gain.value / (1 - beta) if beta < 1 else math.inf


@dataclass(frozen=True)
class Cost:
    """A discounted cost ``J = sum_t discount^t c(x_t, u_t)``.

    Attributes:
        state, action: Lipschitz constants of c in the state and in the action.
        discount: below 1.

    Raises:
        ConfigError: the discount is not in [0, 1), or a constant is negative.
    """

    state: float
    action: float
    discount: float

    def __post_init__(self) -> None:
        if min(self.state, self.action) < 0:
            raise ConfigError(
                f"The cost's constants are {self.state} and {self.action}; they must not be negative."
            )
        if not 0 <= self.discount < 1:
            raise ConfigError(f"The cost's discount is {self.discount}; it must lie in [0, 1).")


def observation_radius(alpha: Finding, tolerance: float) -> Finding:
    """Returns how wrong an observation may be so that the action moves by at most ``tolerance``.

    Raises:
        ConfigError: the tolerance is not positive.
    """
    if not tolerance > 0:
        raise ConfigError(f"The tolerance is {tolerance}; it must be positive.")
    radius = tolerance / alpha.value if alpha.value else math.inf
    reach = f"Every observation error up to this. {alpha.assumption}"
    return Finding(radius, alpha.kind, reach, vacuous=not radius > 0)


def disturbed_action(alpha: Finding, disturbance: float) -> Finding:
    """Bounds how far an observation error of length ``disturbance`` moves the action: ``alpha d``.

    Raises:
        ConfigError: the disturbance is negative.
    """
    nothing = Finding(0.0, "certified", "The policy is compared with itself.")
    return Finding(_action_error(nothing, alpha, disturbance), alpha.kind, alpha.assumption)


def imitation_error(
    training_error: Finding, covering_radius: Finding, alpha: Finding, expert: Finding, *, trivial: float
) -> Finding:
    """Bounds the distance to the expert's action everywhere in the region: ``e + (alpha + expert) h``.

    Args:
        training_error: e, the largest at the demonstrated states.
        covering_radius: h, how far a state of the region can be from the nearest demonstrated one.
        alpha: the policy's Lipschitz constant.
        expert: the expert's.
        trivial: distance that no two actions exceed anyway.
    """
    value = training_error.value + (alpha.value + expert.value) * covering_radius.value
    return Finding(
        value,
        weakest(training_error, covering_radius, alpha, expert),
        f"The expert is a function of the state. {expert.assumption} {covering_radius.assumption}",
        vacuous=value >= trivial,
    )


def expert_deviation(
    error: Finding, alpha: Finding, loop: Loop, *, disturbance: float, trivial: float
) -> Finding:
    """Bounds how far the policy's trajectory strays from the expert's: ``l_u (eps + alpha d) / (1 - beta)``.

    Args:
        error: eps, largest distance between the policy's and the expert's action in the region.
        alpha: the policy's Lipschitz constant.
        loop: the expert's closed loop.
        disturbance: largest error of the measured state.
        trivial: distance that no two states of the region exceed.
    """
    wrong = _action_error(error, alpha, disturbance)
    value = loop.gain * wrong if wrong else 0.0
    return Finding(
        value,
        weakest(error, alpha, loop),
        f"The state stays in the region. {loop.assumption}",
        vacuous=value >= trivial,
    )


def contraction_rate(alpha: Finding, expert: Finding, loop: Loop) -> Finding:
    """Bounds the factor by which the policy's own closed loop brings two states closer in a step.

    Below 1 the loop is stable, by the margin to 1; from 1 on it is vacuous, and only ``expert_deviation``
    remains.
    """
    value = loop.contraction.value + loop.input_gain.value * (alpha.value + expert.value)
    return Finding(
        value,
        weakest(alpha, expert, loop),
        f"f(x, u) = a(x) + B u, in a metric in which every step of the expert contracts. {loop.assumption}",
        vacuous=value >= 1,
    )


def regret(
    error: Finding,
    alpha: Finding,
    expert: Finding,
    loop: Loop,
    cost: Cost,
    *,
    disturbance: float,
    trivial: float,
) -> Finding:
    """Bounds how much more than the expert's the policy's discounted cost is.

    Args:
        error: eps, as in ``expert_deviation``.
        alpha: the policy's Lipschitz constant.
        expert: the expert's.
        loop: the expert's closed loop.
        cost: what is summed.
        disturbance: largest error of the measured state.
        trivial: difference that no two costs exceed.
    """
    wrong = _action_error(error, alpha, disturbance)
    value = wrong * _cost_gain(expert.value, loop, cost) if wrong else 0.0
    return Finding(
        value,
        weakest(error, alpha, expert, loop),
        f"The state stays in the region. {loop.assumption}",
        vacuous=value >= trivial,
    )


def degradation(
    alpha: Finding, rate: Finding, loop: Loop, cost: Cost, *, disturbance: float, trivial: float
) -> Finding:
    """Bounds what a disturbance of the measurement costs the policy, against itself undisturbed.

    It is the regret of the disturbed policy with the undisturbed one as its expert.

    Args:
        alpha: the policy's Lipschitz constant.
        rate: of contraction of the policy's closed loop, as of ``contraction_rate``.
        loop: the expert's closed loop, for its input gain.
        cost: what is summed.
        disturbance: largest error of the measured state.
        trivial: difference that no two costs exceed.
    """
    own = Loop(contraction=rate, input_gain=loop.input_gain)
    nothing = Finding(0.0, "certified", "The policy is compared with itself.")
    return regret(nothing, alpha, alpha, own, cost, disturbance=disturbance, trivial=trivial)


def _action_error(error: Finding, alpha: Finding, disturbance: float) -> float:
    """Returns how far the action can be from the expert's at the true state: ``eps + alpha d``."""
    if disturbance < 0:
        raise ConfigError(f"The disturbance is {disturbance}; it must not be negative.")
    return error.value + alpha.value * disturbance


def _cost_gain(expert: float, loop: Loop, cost: Cost) -> float:
    """Returns the discounted cost of actions that are all wrong by one unit.

    With ``sum_t g^t (1 - b^t) / (1 - b) = g / ((1 - g)(1 - g b))``, which holds for all ``g b < 1``.
    """
    discount, beta = cost.discount, loop.contraction.value
    if not discount * beta < 1:
        return math.inf
    strayed = loop.input_gain.value * discount / (1 - discount * beta)
    return (cost.action + (cost.state + cost.action * expert) * strayed) / (1 - discount)
