"""The certificate of a policy: its own bounds, a search for their violation, and what follows from both."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from robopolicy.certify.certificate import Certificate, Movement
from robopolicy.certify.configs import CertificateConfig
from robopolicy.certify.covering import expert_lipschitz, sampled_covering_radius
from robopolicy.certify.finding import Finding, weakest
from robopolicy.certify.linear_loop import estimate_loop
from robopolicy.certify.lower_bound import LowerBound, lower_bound
from robopolicy.certify.plain_nets import plain_sensitivity
from robopolicy.certify.quantities import ActionQuantity
from robopolicy.certify.sensitivity import Sensitivity
from robopolicy.certify.theorems import (
    Cost,
    Loop,
    contraction_rate,
    degradation,
    disturbed_action,
    expert_deviation,
    imitation_error,
    regret,
)
from robopolicy.evaluation.demonstrated import Samples, sample_transitions, sample_windows
from robopolicy.policies.chunk_policy import ChunkPolicy
from robopolicy.policies.real_units import action_quantities, is_encoded, observation_quantities
from robopolicy.training.data import TrainingData
from robopolicy_datasets.errors import ConfigError, unknown_name

GREY_LEVELS = 255  # which images, whose numbers are in [-1, 1], have between their ends
NOISES = 8  # of a sampling policy: the bound holds for each one, so a few of them are searched
Progress = Callable[[str], None]


def certify(
    policy: ChunkPolicy, name: str, config: CertificateConfig, data: TrainingData | None, tell: Progress
) -> Certificate:
    """Makes a policy's certificate.

    Args:
        policy: with the method ``sensitivity()``, or with ``config.empirical`` any.
        name: under which it is registered.
        config: what is asked.
        data: its demonstrations; without them the searches start at random windows, and what the theorems
            need of the data is unknown.
        tell: is called with what is done next.

    Raises:
        ConfigError: the policy has no certificate, or a tolerance is of a unit that no action has.
        RobopolicyError: a measurement violates a bound.
        StoreError, SpecError: the data does not fit the policy.
    """
    policy.eval()  # no noise on observations, and the weights that are proven
    tell("windows")
    training = None
    if data is not None:
        training = sample_windows(policy, data.training_windows(policy), seed=config.seed)
    points = _points(policy, training, config)
    sensitivity = _sensitivity(policy, name, points, config)
    with torch.no_grad():
        seeds = range(config.seed, config.seed + len(points))  # each window its own noise
        quantities = action_quantities(policy, policy.respond(points, seeds))
    _check_units(quantities, config)
    tell("steepest windows")
    measured = _search(policy, points, config.seed)
    movements = []
    for quantity in quantities:
        tell(f"steepest windows for {quantity.name}")
        movements.append(_movement(policy, quantity, sensitivity, points, config))
    noise = sensitivity.noise if sensitivity else None
    findings, notes = _implied(policy, config, data, training, sensitivity, tell)
    findings = _rounding(policy, points) | findings
    if sensitivity is not None:
        findings |= _pixels(policy, sensitivity.chunk, movements)
    return Certificate(
        name,
        _upper(sensitivity, sensitivity.chunk if sensitivity else math.inf),
        _found(measured.value, points),
        None if noise is None else _upper(sensitivity, noise),
        movements,
        observation_quantities(policy),
        findings,
        measured.jacobian.tolist(),
        notes,
    )


def _implied(
    policy: ChunkPolicy,
    config: CertificateConfig,
    data: TrainingData | None,
    training: Samples | None,
    sensitivity: Sensitivity | None,
    tell: Progress,
) -> tuple[dict[str, Finding], list[str]]:
    """Returns what follows from the bounds, and the notes, which say why nothing more does."""
    notes = _notes(policy)
    if sensitivity is None:
        return {}, [*notes, "Without an upper bound no theorem applies."]
    chunk = _upper(sensitivity, sensitivity.chunk)
    findings = {"disturbed_action": disturbed_action(chunk, config.disturbance)}
    if data is None or training is None:
        notes.append("No data was given: the searches began at random windows, and the theorems need data.")
    elif policy.stochastic:
        notes.append("The policy samples, so it has no error against an expert: those theorems do not apply.")
    else:
        tell("theorems")
        findings |= _Theorems(policy, config, data, training, chunk).findings()
    return findings, notes


def _sensitivity(
    policy: ChunkPolicy, name: str, points: Tensor, config: CertificateConfig
) -> Sensitivity | None:
    """Returns the policy's bounds, its own or of its plain net; None where there are none and that may be."""
    offered: Callable[[], Sensitivity] | None = getattr(policy, "sensitivity", None)
    if offered is not None:
        sensitivity = offered()
        if len(sensitivity.per_action) != policy.action.size:
            raise ConfigError(
                f"The sensitivity() of '{name}' bounds {len(sensitivity.per_action)} numbers of an action, "
                f"which has {policy.action.size} as it is represented. Return one for each."
            )
        return sensitivity
    try:
        return _plain(policy, points)
    except ConfigError as error:
        if config.empirical:
            return None
        raise ConfigError(
            f"The policy '{name}' cannot have a certificate: {error} Or train policy=lipschitz or "
            "policy=flow_lipschitz, or set certificate.empirical=true to measure it only."
        ) from error


