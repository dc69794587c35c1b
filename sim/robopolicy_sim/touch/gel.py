"""How a soft gel on a stiff back moves under forces on its surface: linear elasticity, exact for a wide gel.

The gel is a layer of thickness h and shear modulus G that keeps its volume (Poisson's ratio 1/2), glued to
its back, and wide against h. A force on its surface moves the surface in three ways: sideways with a force
along it (shear), away from a pressed place (the bulge), and around a place that is twisted (torsion, as the
sum of forces around it). For each wavenumber k the equilibrium of the layer has a closed solution, whose
limits are the half-space of Boussinesq and Cerruti for k h >> 1 and the thin film for k h << 1 (K. L.
Johnson, Contact Mechanics, 1985). A sum over wavenumbers with Bessel functions gives the displacement around
a point force.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import j0, j1, jn

from robopolicy_datasets.errors import ConfigError

Floats = NDArray[np.float64]

_WAVENUMBERS = 1000


@dataclass(frozen=True)
class Gel:
    """The soft layer of a tactile sensor.

    Attributes:
        thickness: h [m].
        shear_modulus: G, a third of Young's modulus [Pa].
    """

    thickness: float
    shear_modulus: float

    def __post_init__(self) -> None:
        if not (self.thickness > 0 and self.shear_modulus > 0):
            raise ConfigError(
                f"A gel has the thickness {self.thickness:g} m and the shear modulus {self.shear_modulus:g} "
                "Pa; both must be above 0."
            )

    @property
    def foundation_stiffness(self) -> float:
        """Pressure per depth of an imprint, taking the gel for a bed of springs [Pa/m].

        The plane-strain modulus ``E / (1 - 1/4) = 4 G`` over the thickness.
        """
        return 4.0 * self.shear_modulus / self.thickness


# Thickness: data sheet of the GelSight Mini (not verified). Shear modulus: Yuan, Dong and Adelson, GelSight,
# Sensors 17 (2017) 2762, of an earlier GelSight's elastomer.
GELSIGHT_MINI = Gel(thickness=0.00425, shear_modulus=145e3)


def shear_response(gel: Gel, wavenumber: Floats) -> tuple[Floats, Floats]:
    """Returns the displacement per traction of a wave of tangential traction [m/Pa].

    Args:
        gel: the layer.
        wavenumber: k ``[K]`` [1/m].

    Returns:
        where the traction is along the wave ``[K]``, and where it is across ``[K]``.
    """
    kh = _ratio(gel, wavenumber)
    half = 1.0 / (2.0 * gel.shear_modulus * wavenumber)
    along = half * (np.sinh(2 * kh) + 2 * kh) / (np.cosh(2 * kh) + 1 + 2 * kh**2)
    return along, 2.0 * half * np.tanh(kh)


def bulge_response(gel: Gel, wavenumber: Floats) -> Floats:
    """Returns the displacement along the wave per pressure of a wave of pressure ``[K]`` [m/Pa].

    It is a quarter of a wave behind: the gel moves away from where the pressure is.
    """
    kh = _ratio(gel, wavenumber)
    return kh**2 / (gel.shear_modulus * wavenumber * (np.cosh(2 * kh) + 1 + 2 * kh**2))


def _ratio(gel: Gel, wavenumber: Floats) -> Floats:
    """Returns k h, but no more than what hyperbolic functions can take: there the layer is a half-space."""
    return np.minimum(wavenumber * gel.thickness, 300.0)


def displacement_matrix(gel: Gel, points: Floats, loads: Floats, width: float) -> Floats:
    """Returns how points of the surface move with the forces at others.

    Args:
        gel: the layer.
        points: that move ``[P, 2]`` [m].
        loads: places of the forces ``[L, 2]`` [m].
        width: a force is spread about its place by a normal distribution of this standard deviation [m].

    Returns:
        ``[2 P, 3 L]`` [m/N]: times the forces (x of all, y of all, z of all), of which -z presses, it gives
        the displacements (x of all, y of all).
    """
    way = points[:, None] - loads
    distance = np.linalg.norm(way, axis=2)
    direction = way / np.maximum(distance, 1e-12)[..., None]
    mean, difference, bulge = _radial_functions(gel, distance, width)
    matrix = np.empty((2, len(points), 3, len(loads)))
    for moved in range(2):
        for pushed in range(2):
            same = float(moved == pushed)
            along = 2.0 * direction[..., moved] * direction[..., pushed] - same
            matrix[moved, :, pushed] = same * mean + along * difference
        matrix[moved, :, 2] = -direction[..., moved] * bulge
    return matrix.reshape(2 * len(points), 3 * len(loads))


def _radial_functions(gel: Gel, distance: Floats, width: float) -> tuple[Floats, Floats, Floats]:
    """Returns the parts of the point response at each distance [m/N].

    A force along the surface moves a point by
    ``mean * force + difference * (2 * (direction . force) * direction - force)``,
    one that presses by ``bulge * force * direction``.
    """
    step = 6.0 / width / _WAVENUMBERS
    wavenumber = np.arange(0.5, _WAVENUMBERS) * step
    weight = wavenumber * np.exp(-0.5 * (wavenumber * width) ** 2) * step
    along, across = shear_response(gel, wavenumber)
    pressed = bulge_response(gel, wavenumber)
    radii, places = np.unique(np.round(distance, 9), return_inverse=True)
    phase = wavenumber[:, None] * radii
    mean = (weight * (along + across)) @ j0(phase) / (4 * np.pi)
    difference = (weight * (across - along)) @ jn(2, phase) / (4 * np.pi)
    bulge = (weight * pressed) @ j1(phase) / (2 * np.pi)
    mean, difference, bulge = np.stack([mean, difference, bulge])[:, places].reshape(3, *distance.shape)
    return mean, difference, bulge
