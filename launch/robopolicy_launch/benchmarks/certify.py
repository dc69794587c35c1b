"""Lipschitz nets that imitate a hovering quadrotor's expert, beside a perceptron of the same size.

Every net is tuned over equally many settings, by the closed-loop cost on seeds of their own, and reported on
others. Cells that are done are kept in the folder, so that a run that was stopped goes on; a table and a plot
lie beside them.
"""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from robopolicy.certify.hover import NETS, HoverConfig, run_cell
from robopolicy.evaluation.statistics import mean_interval
from robopolicy_launch.benchmarks import Row
from robopolicy_launch.benchmarks._timing import threads
from robopolicy_launch.cells import Cells
from robopolicy_launch.run_folder import write_text_atomic

FOLDER = Path("runs/bench-cells/certify")
DISTURBANCES = (0.0, 0.3)
PLAIN = ("mlp_relu", "mlp_tanh")
CASES = ((10, "global"), (10, "per_action"), (60, "global"))
UNTUNED_STEPS = 2000
FAILED = 5.0  # times the expert's cost

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """One net in one case, over all reported seeds.

    Attributes:
        name: of the net, with ``untuned`` where no settings were searched.
        case: demonstrations and budget.
        chosen: its settings.
        cells: of the seeds.
    """

    name: str
    case: tuple[int, str]
    chosen: HoverConfig
    cells: Sequence[Mapping[str, Any]]

    def ratios(self, disturbance: int) -> np.ndarray[Any, Any]:
        """Returns the costs beside the expert's ``[seeds, roll-outs]`` at one of the disturbances."""
        return np.array([cell["ratios"][disturbance] for cell in self.cells])

    @property
    def tightness(self) -> list[float]:
        """Of each seed, the lower bound beside the certified one."""
        return [cell["lower"] / cell["certified"] for cell in self.cells]


def run(
    *,
    folder: Path = FOLDER,
    nets: Sequence[str] = tuple(NETS),
    cases: Sequence[tuple[int, str]] = CASES,
    steps: Sequence[int] = (200, 500),
    tuning_seeds: Sequence[int] = (0,),
    seeds: Sequence[int] = tuple(range(100_000, 100_005)),
) -> Iterator[Row]:
    """Runs the experiment and writes ``table.md`` and ``hover.png``.

    Args:
        folder: of the cells and of what is written.
        nets: which.
        cases: demonstrations and budgets.
        steps: of training, among which is chosen.
        tuning_seeds: on which settings are chosen.
        seeds: on which they are reported.
    """
    results: list[Result] = []
    with threads(1):
        for case in cases:
            for result in _case(folder, case, nets, steps, tuning_seeds, seeds):
                results.append(result)
                write_text_atomic(folder / "table.md", table(results))
    plot(results, folder / "hover.png")
    yield from _rows(results)


def _case(
    folder: Path,
    case: tuple[int, str],
    nets: Sequence[str],
    steps: Sequence[int],
    tuning_seeds: Sequence[int],
    seeds: Sequence[int],
) -> Iterator[Result]:
    for net in nets:
        if case[1] == "per_action" and net in PLAIN:
            continue  # a plain net has no budget
        base = HoverConfig(
            net,
            *case,
            share=1.0,
            seed=seeds[0],
            steps=UNTUNED_STEPS,
            weight_decay=0.0,
            observation_noise=0.0,
        )
        if net == "mlp_relu":
            yield _report(folder, f"{net} untuned", case, base, seeds)
        chosen = min(
            _candidates(base, steps),
            key=lambda one: np.mean([_cost(folder, replace(one, seed=seed)) for seed in tuning_seeds]),
        )
        yield _report(folder, net, case, chosen, seeds)


def _candidates(base: HoverConfig, steps: Sequence[int]) -> Iterator[HoverConfig]:
    """Yields as many settings for each net: a plain one has noise to choose, a Lipschitz net its budget."""
    for count, decay, first in itertools.product(steps, (0.0, 1.0), (True, False)):
        tried = replace(base, steps=count, weight_decay=decay)
        if base.net in PLAIN:
            yield replace(tried, observation_noise=0.0 if first else 0.1)
        else:
            yield replace(tried, share=0.8 if first else 1.0)


def _cost(folder: Path, config: HoverConfig) -> float:
    """Returns the mean cost of one seed, undisturbed."""
    return float(np.mean(_result(folder, config, DISTURBANCES[:1])["ratios"][0]))


