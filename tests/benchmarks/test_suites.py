"""The suites of ``robopolicy bench`` at tiny sizes: that they run and what they return, never how fast."""

from __future__ import annotations

import math
import os
import sys

import numpy as np
import pytest
import torch

from robopolicy.nets.lipschitz.mlp import LAYERS
from robopolicy.nets.unet import ConditionalUnet
from robopolicy.sampling.denoiser import PREDICTIONS
from robopolicy.sampling.diffusion import DiffusionSampler
from robopolicy.sampling.flow import FlowSampler
from robopolicy_datasets.errors import ConfigError
from robopolicy_datasets.store.demo_store import DemoStore
from robopolicy_drivers.control.whole_body_mpc import WholeBodyMpc
from robopolicy_launch import benchmarks
from robopolicy_launch.benchmarks import (
    _casadi_mpc,
    _cold,
    _mp4,
    chunking,
    control,
    flowbender,
    franka,
    lipschitz,
    lipschitz_flow,
    loader,
    loop,
    markers,
    record,
    render,
    ring,
    sample,
    server,
    sim,
    store,
    theorems,
    touch,
    train,
)
from robopolicy_launch.benchmarks._reference import ReferenceUnet, ddim, euler
from robopolicy_launch.benchmarks._timing import side_by_side, threads

SMALL = (16, 32)


def check(rows, names):
    rows = list(rows)
    assert [row.name for row in rows] == names
    for row in rows:
        figures = (row.ours, row.reference, row.ratio)
        assert all(math.isfinite(figure) and figure > 0 for figure in figures), row
        assert row.compared_with


def test_the_suites_are_found():
    wanted = {
        *("chunking", "control", "flowbender", "lipschitz", "lipschitz_flow", "loader", "loop"),
        *("franka", "markers", "record"),
        *("render", "ring", "sample", "server", "sim", "store", "theorems", "touch", "train"),
    }
    assert wanted <= set(benchmarks.suites())


@pytest.mark.parametrize("bf16", [True, False])
def test_train(bf16, monkeypatch):
    monkeypatch.setattr(train, "computes_bf16", lambda device: bf16)
    precisions = ["fp32", "bf16"] if bf16 else ["fp32"]
    check(
        train.run(channels=SMALL, batches=(2,), most_threads=1, seconds=0.0),
        [f"train_step_b2_{precision}" for precision in precisions],
    )


def test_sample():
    check(
        sample.run(channels=SMALL, batches=(1, 2), large=SMALL, seconds=0.0),
        [
            *(
                f"{name}_b{batch}"
                for batch in (1, 2)
                for name in ("forward", "sample_ddim10", "sample_flow5", "overhead_ddim10", "overhead_flow5")
            ),
            *("large_ddim10_fp32_b1", "large_ddim10_bf16_b1"),
        ],
    )


def test_lipschitz():
    rows = lipschitz.run(widths=(6,), depth=2, channels=(4,), image=8, batch=4, images=4, seconds=0.0)
    nets = [*(f"{layer}_w6" for layer in LAYERS), "aol_maxmin_w6", "aol_encoder_8"]
    check(rows, [f"{net}_{what}" for net in nets for what in ("train_b4", "folded_b1")])


def test_theorems():
    cell = theorems.Cell(50, 1.0, 0.1)
    rows = list(theorems.run((cell,), training_steps=20, runs=5))
    check(rows, [f"{what}_n50_alpha1_zeta0p1" for what in ("error", "deviation", "regret")])
    assert all(row.ratio >= 1 for row in rows)


def test_lipschitz_flow(tmp_path, monkeypatch):
    """Also that no bound is exceeded, and that a cell is measured once."""
    small = {"training_steps": 5, "batch_size": 16}
    cells = [lipschitz_flow.Cell(0.0, 2, bound, **small) for bound in (0.0, 2.0)]
    rows = list(lipschitz_flow.run(folder=tmp_path, cells=cells))
    check(rows, ["balanced_n2_bound2_imitation", "balanced_n2_bound2_attacked"])
    assert "0 violations in 4000 trials" in (tmp_path / "table.md").read_text()
    assert (tmp_path / "pareto.png").stat().st_size > 1000
    monkeypatch.setattr(lipschitz_flow, "measure", lambda cell: pytest.fail("measured twice"))
    assert list(lipschitz_flow.run(folder=tmp_path, cells=cells)) == rows


