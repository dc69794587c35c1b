"""Certifying: a checkpoint's certificate, beside its files and in the run folder."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robopolicy.certify.configs import CertificateConfig
from robopolicy_launch import console
from robopolicy_launch.stages.saved_runs import saved_setting

if TYPE_CHECKING:
    from robopolicy.certify.certificate import Certificate
    from robopolicy.training.data import TrainingData


SIDE_BY_SIDE = ("lipschitz", "measured", "tightness", "window_radius", "held_out_mean", "held_out_error")


def certify_each(
    checkpoints: Sequence[Path],
    config: CertificateConfig,
    folder: Path,
    *,
    stores: Sequence[str] = (),
    device: str = "cpu",
) -> dict[str, Any]:
    """Certifies checkpoints, as ``certify`` does; several are laid side by side in ``side_by_side.json``.

    Args:
        checkpoints: checkpoint folders.
        config: what is asked.
        folder: gets copies, of several each in a folder of its number.
        stores: the demo stores that they were trained on.
        device: torch device.

    Returns:
        the certificate's figures; of several some of each, with its number.
    """
    if len(checkpoints) == 1:
        return certify(checkpoints[0], config, folder, stores=stores, device=device)
    rows: list[dict[str, Any]] = []
    summary: dict[str, Any] = {}
    for number, checkpoint in enumerate(checkpoints, start=1):
        console.line(f"{number}: {checkpoint}")
        figures = certify(checkpoint, config, folder / str(number), stores=stores, device=device)
        chosen = {key: figures[key] for key in SIDE_BY_SIDE if key in figures}
        rows.append({"number": number, "checkpoint": str(checkpoint), **chosen})
        summary |= {f"{key}_{number}": value for key, value in chosen.items()}
    (folder / "side_by_side.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return summary


def certify(
    checkpoint: Path,
    config: CertificateConfig,
    folder: Path,
    *,
    stores: Sequence[str] = (),
    device: str = "cpu",
) -> dict[str, Any]:
    """Certifies a checkpoint and writes ``certificate.json`` beside its files.

    Args:
        checkpoint: a checkpoint folder.
        config: what is asked.
        folder: gets a copy, for the report.
        stores: the demo stores that it was trained on.
        device: torch device.

    Returns:
        the certificate's figures.

    Raises:
        ConfigError: the policy has no certificate, or a setting is out of range.
        StoreError, SpecError: the data does not fit the policy.
        RobopolicyError: a bound is violated.
    """
    from robopolicy.certify.certificate import write_certificate
    from robopolicy.checkpoint import load_policy, read_config
    from robopolicy.evaluation.certification import certify as make_certificate
    from robopolicy_drivers.runtime.certificate import policy_sums

    started = time.monotonic()
    sums = policy_sums(checkpoint)  # before it is loaded: a file that changes later is found at deployment
    content = read_config(checkpoint)
    policy = load_policy(checkpoint, device=device)
    data = _data(checkpoint, stores, seed=int(content.get("seed", 0)))
    certificate = make_certificate(
        policy, content["policy"], config, data, lambda step: console.line(f"  {step} ...")
    )
    path = write_certificate(certificate, checkpoint, sums)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, folder / path.name)
    (folder / "steepness.json").write_text(json.dumps(certificate.steepness), encoding="utf-8")
    _show(certificate)
    console.line(f"  certificate {path}")
    return {**_figures(certificate), "seconds": time.monotonic() - started}


def _data(checkpoint: Path, stores: Sequence[str], *, seed: int) -> TrainingData | None:
    """Returns the demonstrations, split as for the training, or as by default where its run is not there."""
    from robopolicy.training.configs import TrainerConfig
    from robopolicy.training.data import TrainingData
    from robopolicy_datasets.store.demo_store import DemoStore

    if not stores:
        return None
    opened = [DemoStore.open(Path(path).expanduser()) for path in stores]
    fraction = saved_setting(checkpoint, "trainer.validation_fraction")
    if fraction is None:
        fraction = TrainerConfig().validation_fraction
    return TrainingData(opened, None, validation_fraction=float(fraction), seed=seed)


def _figures(certificate: Certificate) -> dict[str, Any]:
    """Returns the flat figures of the summary; what is not known has none."""
    figures: dict[str, Any] = {"policy": certificate.policy}
    if math.isfinite(certificate.chunk.value):
        figures |= {
            "lipschitz": certificate.chunk.value,
            "lipschitz_kind": certificate.chunk.kind,
            "tightness": certificate.tightness,
            "window_radius": certificate.tightest.radius.value,
            "limited_by": certificate.tightest.quantity.name,
        }
    figures |= {"measured": certificate.measured.value, **certificate.figures}
    for name, finding in certificate.findings.items():
        figures[name] = finding.value
        figures[f"{name}_kind"] = f"{finding.kind}, vacuous" if finding.vacuous else finding.kind
    return figures


def _show(certificate: Certificate) -> None:
    """Prints what a person asks first: how far actions move, and how wrong each observation may be."""
    actions = [
        (
            one.quantity.name,
            one.quantity.unit,
            one.bound.value,
            one.measured.value,
            one.tolerance,
            one.radius.value or None,
            one.radius.kind,
        )
        for one in certificate.movements
    ]
    header = ("action", "unit", "bound", "measured", "tolerance", "window radius", "kind")
    console.table(actions, header=header)
    radii = [
        (
            quantity.name,
            quantity.unit,
            *((None, "unknown") if radius.vacuous else (radius.value, radius.kind)),
        )
        for quantity, radius in certificate.radii()
    ]
    console.table(radii, header=("observation", "unit", "may be wrong by", "kind"))
    for note in certificate.notes:
        console.line(f"  {note}")
