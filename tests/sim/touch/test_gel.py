"""The gel's elasticity against an independent solution, its limits and its symmetries."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robopolicy_datasets.errors import ConfigError
from robopolicy_sim.touch.camera import pushed_in
from robopolicy_sim.touch.gel import GELSIGHT_MINI, Gel, bulge_response, displacement_matrix, shear_response


def solved(gel, k):
    """Solves the layer's four boundary conditions: (displacement per shear traction, per pressure).

    With a stream function psi(z) e^{ikx}, u = psi', w = -ik psi; psi = psi' = 0 on the back, and on the
    surface G (psi'' + k^2 psi) is the shear and -p + 2 G w' the normal traction;
    i k p = G (psi''' - k^2 psi').
    """
    h, shear = gel.thickness, gel.shear_modulus
    functions = [np.polynomial.Polynomial(np.array(part, complex)) for part in ((1,), (0, 1), (1,), (0, 1))]
    signs = (k, k, -k, -k)

    def derivatives(z):
        rows, polynomials = [], list(functions)
        for _ in range(4):
            rows.append([p(z) * np.exp(s * z) for p, s in zip(polynomials, signs, strict=True)])
            polynomials = [p.deriv() + s * p for p, s in zip(polynomials, signs, strict=True)]
        return np.array(rows)

    back, surface = derivatives(0.0), derivatives(h)
    pressure = shear * (surface[3] - k**2 * surface[1]) / (1j * k)
    conditions = np.array(
        [
            back[0],
            back[1],
            shear * (surface[2] + k**2 * surface[0]),
            -pressure + 2 * shear * (-1j * k) * surface[1],
        ]
    )
    return tuple(surface[1] @ np.linalg.solve(conditions, load) for load in ([0, 0, 1, 0], [0, 0, 0, -1]))


@pytest.mark.parametrize("k", [30.0, 100.0, 300.0, 1000.0, 2500.0])
def test_the_responses_are_those_of_the_layer(k):
    sheared, pressed = solved(GELSIGHT_MINI, k)
    wave = np.array([k])
    assert shear_response(GELSIGHT_MINI, wave)[0][0] == pytest.approx(sheared, rel=1e-6)
    # A quarter of a wave behind, and away from the pressure.
    assert -1j * bulge_response(GELSIGHT_MINI, wave)[0] == pytest.approx(pressed, rel=1e-6)


def test_a_wide_even_shear_moves_the_gel_as_a_block():
    """Each cell bears traction times area; far from the edges the surface moves by traction h / G."""
    gel, cell = Gel(0.002, 1e5), 0.0006
    places = (np.arange(41) - 20) * cell
    loads = np.stack(np.meshgrid(places, places), -1).reshape(-1, 2)
    matrix = displacement_matrix(gel, np.zeros((1, 2)), loads, cell)
    traction = 500.0  # [Pa]
    forces = np.concatenate([np.full(len(loads), traction * cell**2), np.zeros(2 * len(loads))])
    assert matrix @ forces == pytest.approx(
        [traction * gel.thickness / gel.shear_modulus, 0], rel=0.02, abs=1e-9
    )


def test_the_matrix_has_the_symmetries_of_elasticity():
    random = np.random.default_rng(0)
    points = random.uniform(-0.01, 0.01, (12, 2))
    shear = displacement_matrix(GELSIGHT_MINI, points, points, 0.0006)[:, :24]
    np.testing.assert_allclose(shear, shear.T, atol=1e-12)  # Maxwell and Betti
    assert np.linalg.eigvalsh(shear).min() > 0  # pushing costs work
    angle = 0.7
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    forces = random.normal(size=(3, 12))
    turned = np.concatenate([turn @ forces[:2], forces[2:]])
    moved = (displacement_matrix(GELSIGHT_MINI, points, points, 0.0006) @ forces.ravel()).reshape(2, -1)
    others = points @ turn.T
    moved_too = (displacement_matrix(GELSIGHT_MINI, others, others, 0.0006) @ turned.ravel()).reshape(2, -1)
    np.testing.assert_allclose(moved_too, turn @ moved, atol=1e-9)


def test_a_gel_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="above 0"):
        Gel(thickness=0.0, shear_modulus=1e5)


@given(st.lists(st.floats(-0.004, 0.01), min_size=1, max_size=60), st.floats(1e-6, 0.1))
def test_a_shape_is_pushed_in_until_the_springs_carry_the_force(distances, volume):
    distances = np.array(distances, np.float32)
    depth = np.maximum(pushed_in(distances, volume) - distances.astype(float), 0)
    assert depth.sum() == pytest.approx(volume, rel=1e-6)
