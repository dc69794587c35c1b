"""What the U-Net prepares for sampling never goes stale, and gradients pass where they are asked for."""

from __future__ import annotations

import copy
import threading

import pytest
import torch

from robopolicy.nets.unet import ConditionalUnet
from robopolicy.sampling.diffusion import DiffusionSampler

LEVELS = [30.0, 7.0, 0.0]


def make(seed=0, **settings):
    torch.manual_seed(seed)
    return ConditionalUnet(3, 5, (16, 32, 32), groups=4, embedding_size=16, **settings)


def inputs(batch=1):
    generator = torch.Generator().manual_seed(batch)
    return torch.randn(batch, 8, 3, generator=generator), torch.randn(batch, 5, generator=generator)


def assert_bound_equals_plain(net, batch=1):
    noisy, condition = inputs(batch)
    field = net.bind(condition, LEVELS)
    for value in LEVELS:
        level = torch.full((batch,), value)
        torch.testing.assert_close(field(noisy, level), net(noisy, level, condition), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("batch", [1, 70])
def test_a_program_takes_what_the_net_sees_beside_the_chunk(batch):
    net = make(side_size=2).eval()
    noisy, condition = inputs(batch)
    seen = torch.cat([noisy, torch.ones(batch, 8, 2)], dim=-1)
    level = torch.full((batch,), 7.0)
    with torch.no_grad():
        field = net.bind(condition, LEVELS)
        assert field(seen, level).shape == noisy.shape
        torch.testing.assert_close(field(seen, level), net(seen, level, condition), atol=1e-5, rtol=1e-5)
        other = torch.cat([noisy, torch.zeros(batch, 8, 2)], dim=-1)
        assert not torch.allclose(field(other, level), net(seen, level, condition), atol=1e-3)


@pytest.mark.parametrize("batch", [1, 70])
def test_rounded_weights_sample_nearly_the_same(batch):
    exact = make().eval()
    rounded = copy.deepcopy(exact)
    for weights in rounded.parameters():
        weights.data = weights.data.bfloat16()
    noisy, condition = inputs(batch)
    for value in LEVELS:
        level = torch.full((batch,), value)
        with torch.no_grad():
            field = rounded.bind(condition.bfloat16(), LEVELS)(noisy.bfloat16(), level)
            expected = exact(noisy, level, condition)
        assert field.dtype == torch.bfloat16
        assert (field.float() - expected).abs().max() < 0.05 * expected.abs().max()


def fused_step(net):
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1, fused=True)
    noisy, condition = inputs(70)
    with torch.inference_mode(False), torch.enable_grad():
        net(noisy, torch.full((70,), 7.0), condition).square().mean().backward()
    optimizer.step()


def assign(net):
    net.load_state_dict(make(seed=5).state_dict(), assign=True)


def replace_data(net):
    for parameter in net.parameters():
        parameter.data = parameter.data * 1.5


def double_and_back(net):
    net.double()
    for parameter in net.parameters():
        parameter.data.mul_(1.5)
    net.float()


def in_inference_mode(net):
    with torch.inference_mode():
        for parameter in net.parameters():
            parameter.mul_(1.5)


def through_data(net):
    for parameter in net.parameters():
        parameter.data.mul_(1.5)


def one_number(net):
    with torch.no_grad():
        net.condition_projection.weight[0, 1] += 1.0


def replace_module(net):
    net.final = make(seed=6).final


CHANGES = {
    "a fused optimizer step": fused_step,
    "load_state_dict": lambda net: net.load_state_dict(make(seed=4).state_dict()),
    "assigned weights": assign,
    "other memory": replace_data,
    "another dtype and back": double_and_back,
    "in-place updates in inference mode": in_inference_mode,
    "in-place updates of data, which count no version": through_data,
    "one number": one_number,
    "another module": replace_module,
}


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("change", CHANGES)
def test_the_bound_net_follows_the_weights(change, mode):
    net = make()
    for _ in range(3):
        with mode():
            assert_bound_equals_plain(net)
        CHANGES[change](net)
    with mode():
        assert_bound_equals_plain(net)


def test_both_modes_may_alternate_and_shapes_may_change():
    net = make()
    for mode, batch in [
        (torch.inference_mode, 1),
        (torch.no_grad, 1),
        (torch.no_grad, 8),
        (torch.inference_mode, 3),
    ]:
        with mode():
            assert_bound_equals_plain(net, batch)


@pytest.mark.parametrize("kernel_size", [1, 3, 5, 7])
def test_all_kernels(kernel_size):
    with torch.inference_mode():
        assert_bound_equals_plain(make(kernel_size=kernel_size), batch=2)


def test_a_copy_is_independent():
    net = make()
    with torch.inference_mode():
        assert_bound_equals_plain(net)
    twin = copy.deepcopy(net)
    fused_step(twin)
    with torch.inference_mode():
        assert_bound_equals_plain(twin)
        assert_bound_equals_plain(net)


def test_results_are_not_overwritten_by_the_next_call():
    net = make()
    noisy, condition = inputs()
    with torch.inference_mode():
        first, second = net.bind(condition, LEVELS), net.bind(-condition, LEVELS)
        level = torch.full((1,), 7.0)
        result = first(noisy, level)
        kept = result.clone()
        second(noisy, level)
        assert torch.equal(result, kept)
        assert torch.equal(first(noisy, level), kept)


def test_threads_do_not_share_buffers():
    net = make()
    sampler = DiffusionSampler("ddim", 100, 5)
    results: dict[int, list[torch.Tensor]] = {}

    def sample(index):
        noisy, condition = inputs(index + 1)
        with torch.inference_mode():
            results[index] = [sampler.sample(net.bind(condition, sampler.levels), noisy) for _ in range(20)]

    workers = [threading.Thread(target=sample, args=(index,)) for index in (0, 1, 0)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for index, repeated in results.items():
        sample(index)
        for result in repeated:
            torch.testing.assert_close(result, results[index][0], atol=1e-5, rtol=1e-5)


def test_an_unlisted_level_is_evaluated_too():
    net = make()
    noisy, condition = inputs()
    with torch.inference_mode():
        level = torch.full((1,), 55.0)
        result = net.bind(condition, LEVELS)(noisy, level)
        torch.testing.assert_close(result, net(noisy, level, condition), atol=1e-5, rtol=1e-5)


def test_gradients_pass_through_sampling():
    net = make()
    with torch.inference_mode():
        assert_bound_equals_plain(net)  # what it kept must not be used below
    noisy, condition = inputs()
    sampler = DiffusionSampler("ddim", 100, 3)
    gradients = []
    for bound in (True, False):
        given = [noisy.clone().requires_grad_(), condition.clone().requires_grad_()]
        field = net.bind(given[1], sampler.levels) if bound else lambda x, k, c=given[1]: net(x, k, c)
        sampler.sample(field, given[0]).square().sum().backward()
        gradients.append([*(value.grad for value in given), net.middle[0].first.conv.weight.grad])
        net.zero_grad()
    for mine, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, plain, atol=1e-4, rtol=1e-4)


def test_autocast_leaves_nothing_behind():
    net = make()
    noisy, condition = inputs()
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            net.bind(condition, LEVELS)(noisy, torch.full((1,), 7.0))
        assert_bound_equals_plain(net)
