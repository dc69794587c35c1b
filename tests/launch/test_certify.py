"""``robopolicy certify``: what it writes, what it refuses, and that a deployment believes no other's."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file

from robopolicy.certify.configs import CertificateConfig
from robopolicy.checkpoint import MODEL, load_policy, save_policy
from robopolicy.policies.configs import BehaviorCloningConfig, LipschitzConfig, MlpConfig
from robopolicy.policies.lipschitz import LipschitzPolicy
from robopolicy.policies.regression import BehaviorCloningPolicy
from robopolicy.serving.loading import load_served
from robopolicy_datasets.errors import CheckpointError
from robopolicy_datasets.spec import Feature, Spec
from robopolicy_datasets.store.demo_store import DemoStore
from robopolicy_drivers.runtime.certificate import CERTIFICATE, check_certificate
from robopolicy_launch.reports import report
from robopolicy_launch.run_folder import RunFolder
from robopolicy_launch.stages.certifying import certify, certify_each


def made(path: Path, *, bound: float) -> Path:
    """Saves a policy that nobody has trained."""
    torch.manual_seed(0)
    spec = Spec(
        (Feature("agent_pos", (2,), unit="m", kind="position"),),
        (Feature("action", (2,), unit="m", kind="position"),),
    )
    config = LipschitzConfig(horizon=8, action_steps=4, bound=bound, width=16, depth=2)
    return save_policy(LipschitzPolicy(config, spec, 0.1), path, name="lipschitz")


@pytest.fixture
def copied(checkpoint: Path, tmp_path: Path) -> Path:
    """A training's run folder that a test may change."""
    return Path(shutil.copytree(checkpoint, tmp_path / "run"))


def test_a_certified_policy_has_the_bound_of_its_settings(tmp_path):
    """Whatever its weights are; and the same again after it was saved and loaded."""
    checkpoint = made(tmp_path / "policy", bound=3.0)
    asked = CertificateConfig(points=8, tolerances={"m": 0.01})
    first, again = (certify(checkpoint, asked, tmp_path / name) for name in ("first", "again"))
    assert first["lipschitz"] == again["lipschitz"]
    assert 0 < first["measured"] <= first["lipschitz"] <= 3.0 * math.sqrt(2)
    assert first["lipschitz_kind"] == "certified"
    assert first["window_radius"] >= 0.01 / first["lipschitz"]
    assert check_certificate(checkpoint) == "is of these weights"


def test_several_are_laid_side_by_side(tmp_path):
    checkpoints = [made(tmp_path / f"policy{bound:g}", bound=bound) for bound in (1.0, 4.0)]
    folder = RunFolder.create("certify", root=tmp_path, config=OmegaConf.create())
    figures = certify_each(checkpoints, CertificateConfig(points=4), folder.path / "certification")
    assert 0 < figures["measured_1"] <= figures["lipschitz_1"] < figures["lipschitz_2"]
    html = report.write(folder, "Certificate").read_text()
    assert "What a bound costs" in html
    assert "Certificate 2" in html


def test_held_out_is_what_the_training_held_out(tmp_path):
    """A training that held nothing out has no held-out error, though another would have."""
    checkpoint = made(tmp_path / "run" / "checkpoints" / "last", bound=2.0)
    store = DemoStore.create(tmp_path / "demos.zarr", load_policy(checkpoint).spec, rate_hz=10.0)
    rng = np.random.default_rng(0)
    for _ in range(6):
        state = rng.normal(size=(20, 2)).astype(np.float32)
        store.append_episode({"agent_pos": state, "action": state})
    for fraction, told in ((0.0, False), (0.3, True)):
        (tmp_path / "run" / "config.yaml").write_text(f"trainer: {{validation_fraction: {fraction}}}\n")
        asked = CertificateConfig(points=2)
        figures = certify(checkpoint, asked, tmp_path / "out", stores=[str(store.path)])
        assert ("held_out_error" in figures) == told


def test_what_has_no_bound_is_laid_beside_the_others_without_one(tmp_path):
    bounded = made(tmp_path / "bounded", bound=2.0)
    spec, dt = load_policy(bounded).spec, 0.1
    config = BehaviorCloningConfig(horizon=8, action_steps=4, mlp=MlpConfig(width=16))
    plain = save_policy(BehaviorCloningPolicy(config, spec, dt), tmp_path / "plain", name="bc")
    folder = RunFolder.create("certify", root=tmp_path, config=OmegaConf.create())
    asked = CertificateConfig(points=2, empirical=True)
    figures = certify_each([plain, bounded], asked, folder.path / "certification")
    assert {"measured_1", "measured_2", "lipschitz_2", "tightness_2"} <= set(figures)
    assert not {"lipschitz_1", "tightness_1", "window_radius_1"} & set(figures)  # 0 would say something else
    json.loads((folder.path / "certification" / "side_by_side.json").read_text(), parse_constant=pytest.fail)
    html = report.write(folder, "Certificate").read_text()
    for told in ("tightness", "window_radius"):
        assert f"<th>{told}</th>" in html


def test_a_policy_without_bounds_is_refused(refused, copied, tmp_path):
    told = refused("certify", str(copied), f"runs={tmp_path}")
    assert "'flow' cannot have a certificate" in told
    assert "certificate.empirical=true" in told
    assert not (copied / "checkpoints" / "last" / CERTIFICATE).exists()
    assert not (tmp_path / "certify").exists() or not list((tmp_path / "certify").iterdir())


def test_a_certificate_is_of_its_weights_and_no_others(robopolicy, copied, tmp_path):
    words = ("certificate.empirical=true", "certificate.points=1", f"runs={tmp_path}")
    result = robopolicy("certify", str(copied), *words)
    assert result.returncode == 0, result.stderr
    last = copied / "checkpoints" / "last"
    assert check_certificate(last) == "is of these weights"
    content = json.loads((last / CERTIFICATE).read_text())
    assert content["lipschitz"]["chunk"]["value"] is None
    assert content["lipschitz"]["measured"]["kind"] == "empirical"
    (folder,) = (tmp_path / "certify").iterdir()
    page = (folder / "report.html").read_text()
    assert "Movement of each action" in page
    assert "base frame" in page
    assert len(list((folder / "plots").glob("*.png"))) >= 2
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["measured"] > 0
    assert not {"tightness", "window_radius", "limited_by"} & set(summary)
    assert "of the bound" not in page

    weights = load_file(last / MODEL)
    next(iter(weights.values())).view(-1)[0] += 1.0
    save_file(weights, last / MODEL)
    with pytest.raises(CheckpointError, match="the checkpoint was changed"):
        check_certificate(last)
    result = robopolicy("deploy", str(copied), "episodes=1", "seconds=1", f"runs={tmp_path}")
    assert result.returncode == 1
    assert "certificate" in result.stdout + result.stderr
    assert "changed since" in result.stdout + result.stderr


def test_a_server_refuses_a_certificate_of_other_weights(tmp_path, refused):
    """The robot's computer has no files to compare: the server has to."""
    served, other = (made(tmp_path / name, bound=bound) for name, bound in (("served", 1.0), ("other", 2.0)))
    certify(other, CertificateConfig(points=1), tmp_path / "run")
    shutil.copyfile(other / CERTIFICATE, served / CERTIFICATE)
    assert "the checkpoint was changed" in refused("serve", str(served))
    (served / CERTIFICATE).unlink()
    load_served(served, device="cpu", threads=1)
