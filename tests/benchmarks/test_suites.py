"""The suites of ``robopolicy bench`` at tiny sizes: that they run and what they return, never how fast."""

from __future__ import annotations

import math

import pytest
import torch

from robopolicy.nets.unet import ConditionalUnet
from robopolicy.sampling.diffusion import DiffusionSampler
from robopolicy.sampling.flow import FlowSampler
from robopolicy_launch import benchmarks
from robopolicy_launch.benchmarks import loader, record, sample, store, train
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
    assert {"train", "sample", "loader", "record", "store"} <= set(benchmarks.suites())


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
        sample.run(channels=SMALL, batches=(1, 2), seconds=0.0),
        [f"{name}_b{batch}" for batch in (1, 2) for name in ("forward", "sample_ddim10", "sample_flow5")],
    )


def test_loader():
    check(
        loader.run(episodes=3, steps=40, image=8, batch=4, calls=50, seconds=0.0),
        ["loader_image_b4", "loader_lowdim_b4"],
    )


def test_store():
    codecs = ("raw", "lz4", "zstd", "jpeg")
    check(
        store.run(frames=20, image=32, codecs=codecs, windows=50, seconds=0.0),
        [f"store_{codec}_{reference}" for codec in codecs for reference in ("by_hand", "zarr")],
    )


def test_record():
    check(
        record.run(seconds=1.5, size=(24, 32), codecs=("jpeg", "raw")),
        [f"record_{what}_{codec}" for codec in ("jpeg", "raw") for what in ("save", "processor")],
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

    def field(x, level):
        return net(x, level, condition)

    with torch.inference_mode():
        theirs = ddim(net, noise, condition, diffusion.alphas, diffusion.levels)
        torch.testing.assert_close(diffusion.sample(field, noise), theirs, atol=1e-5, rtol=1e-5)
        theirs = euler(net, noise, condition, flow.steps)
        torch.testing.assert_close(flow.sample(field, noise), theirs, atol=1e-5, rtol=1e-5)


def test_timing_calls_in_turn_and_restores_the_threads():
    before, calls = torch.get_num_threads(), []
    with threads(1):
        side_by_side(lambda: calls.append("ours"), lambda: calls.append("reference"), seconds=0.0, least=4)
    assert calls == ["ours", "reference"] * 5
    assert torch.get_num_threads() == before
