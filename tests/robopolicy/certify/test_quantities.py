"""How steep the representations are: rotations as rows, angles as sine and cosine, and back."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robopolicy import geometry
from robopolicy.certify.quantities import ROTATION_GAIN, ActionQuantity, smallest_singular_value

SEEDS = st.integers(0, 10**6)


def rotations(rng: np.random.Generator, count: int) -> torch.Tensor:
    return geometry.axis_angle_to_matrix(torch.tensor(rng.normal(0, 1.5, (count, 3))))


def angle_between(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return geometry.matrix_to_axis_angle(one.mT @ other).norm(dim=-1)


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, size=st.floats(1e-3, 3.0))
def test_the_rows_of_a_rotation_move_by_at_most_its_gain_times_the_angle(seed, size):
    rng = np.random.default_rng(seed)
    one = rotations(rng, 200)
    turn = torch.tensor(rng.normal(size=(200, 3)))
    other = one @ geometry.axis_angle_to_matrix(size * turn / turn.norm(dim=-1, keepdim=True))
    moved = (geometry.matrix_to_rot6d(one) - geometry.matrix_to_rot6d(other)).norm(dim=-1)
    assert (moved <= ROTATION_GAIN * angle_between(one, other) + 1e-9).all()


def test_that_gain_is_reached():
    turn = geometry.axis_angle_to_matrix(torch.tensor([0.0, 0.0, 1e-4], dtype=torch.float64))
    moved = (geometry.matrix_to_rot6d(turn) - torch.tensor([1.0, 0, 0, 0, 1, 0])).norm()
    assert float(moved) == pytest.approx(ROTATION_GAIN * 1e-4, rel=1e-6)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, share=st.floats(0.01, 0.95), stretch=st.floats(0.5, 1.5))
def test_a_rotation_from_six_numbers_turns_by_at_most_the_bound(seed, share, stretch):
    rng = np.random.default_rng(seed)
    rows = stretch * geometry.matrix_to_rot6d(rotations(rng, 300))
    rows = rows + torch.tensor(rng.normal(0, 0.1, rows.shape))
    singular = torch.linalg.svdvals(rows.unflatten(-1, (2, 3)))[:, -1]
    step = torch.tensor(rng.normal(size=rows.shape))
    moved = rows + share * singular[:, None] * step / step.norm(dim=-1, keepdim=True)
    turned = angle_between(geometry.rot6d_to_matrix(rows), geometry.rot6d_to_matrix(moved))
    assert (turned <= -math.log1p(-share) + 1e-9).all()
    quantity = ActionQuantity("rotation", "rad", tuple(range(6)), 1.0, smallest_singular_value(rows))
    represented = quantity.represented(-math.log1p(-share))
    assert represented == pytest.approx(share * quantity.singular_value)
    assert ActionQuantity("width", "m", (9,), 0.04).represented(share) == share


def test_no_part_moves_further_than_the_whole_chunk():
    rotation = ActionQuantity("rotation", "rad", (3, 4, 5), 1.0, 1.0)
    assert rotation.gain((9.0,) * 3 + (1.0, 2.0, 2.0), chunk=10.0) == 3.0
    assert rotation.gain((9.0,) * 3 + (1.0, 2.0, 2.0), chunk=2.5) == 2.5
