"""``robopolicy bench certify`` at a tiny size: what it writes, and that a stopped run goes on."""

from __future__ import annotations

import pytest

from robopolicy.certify import hover
from robopolicy_launch.benchmarks import certify


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(hover, "ROLLOUT_STEPS", 3)
    monkeypatch.setattr(hover, "ROLLOUTS", 3)
    hover.expert_costs.cache_clear()
    yield
    hover.expert_costs.cache_clear()


def run(folder):
    tiny = {"nets": ["mlp_relu", "sll"], "cases": [(2, "global"), (2, "per_action")], "steps": (3,)}
    return list(certify.run(folder=folder, seeds=(100_000, 100_001), **tiny))


def test_it_writes_a_table_and_a_plot_and_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(certify, "UNTUNED_STEPS", 3)
    done = []
    whole = certify.run_cell

    def until_stopped(config, disturbances):
        if len(done) == 5:
            raise KeyboardInterrupt
        done.append(config)
        return whole(config, disturbances)

    monkeypatch.setattr(certify, "run_cell", until_stopped)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    monkeypatch.setattr(
        certify, "run_cell", lambda config, sizes: done.append(config) or whole(config, sizes)
    )
    rows = run(tmp_path)
    assert len(done) == len(set(tmp_path.glob("*.json"))), "a cell was computed twice"
    assert [row.name for row in rows[:4]] == [
        f"hover_2_global_mlp_relu{suffix}" for suffix in ("_untuned_0", "_untuned_30", "_0", "_30")
    ]
    assert [row.name for row in rows[4:]] == [
        f"hover_2_{budget}_sll_{size}" for budget in ("global", "per_action") for size in (0, 30)
    ]
    table = (tmp_path / "table.md").read_text().splitlines()
    assert len(table) == 2 + 4
    assert all(line.count("|") == table[0].count("|") for line in table)
    assert (tmp_path / "hover.png").stat().st_size > 10_000
    count = len(done)
    assert run(tmp_path) == rows
    assert len(done) == count
