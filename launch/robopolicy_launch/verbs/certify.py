"""Certifies a checkpoint: how far its actions can move when its observations are wrong.

Writes certificate.json beside the checkpoint's files, whose sums it holds, so that a deployment can tell
whether it is of the weights that it runs; and tables, plots and report.html in the run folder. With data=
also what follows for the error against the expert and for the closed loop. A policy without a Lipschitz
bound is refused; certificate.empirical=true measures it nevertheless.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import MISSING, DictConfig

from robopolicy.certify.configs import CertificateConfig
from robopolicy_launch.reports import report
from robopolicy_launch.run_folder import RunFolder
from robopolicy_launch.stages.certifying import certify

GROUPS: dict[str, str | None] = {}
POSITIONAL = ("checkpoint",)


@dataclass
class Settings:
    """Settings of ``robopolicy certify``.

    Attributes:
        checkpoint: a checkpoint folder, or the run folder of a training.
        data: the demo store that it was trained on, or several in brackets; [] for none.
        certificate: what is asked.
        device: torch device: cpu or cuda.
        name: a word for the run folder's name.
        runs: where run folders lie.
    """

    checkpoint: str = MISSING
    data: list[str] = field(default_factory=list)
    certificate: CertificateConfig = field(default_factory=CertificateConfig)
    device: str = "cpu"
    name: str = ""
    runs: str = "runs"


def run(settings: Settings, config: DictConfig) -> int:
    """Certifies the checkpoint."""
    from robopolicy.checkpoint import find_checkpoint

    checkpoint = find_checkpoint(Path(settings.checkpoint).expanduser())
    with RunFolder.create("certify", root=settings.runs, name=settings.name, config=config) as folder:
        figures = certify(
            checkpoint,
            settings.certificate,
            folder.path / "certification",
            stores=settings.data,
            device=settings.device,
        )
        folder.add_figures(figures)
        report.write(folder, "Certificate")
        folder.finish()
    return 0