def _plain(policy: ChunkPolicy, points: Tensor) -> Sensitivity:
    """Returns the bounds of a policy that is a plain net from the window to the chunk, and nothing else."""
    net = getattr(policy, "net", None)
    if policy.stochastic or not isinstance(net, nn.Sequential):
        raise ConfigError(
            "it has no sensitivity(), nor is it a plain net (a nn.Sequential from window to chunk), whose "
            "layers could be bounded."
        )
    sensitivity = plain_sensitivity(net, policy.action.size)
    with torch.no_grad():
        if not torch.equal(net(points).flatten(1), policy.respond(points).flatten(1)):
            raise ConfigError("its chunks are not what its net gives for the window.")
    checked = f"That its chunks are those of this net was checked at {len(points)} windows."
    return replace(sensitivity, method=f"{sensitivity.method} {checked}")


def _upper(sensitivity: Sensitivity | None, value: float) -> Finding:
    if sensitivity is None:
        return Finding(math.inf, "empirical", "The policy's net bounds no Lipschitz constant.", vacuous=True)
    return Finding(value, sensitivity.kind, sensitivity.method)


def _points(policy: ChunkPolicy, training: Samples | None, config: CertificateConfig) -> Tensor:
    """Returns windows ``[N, C]`` to search from: demonstrated ones, or random ones."""
    generator = torch.Generator().manual_seed(config.seed)
    if training is None:
        return torch.randn(config.points, policy.encoder.size, generator=generator).to(policy.device)
    order = torch.randperm(len(training.conditions), generator=generator)[: config.points]
    return training.conditions[order.to(policy.device)]


def _search(
    policy: ChunkPolicy, points: Tensor, seed: int, numbers: tuple[int, ...] | slice = slice(None)
) -> LowerBound:
    """Searches for the steepest response of numbers of the chunk, over a few noises where it has some."""
    noises = min(NOISES, len(points)) if policy.stochastic else 1
    found = [
        lower_bound(_fixed_noise(policy, seed + noise, numbers), points[noise::noises], seed=seed)
        for noise in range(noises)
    ]
    return LowerBound(torch.cat([one.jacobian for one in found]), max(one.secant for one in found))


def _fixed_noise(
    policy: ChunkPolicy, seed: int, numbers: tuple[int, ...] | slice
) -> Callable[[Tensor], Tensor]:
    return lambda conditions: policy.respond(conditions, [seed] * len(conditions))[..., numbers]


def _movement(
    policy: ChunkPolicy,
    quantity: ActionQuantity,
    sensitivity: Sensitivity | None,
    points: Tensor,
    config: CertificateConfig,
) -> Movement:
    bound = quantity.gain(sensitivity.per_action, sensitivity.chunk) if sensitivity else math.inf
    measured = quantity.scale * _search(policy, points, config.seed, quantity.numbers).value
    tolerance = config.tolerances.get(quantity.unit, config.tolerance * quantity.scale)
    return Movement(quantity, tolerance, _upper(sensitivity, bound), _found(measured, points))


def _found(steepness: float, points: Tensor) -> Finding:
    text = f"The steepest of {len(points)} windows and of pairs near them."
    return Finding(steepness, "empirical", text)


def _check_units(quantities: Sequence[ActionQuantity], config: CertificateConfig) -> None:
    units = {quantity.unit for quantity in quantities}
    for unit in config.tolerances:
        if unit not in units:
            raise unknown_name("unit of an action in certificate.tolerances", unit, units)


def _pixels(policy: ChunkPolicy, chunk: float, movements: Sequence[Movement]) -> dict[str, Finding]:
    """Returns what follows for images, of which the encoder has a bound: the chunk's, and a radius."""
    offered: Callable[[], dict[str, float]] | None = getattr(policy, "pixel_bounds", None)
    if offered is None:
        return {}
    window = min((movement.radius for movement in movements), key=lambda radius: radius.value)
    kind = weakest(*(movement.radius for movement in movements))
    found = {}
    for name, bound in offered().items():
        text = "From the images of the window, their numbers in [-1, 1], l2, all else being the same."
        found[f"pixels_{name}"] = Finding(bound, "certified", text)
        text = (
            "How far the window's images may be off, l2 over their grey levels of 0 to 255, all else being "
            f"right: each action stays within its tolerance. {window.assumption}"
        )
        radius = GREY_LEVELS / 2 * window.value * chunk / bound if bound else math.inf
        found[f"pixel_radius_{name}"] = Finding(radius, kind, text)
    return found