def test_flowbender(tmp_path, capsys):
    """Also that cells are computed once."""
    rows = list(flowbender.run(folder=tmp_path, seeds=(0,), steps=2, tests=3))
    names = {row.name.rpartition("_")[0] for row in rows}
    assert {"raw", "executed", "oracle", "zero_shortcut0", "first_shortcut1", "raw_guided3_0_1"} <= names
    assert all(math.isfinite(row.ours) and "guided" in row.compared_with for row in rows)
    cells = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    assert len(cells) == len(flowbender.KINDS)
    assert list(flowbender.run(folder=tmp_path, seeds=(0,), steps=2, tests=3)) == rows
    assert {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == cells
    assert "report/zero_shortcut0/tracking" in capsys.readouterr().out


def test_the_robots_of_flowbender_keep_their_speed_limit():
    generator = torch.Generator().manual_seed(0)
    limit = torch.tensor([[0.06], [0.1], [0.3]])
    path = flowbender.demonstrate(torch.tensor([[1.0, 0.1]]).expand(3, -1), generator)
    executed = flowbender.track(path, limit)
    steps = torch.diff(executed, dim=1, prepend=torch.zeros(3, 1, 2)).norm(dim=-1)
    assert (steps <= limit + 1e-6).all()
    torch.testing.assert_close(flowbender.track(executed, limit), executed, atol=1e-5, rtol=0)
    assert (executed[0] - path[0]).norm(dim=-1).max() > 0.1  # the slow one cannot follow


def test_chunking(tmp_path):
    arguments = [
        *("demonstrations=3", "trainer.steps=2", "trainer.batch_size=8", "trainer.threads=1"),
        *("trainer.validation_fraction=0", "policy.mlp.width=16"),
    ]
    rows = list(chunking.run(folder=tmp_path, delays=(8,), episodes=1, arguments=arguments))
    assert [row.name for row in rows[:3]] == ["pulled_jump_d8", "pulled_kick_d8", "pulled_success_d8"]
    assert len(rows) == 9
    assert all(math.isfinite(row.ours) for row in rows)
    assert len(list(tmp_path.glob("*/cells/*.json"))) == len(chunking.METHODS)
    list(chunking.run(folder=tmp_path, delays=(8,), episodes=1, arguments=[*arguments, "trainer.steps=3"]))
    assert len(list(tmp_path.glob("*/prefix8"))) == 2  # what was taught otherwise is another policy


def test_loader():
    check(
        loader.run(episodes=3, steps=40, image=8, batch=4, calls=50, seconds=0.0),
        ["loader_image_b4", "loader_lowdim_b4", "loader_stream_b4"],
    )


STORE = {"frames": 20, "image": 64, "windows": 10, "batch": 4, "cold_bytes": 1 << 20, "seconds": 0.0}
CODECS = ("raw", "lz4", "zstd", "jpeg")
COLD = ["store_cold", "store_cold_resident"]


def rows_of_store(codecs, videos):
    names = [f"store_{codec}_{name}" for codec in codecs for name in ("by_hand", "zarr", "size")]
    names += [*(f"store_{codec}_two_threads" for codec in codecs), "floor_pread_two_threads"]
    for video in videos:
        names += [f"store_{codec}_{kind}{video}" for codec in codecs for kind in ("", "size_")]
    return names + COLD


def test_store():
    pytest.importorskip("av")
    check(store.run(**STORE), rows_of_store(CODECS, ("libsvtav1", "libx264")))


def test_store_without_video(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "av", None)
    check(store.run(**STORE, codecs=["raw"]), rows_of_store(["raw"], ()))
    assert "mp4 is left out" in caplog.text
    assert "robopolicy[formats]" in caplog.text


def test_store_needs_room():
    with pytest.raises(ConfigError, match="TMPDIR"):
        next(store.run(cold_bytes=1 << 60))


def test_mp4_returns_the_frames_that_are_asked_for(tmp_path):
    pytest.importorskip("av")
    images = np.repeat(np.arange(0, 240, 12, dtype=np.uint8), 64 * 64 * 3).reshape(20, 64, 64, 3)
    for codec in _mp4.CODECS:
        video = _mp4.Mp4.write(tmp_path / f"{codec}.mp4", images, codec)
        for start in (0, 7, 18, 4, 5):
            error = np.abs(video.read(start).astype(int) - images[start : start + 2])
            assert error.max() < 6, (codec, start)


def test_the_cold_reads_by_hand_are_the_frames(tmp_path):
    images = store.camera_like(20, 16)
    _cold._write(tmp_path / "a.zarr", images, 1)
    made = DemoStore.open(tmp_path / "a.zarr")
    descriptors = [os.open(file, os.O_RDONLY) for file in _cold._files(made.path)]
    assert len(descriptors) > 1
    read = _cold._by_hand(made, descriptors)
    for start in range(made.num_steps - 2):
        found = np.frombuffer(b"".join(read(start)), np.uint8).reshape(2, 16 * 16 * 3 + 4)[:, :-4]
        assert found.tobytes() == made.rows(_cold.KEY, start, start + 2).tobytes()
    for descriptor in descriptors:
        os.close(descriptor)


@pytest.mark.realtime
def test_record():
    check(
        record.run(seconds=1.5, size=(24, 32), codecs=("jpeg", "raw")),
        [f"record_{what}_{codec}" for codec in ("jpeg", "raw") for what in ("save", "processor")],
    )


def test_server():
    check(server.run(image=32, requests=5), ["server_raw", "server_jpeg", "server_raw_floor"])


def test_sim():
    check(sim.run(image=16, seconds=0.0), ["sim_physics", "sim_environment", "sim_two_workers"])


def test_render():
    check(render.run(sizes=(16,), seconds=0.0), ["render_fast_16", "render_default_16"])


@pytest.mark.realtime
def test_loop():
    loads = [
        f"loop_500hz_fifo_{load}_{figure}" for load in ("policy", "busy") for figure in ("p99", "max", "met")
    ]
    trajectory = [f"trajectory_{name}" for name in ("evaluate", "append", "replan")]
    check(loop.run(channels=SMALL, seconds=0.3), [*trajectory, "loop_100hz_slack_p99", *loads])


PEERS = ("mink", "daqp", "osqp", "casadi")
CONTROL = ["control_ik_floor", "control_mpc_p50", "control_mpc_p99"]


def test_control_beside_peers():
    for peer in PEERS:
        pytest.importorskip(peer)
    names = [*CONTROL[:1], "control_ik_mink", *CONTROL[1:], "control_mpc_converged", "control_mpc_program"]
    check(control.run(seconds=0.0, solves=3), names)


def test_control_without_peers(monkeypatch, caplog):
    for peer in PEERS:
        monkeypatch.setitem(sys.modules, peer, None)
    check(control.run(seconds=0.0, solves=3), CONTROL)
    for peer in ("mink", "osqp", "casadi"):
        assert f"{peer} is left out" in caplog.text


def test_casadi_finds_the_minimum_that_ours_finds():
    casadi = pytest.importorskip("casadi")
    kinematics, reference, state = control._scene(8)
    theirs = _casadi_mpc.CasadiMpc(casadi, kinematics, state).solve(reference, state)
    ours = WholeBodyMpc(kinematics).converge(reference, state)
    assert ours.converged.all()
    assert ours.cost[0] == pytest.approx(theirs, rel=1e-6)


def test_touch():
    check(touch.run(seconds=0.0), [f"touch_{name}" for name in ("markers", "taxels", "wrench", "rgb")])


def test_markers():
    check(markers.run(shapes=((7, 9),), seconds=0.0), ["markers_7x9"])


def test_ring():
    figures = ("write_{}", "newest_{}", "wake_{}_p50", "wake_{}_p99", "wake_{}_cpu")
    check(
        ring.run(seconds=0.0),
        [f"ring_{figure.format(size)}" for size in ("256B", "150kB") for figure in figures],
    )


@pytest.mark.parametrize("channels", [(16, 32), (64, 128, 256)])
def test_the_reference_is_as_large_as_ours(channels):
    sizes = [
        sum(parameter.numel() for parameter in net.parameters())
        for net in (ConditionalUnet(2, 40, channels), ReferenceUnet(2, 40, channels))
    ]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.01)