def _result(folder: Path, config: HoverConfig, disturbances: tuple[float, ...]) -> dict[str, Any]:
    settings = {**asdict(config), "disturbances": disturbances}
    return Cells(folder)(settings, functools.partial(run_cell, config, disturbances))


def _report(
    folder: Path, name: str, case: tuple[int, str], config: HoverConfig, seeds: Sequence[int]
) -> Result:
    _log.info("%s with %d demonstrations, %s budget: %s", name, *case, config)
    done = [_result(folder, replace(config, seed=seed), DISTURBANCES) for seed in seeds]
    return Result(name, case, config, done)


def table(results: Sequence[Result]) -> str:
    """Returns the results as a table in Markdown."""
    lines = [
        "| demonstrations, budget | net | settings | certified | tightness | "
        + " | ".join(f"mean cost at {size:g} [95 %]; median; failed" for size in DISTURBANCES)
        + " |",
        "|---|---|---|---|---|" + "---|" * len(DISTURBANCES),
    ]
    for one in results:
        certified = np.mean([cell["certified"] * one.chosen.share for cell in one.cells])
        own = (
            f"noise {one.chosen.observation_noise:g}"
            if one.chosen.net in PLAIN
            else f"share {one.chosen.share:g}"
        )
        figures = []
        for index in range(len(DISTURBANCES)):
            ratios = one.ratios(index)
            low, high = mean_interval(ratios.mean(1).tolist())
            figures.append(
                f"{ratios.mean():.3f} [{low:.3f}, {high:.3f}]; {np.median(ratios):.3f}; "
                f"{(ratios > FAILED).mean():.0%}"
            )
        lines.append(
            f"| {one.case[0]}, {one.case[1]} | {one.name} | {one.chosen.steps} steps, decay "
            f"{one.chosen.weight_decay:g}, {own} | {certified:.2f} | {np.mean(one.tightness):.2f} "
            f"({min(one.tightness):.2f} to {max(one.tightness):.2f}) | {' | '.join(figures)} |"
        )
    return "\n".join(lines) + "\n"


def plot(results: Sequence[Result], path: Path) -> None:
    """Draws every seed's mean cost, and the mean of all, for each net and case."""
    from matplotlib.figure import Figure

    cases = list(dict.fromkeys(one.case for one in results))
    figure = Figure(figsize=(4.2 * len(cases), 3.4), layout="constrained")
    axes = figure.subplots(1, len(cases), squeeze=False)[0]
    for axis, case in zip(axes, cases, strict=True):
        shown = [one for one in results if one.case == case]
        for index, (size, colour) in enumerate(zip(DISTURBANCES, ("#3b76d6", "#d9772b"), strict=True)):
            for row, one in enumerate(shown):
                means, height = one.ratios(index).mean(1), row + 0.25 * index
                axis.plot(means, [height] * len(means), ".", color=colour, alpha=0.5)
                axis.plot(means.mean(), height, "|", color=colour, markersize=14, markeredgewidth=2)
            axis.plot([], [], "|", color=colour, label=f"disturbance {size:g}")
        wide = max(float(one.ratios(-1).mean(1).max()) for one in shown) > FAILED
        axis.set(
            xscale="log" if wide else "linear",
            yticks=range(len(shown)),
            yticklabels=[one.name for one in shown],
        )
        axis.set(title=f"{case[0]} demonstrations, {case[1]}", xlabel="cost / the expert's cost")
        axis.grid(alpha=0.3, which="both")
        axis.invert_yaxis()
    axes[0].legend(fontsize="small")
    figure.savefig(path, dpi=110)


def _rows(results: Sequence[Result]) -> Iterator[Row]:
    """Yields mean costs; the reference is the tuned perceptron with as many demonstrations."""
    tuned = {one.case[0]: one for one in results if one.name == "mlp_relu"}
    for one in results:
        for index, size in enumerate(DISTURBANCES):
            reference = tuned.get(one.case[0], one)
            demonstrations, budget = one.case
            yield Row(
                f"hover_{demonstrations}_{budget}_{one.name.replace(' ', '_')}_{round(100 * size)}",
                float(one.ratios(index).mean()),
                float(reference.ratios(index).mean()),
                "cost",
                f"the cost of {reference.name}",
            )
