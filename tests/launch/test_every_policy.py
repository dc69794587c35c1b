"""Every registered policy, as a user takes it: trained, certified and disturbed, or the reason is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from robopolicy_datasets.registry import policies
from robopolicy_launch import command

BOUNDED = {"lipschitz", "flow_lipschitz"}
TASK = "task=pick_place_state"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("state")
    assert (
        command.main(["collect", TASK, "episodes=12", f"output={folder / 's.zarr'}", f"runs={folder}"]) == 0
    )
    return folder / "s.zarr"


def summary_of(parent: Path) -> dict[str, object]:
    (folder,) = parent.iterdir()
    return dict(json.loads((folder / "summary.json").read_text()))


@pytest.mark.parametrize("policy", policies.names())
def test_a_policy_is_trained_certified_and_disturbed(policy, store, tmp_path, refused):
    runs = f"runs={tmp_path}"
    short = ("trainer.steps=3", "trainer.batch_size=8", "trainer.warmup_steps=1", "trainer.threads=1")
    assert command.main(["train", TASK, f"policy={policy}", f"data={store}", *short, runs]) == 0
    (run,) = (tmp_path / "train").iterdir()
    certify = ("certify", str(run), f"data={store}", "certificate.points=4", runs)
    if policy in BOUNDED:
        assert command.main(list(certify)) == 0
        certified = summary_of(tmp_path / "certify")
        assert 0 < certified["measured"] <= certified["lipschitz"]
    else:
        told = refused(*certify)
        assert f"'{policy}' cannot have a certificate" in told
        assert "certificate.empirical=true" in told
    few = ("episodes=1", "task.max_steps=8", "disturbance.sizes=[0.1]")
    greedy = ("disturbance=greedy", "disturbance.steps=1", "disturbance.starts=1")
    assert command.main(["eval", str(run), *few, *greedy, runs]) == 0
    disturbed = summary_of(tmp_path / "eval")
    assert disturbed["executed_max_at_0.1"] > 0
    assert ("certified_at_0.1" in disturbed) == (policy in BOUNDED)
    assert disturbed.get("margin_at_0.1", 0) <= 1
    assert "observes no image" in refused("eval", str(run), "disturbance=image_noise", "episodes=1", runs)