def test_the_reference_loops_sample_as_ours_do():
    torch.manual_seed(0)
    net, noise, condition = ReferenceUnet(2, 4, SMALL).eval(), torch.randn(3, 8, 2), torch.randn(3, 4)
    diffusion, flow = DiffusionSampler("ddim", 100, 10), FlowSampler("euler", 5)

    def clean(x, level):
        return net(x, level, condition)

    def clean_from_noise(x, level):
        return PREDICTIONS["noise"].clean(diffusion.path, x, level, clean(x, level))

    with torch.inference_mode():
        theirs = ddim(net, noise, condition, diffusion.path.alphas, diffusion.levels)
        torch.testing.assert_close(diffusion.sample(clean_from_noise, noise), theirs, atol=1e-5, rtol=1e-5)
        theirs = euler(net, noise, condition, flow.steps)
        torch.testing.assert_close(flow.sample(clean, noise), theirs, atol=1e-5, rtol=1e-5)


def test_timing_calls_in_turn_and_restores_the_threads():
    before, calls = torch.get_num_threads(), []
    with threads(1):
        side_by_side(lambda: calls.append("ours"), lambda: calls.append("reference"), seconds=0.0, least=4)
    assert calls == ["ours", "reference"] * 5
    assert torch.get_num_threads() == before


@pytest.mark.soak
def test_franka():
    pytest.importorskip("franky", reason="the extra 'franka' is not installed")
    pytest.importorskip("franky_sim", reason="franky-sim is not installed")
    rows = list(franka.run(cartesian_s=2.5, joint_s=2.5, reference_s=2.5))
    whats = ("taken", "error_mean", "error_max", "lag", "late_p99")
    assert [row.name for row in rows] == [
        f"franka_{stream}_{what}" for stream in ("cartesian_100hz", "joint_1khz") for what in whats
    ]
    assert all(math.isfinite(row.ours) and math.isfinite(row.reference) for row in rows)


@pytest.mark.parametrize("lag_s", [0.0, 0.03, 0.12])
def test_a_constant_lag_is_no_error_and_what_remains_is(lag_s):
    path, times = franka.circle(np.array([0.4, 0.0, 0.3])), np.arange(0.0, 6.0, 0.01)
    found_s, errors = franka.judged(path, times, path(times - lag_s) + np.array([0.0, 0.0, 0.002]))
    assert found_s == pytest.approx(lag_s, abs=1e-3)
    np.testing.assert_allclose(errors, 0.002, atol=1e-4)
