"""Certifies checkpoints: how far their actions can move when observations are wrong.

Writes certificate.json beside each checkpoint's files, whose sums it holds, so that a deployment can tell
whether it is of the weights that it runs; and tables, plots and report.html in the run folder. With data=
also what follows for the error against the expert and for the closed loop. A policy without a Lipschitz
bound is refused; certificate.empirical=true measures it nevertheless. Several checkpoints are laid side by
side: which gives the most for its bound.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import MISSING, DictConfig

from robopolicy.certify.configs import CertificateConfig
from robopolicy_launch.reports import report
from robopolicy_launch.run_folder import RunFolder
from robopolicy_launch.stages.certifying import certify_each

GROUPS: dict[str, str | None] = {}
POSITIONAL = ("checkpoint...",)


@dataclass
class Settings:
    """Settings of ``robopolicy certify``.

    Attributes:
        checkpoint: checkpoint folders, or the run folders of trainings.
        data: the demo store that they were trained on, or several in brackets; [] for none.
        certificate: what is asked.
        device: torch device: cpu or cuda.
        name: a word for the run folder's name.
        runs: where run folders lie.
    """

    checkpoint: list[str] = MISSING
    data: list[str] = field(default_factory=list)
    certificate: CertificateConfig = field(default_factory=CertificateConfig)
    device: str = "cpu"
    name: str = ""
    runs: str = "runs"


def run(settings: Settings, config: DictConfig) -> int:
    """Certifies the checkpoints."""
    from robopolicy.checkpoint import find_checkpoint

    checkpoints = [find_checkpoint(Path(given).expanduser()) for given in settings.checkpoint]
    with RunFolder.create("certify", root=settings.runs, name=settings.name, config=config) as folder:
        figures = certify_each(
            checkpoints,
            settings.certificate,
            folder.path / "certification",
            stores=settings.data,
            device=settings.device,
        )
        folder.add_figures(figures)
        report.write(folder, "Certificate")
        folder.finish()
    return 0