def _rounding(policy: ChunkPolicy, points: Tensor) -> dict[str, Finding]:
    """Returns what rounding adds to a movement, of policies that can tell."""
    offered: Callable[[Tensor], float] | None = getattr(policy, "rounding", None)
    if offered is None:
        return {}
    text = f"Twice the largest distance of a chunk in float32 from that in float64, of {len(points)} windows."
    return {"rounding": Finding(2 * offered(points), "empirical", text)}


def _notes(policy: ChunkPolicy) -> list[str]:
    notes = []
    encoded = [feature.key for feature in policy.spec.observation if is_encoded(feature)]
    if encoded:
        notes.append(
            f"Of {', '.join(encoded)} the window holds the encoder's features: radii and theorems are with "
            "respect to these; to pixels or samples only where a finding is named after them."
        )
    if policy.action.relative:
        notes.append(
            "Actions are bounded in the base frame of their chunk, the newest observed pose. An error of "
            "that pose moves the base itself too: the action in the world moves by it as well."
        )
    return notes


@dataclass(frozen=True)
class _Theorems:
    """What the demonstrations and the policy's Lipschitz constant imply together."""

    policy: ChunkPolicy
    config: CertificateConfig
    data: TrainingData
    training: Samples
    alpha: Finding

    def findings(self) -> dict[str, Finding]:
        states = self.training.conditions.double().cpu().numpy()
        chunks = self.training.chunks.flatten(1).double().cpu().numpy()
        spread = _radius(self.training.conditions), _radius(self.training.chunks.flatten(1))
        expert = self._given(self.config.expert_lipschitz) or expert_lipschitz(states, chunks)
        training_error = Finding(
            float(self._errors(self.training).max()),
            "certified",
            f"Measured at each of {len(states)} demonstrated windows.",
        )
        found = {"expert_lipschitz": expert, "training_error": training_error}
        held_out = self.data.held_out_windows(self.policy)
        if held_out is None:
            return found
        unseen = sample_windows(self.policy, held_out, seed=self.config.seed)
        covering = sampled_covering_radius(states, unseen.conditions.double().cpu().numpy())
        error = imitation_error(training_error, covering, self.alpha, expert, trivial=spread[1])
        found |= {"covering_radius": covering, "imitation_error": error}
        errors, of = self._errors(unseen), f"{len(unseen.chunks)} held-out windows."
        found["held_out_error"] = Finding(float(errors.max()), "empirical", f"The largest of {of}")
        found["held_out_mean"] = Finding(float(errors.mean()), "empirical", f"The mean of {of}")
        return found | self._closed_loop(error, expert, spread)

    def _closed_loop(
        self, error: Finding, expert: Finding, spread: tuple[float, float]
    ) -> dict[str, Finding]:
        config, loop, alpha = self.config, self._loop(), self.alpha
        if self.policy.action.relative:
            loop = _seen_rightly(loop)
        cost = Cost(config.cost_state, config.cost_action, config.discount)
        worst = (cost.state * 2 * spread[0] + cost.action * 2 * spread[1]) / (1 - cost.discount)
        disturbance = config.disturbance
        rate = contraction_rate(alpha, expert, loop)
        return {
            "contraction": loop.contraction,
            "input_gain": loop.input_gain,
            "contraction_rate": rate,
            "expert_deviation": expert_deviation(
                error, alpha, loop, disturbance=disturbance, trivial=2 * spread[0]
            ),
            "regret": regret(error, alpha, expert, loop, cost, disturbance=disturbance, trivial=worst),
            "degradation": degradation(alpha, rate, loop, cost, disturbance=disturbance, trivial=worst),
        }

    def _loop(self) -> Loop:
        contraction, gain = self._given(self.config.contraction), self._given(self.config.input_gain)
        if contraction is not None and gain is not None:
            return Loop(contraction, gain)
        transitions = sample_transitions(self.policy, self.data, seed=self.config.seed)
        return estimate_loop(transitions.states, transitions.actions, transitions.following)

    def _errors(self, samples: Samples) -> Tensor:
        """Returns the distance of each chunk from the demonstrated one ``[N]``."""
        with torch.no_grad():
            return (self.policy.respond(samples.conditions) - samples.chunks).flatten(1).norm(dim=1)

    @staticmethod
    def _given(value: float | None) -> Finding | None:
        return (
            None if value is None else Finding(value, "estimated", "The constants are those that were given.")
        )


def _seen_rightly(loop: Loop) -> Loop:
    """Returns the loop of relative actions, whose theorems do not reckon with a wrong base."""
    rightly = "No error is one of the newest pose, which would move the base of the actions as well."
    contraction = replace(loop.contraction, assumption=f"{rightly} {loop.assumption}")
    return replace(loop, contraction=contraction)


def _radius(values: Tensor) -> float:
    """Returns the largest distance from the mean: what a constant would be wrong by."""
    return float((values - values.mean(0)).norm(dim=1).max())
