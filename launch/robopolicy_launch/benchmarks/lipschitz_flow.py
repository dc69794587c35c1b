"""What a certified bound on the sampled action costs in imitation, beside a flow without one.

On a task with two ways: quality against certified sensitivity for 1 to 10 sampling steps, how far the bound
lies above what was found, and what is left of the quality when an adversary moves the observation. Cells that
are done are kept in the folder, so that a run that was stopped goes on; a table and a plot lie beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robopolicy.certify.lower_bound import lower_bound
from robopolicy.policies.configs import FlowConfig, LipschitzFlowConfig, MlpConfig
from robopolicy.policies.generative import FlowPolicy
from robopolicy.policies.lipschitz_flow import LipschitzFlowPolicy
from robopolicy_launch.benchmarks import Row
from robopolicy_launch.benchmarks._timing import threads
from robopolicy_launch.benchmarks._two_ways import SPEC, TwoWays, demonstrate, distances, quality, train
from robopolicy_launch.cells import Cells
from robopolicy_launch.run_folder import write_text_atomic

FOLDER = Path("runs/bench-cells/lipschitz_flow")
DISTURBANCE = 0.3  # l2, of the normalized observation
ATTACK_STEPS = 10
SHAPE: dict[str, Any] = {"observation_steps": 1, "action_steps": 1, "horizon": 1, "normalization": "standard"}

Chunks = Callable[[Tensor], Tensor]
"""Conditions ``[N, C]`` to normalized chunks ``[N, Tp, D]``, the noise of each row being fixed."""


@dataclass(frozen=True)
class Cell:
    """One training.

    Attributes:
        tilt: of the task.
        steps: Euler steps of sampling.
        bound: certified; 0: the flow without one.
        codes: noises of the certified flow.
        training_steps: of the optimizer.
        batch_size: of each.
        seed: of everything random.
    """

    tilt: float
    steps: int
    bound: float
    codes: int = 8
    training_steps: int = 1200
    batch_size: int = 128
    seed: int = 100_000


def grid(seeds: Sequence[int]) -> list[Cell]:
    """Returns the cells of the experiment."""
    settings = [(0.0, 10, 0.0), (0.0, 2, 0.0)]
    settings += [(0.0, 1, bound) for bound in (1.0, 2.0, 4.0, 8.0)]
    settings += [(0.0, steps, bound) for steps in (2, 4, 10) for bound in (2.0, 8.0)]
    settings += [(4.0, 10, 0.0)] + [(4.0, 1, bound) for bound in (2.0, 8.0, 32.0)]
    return [Cell(*setting, seed=seed) for seed in seeds for setting in settings]


def run(
    *, folder: Path = FOLDER, cells: Sequence[Cell] | None = None, seeds: Sequence[int] = (100_000, 100_001)
) -> Iterator[Row]:
    """Runs the experiment and writes ``table.md`` and ``pareto.png``.

    Args:
        folder: of the cells and of what is written.
        cells: which; None: all of ``grid``.
        seeds: of the grid.
    """
    results: dict[Cell, dict[str, Any]] = {}
    with threads(1):
        for cell in grid(seeds) if cells is None else cells:
            settings = {"kind": "Cell", **asdict(cell)}
            results[cell] = Cells(folder)(settings, partial(measure, cell))
            write_text_atomic(folder / "table.md", table(results))
    plot(results, folder / "pareto.png")
    yield from _rows(results)


def measure(cell: Cell) -> dict[str, float]:
    """Trains and measures one cell.

    Returns:
        ``distance``, ``gap``, ``share_error``; ``disturbed``: the distance under attack; ``lower``: steepest
        found; for a certified flow ``certified``, and ``violations`` of it in so many ``trials``.
    """
    torch.manual_seed(cell.seed)
    data, fresh = demonstrate(20_000, cell.tilt, cell.seed), demonstrate(2000, cell.tilt, cell.seed + 50_000)
    policy = _policy(cell)
    train(policy, data, steps=cell.training_steps, batch_size=cell.batch_size, seed=cell.seed)
    with torch.no_grad():
        condition = policy.encoder({"place": fresh.place[:, None]})
    chunks = _chunks(policy, len(condition), cell.seed)
    action = _actions(policy, chunks)
    with torch.no_grad():
        figures = quality(action(condition), fresh)
        moved = _attack(action, condition, fresh)
        figures["disturbed"] = float(distances(action(moved), fresh).mean())
    figures["lower"] = lower_bound(_chunks(policy, 1, cell.seed), condition[:100], pairs=16).value
    if isinstance(policy, LipschitzFlowPolicy):
        figures["certified"] = policy.sensitivity().chunk
        figures |= _trials(chunks, condition, moved, figures["certified"])
    return figures


def _policy(cell: Cell) -> FlowPolicy | LipschitzFlowPolicy:
    if cell.bound:
        config = LipschitzFlowConfig(
            **SHAPE,
            bound=cell.bound,
            codes=cell.codes,
            sampling_steps=cell.steps,
            width=64,
            depth=4,
            layer="sll",
        )
        return LipschitzFlowPolicy(config, SPEC, 0.1)
    mlp = MlpConfig(width=64, blocks=3, embedding=32)
    return FlowPolicy(FlowConfig(**SHAPE, net="mlp", mlp=mlp, sampling_steps=cell.steps), SPEC, 0.1)


def _chunks(policy: FlowPolicy | LipschitzFlowPolicy, count: int, seed: int) -> Chunks:
    """Returns the sampler with the noises of ``count`` rows drawn."""
    random = torch.Generator().manual_seed(seed)
    if isinstance(policy, LipschitzFlowPolicy):
        code = torch.randint(policy.config.codes, (count,), generator=random)
        return lambda condition: policy.sample(condition, code.expand(len(condition)))
    noise = torch.randn(count, 1, 2, generator=random)
    return lambda condition: policy.sampler.sample(
        policy.denoiser(condition), noise.expand(len(condition), -1, -1)
    )


def _actions(policy: FlowPolicy | LipschitzFlowPolicy, chunks: Chunks) -> Callable[[Tensor], Tensor]:
    return lambda condition: policy.normalizer.unnormalize("action", chunks(condition))[:, 0]


def _attack(action: Callable[[Tensor], Tensor], condition: Tensor, truth: TwoWays) -> Tensor:
    """Returns observations moved by at most ``DISTURBANCE`` away from both ways."""
    random = torch.Generator().manual_seed(0)
    offset = torch.randn(condition.shape, generator=random)
    offset = offset / offset.norm(dim=1, keepdim=True) * DISTURBANCE / 2
    for _ in range(ATTACK_STEPS):
        with torch.enable_grad():
            point = (condition + offset).requires_grad_()
            (gradient,) = torch.autograd.grad(distances(action(point), truth).sum(), point)
        gradient = gradient / gradient.norm(dim=1, keepdim=True).clamp_min(1e-9)
        offset = offset + DISTURBANCE / 4 * gradient
        offset = offset * (DISTURBANCE / offset.norm(dim=1, keepdim=True)).clamp_max(1.0)
    return condition + offset


@torch.no_grad()
def _trials(chunks: Chunks, condition: Tensor, attacked: Tensor, certified: float) -> dict[str, float]:
    """Compares the bound with pairs of random distances and with the attacked ones."""
    random = torch.Generator().manual_seed(1)
    size = torch.logspace(-2, 1, len(condition))[:, None]
    far = condition + size * torch.randn(condition.shape, generator=random)
    violations = 0
    for other in (far, attacked):
        moved = (chunks(other) - chunks(condition)).flatten(1).norm(dim=1)
        allowed = certified * (other - condition).norm(dim=1) + 1e-5  # float32 rounds
        violations += int((moved > allowed).sum())
    return {"trials": float(2 * len(condition)), "violations": float(violations)}


def table(results: dict[Cell, dict[str, Any]]) -> str:
    """Returns the results as a table in Markdown, one line for the seeds of a setting."""
    lines = [
        "| task | steps N | bound | distance to the nearer way | in the gap | error of the shares "
        "| under attack | steepest found | bound / found |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for cell, rows in _by_setting(results):
        task = "tilted" if cell.tilt else "balanced"
        bound, ratio = "none", "–"
        if cell.bound:
            bound = f"{_mean(rows, 'certified'):.2f}"
            ratio = f"{_mean(rows, 'certified') / _mean(rows, 'lower'):.1f}"
        lines.append(
            f"| {task} | {cell.steps} | {bound} | {_mean(rows, 'distance'):.3f} | {_mean(rows, 'gap'):.1%} "
            f"| {_mean(rows, 'share_error'):.3f} | {_mean(rows, 'disturbed'):.3f} "
            f"| {_mean(rows, 'lower'):.2f} | {ratio} |"
        )
    certified = [row for row in results.values() if "trials" in row]
    trials, violations = (int(sum(row[name] for row in certified)) for name in ("trials", "violations"))
    return "\n".join(lines) + f"\n\n{violations} violations in {trials} trials.\n"


def plot(results: dict[Cell, dict[str, Any]], path: Path) -> None:
    """Draws the distance over the certified bound, one line for each number of steps."""
    from matplotlib.figure import Figure

    tilts = list(dict.fromkeys(cell.tilt for cell in results))
    figure = Figure(figsize=(4.2 * len(tilts), 3.4), layout="constrained")
    for axis, tilt in zip(figure.subplots(1, len(tilts), squeeze=False)[0], tilts, strict=True):
        settings = [(cell, rows) for cell, rows in _by_setting(results) if cell.tilt == tilt]
        for steps in dict.fromkeys(cell.steps for cell, _ in settings if cell.bound):
            shown = [rows for cell, rows in settings if cell.bound and cell.steps == steps]
            axis.plot(
                [_mean(rows, "certified") for rows in shown],
                [_mean(rows, "distance") for rows in shown],
                "o-",
                label=f"N = {steps}",
            )
        for cell, rows in settings:
            if not cell.bound:
                axis.axhline(_mean(rows, "distance"), color="0.4", linestyle=":")
                place = (0.6, _mean(rows, "distance"))  # share of the width, distance
                axis.annotate(f"no bound, N = {cell.steps}", place, xycoords=("axes fraction", "data"))
        axis.set(xscale="log", yscale="log", xlabel="certified bound", ylabel="distance to the nearer way")
        axis.set(title="tilted" if tilt else "balanced")
        axis.xaxis.set_minor_formatter("")  # their labels would overlap
        axis.grid(alpha=0.3, which="both")
        axis.legend(fontsize="small")
    figure.savefig(path, dpi=110)


def _by_setting(results: dict[Cell, dict[str, Any]]) -> Iterator[tuple[Cell, list[dict[str, Any]]]]:
    """Yields a cell of each setting with the figures of all its seeds."""
    first: dict[tuple[float, int, float], Cell] = {}
    groups: dict[Cell, list[dict[str, Any]]] = {}
    for cell, figures in results.items():
        key = first.setdefault((cell.tilt, cell.steps, cell.bound), cell)
        groups.setdefault(key, []).append(figures)
    yield from groups.items()


def _mean(rows: Sequence[dict[str, Any]], name: str) -> float:
    return sum(row[name] for row in rows) / len(rows)


def _rows(results: dict[Cell, dict[str, Any]]) -> Iterator[Row]:
    """Yields distances; the reference is the flow without a bound on the same task."""
    settings = list(_by_setting(results))
    for cell, rows in settings:
        reference = next(other for one, other in settings if one.tilt == cell.tilt and not one.bound)
        if cell.bound:
            task = "tilted" if cell.tilt else "balanced"
            for what, name in (("imitation", "distance"), ("attacked", "disturbed")):
                yield Row(
                    f"{task}_n{cell.steps}_bound{cell.bound:g}_{what}",
                    _mean(rows, name),
                    _mean(reference, name),
                    "distance",
                    "the flow without a bound",
                )
