"""Images of a gel with dark dots at known places."""

from __future__ import annotations

import numpy as np

HEIGHT, WIDTH = 240, 320
SHAPE = (7, 9)
CONTRAST = 70.0  # grey levels between gel and dot
_SOFTNESS = 0.6  # [px] of a dot's edge


def places_of_rest(shape=SHAPE):
    """The dots of an untouched gel ``[rows * columns, 2]`` [px], rows first."""
    rows, columns = shape
    x = (np.arange(columns) + 0.5) * WIDTH / columns - 0.5
    y = (np.arange(rows) + 0.5) * HEIGHT / rows - 0.5
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)


def gel_image(places, *, radius=5.0, noise=2.0, hidden=(), seed=0):
    """A gel lit from one side, ``uint8 [240, 320]``, with dots at places [px] but for the ``hidden`` ones."""
    y, x = np.ogrid[:HEIGHT, :WIDTH]
    image = 110.0 + 30.0 * x / WIDTH + 20.0 * y / HEIGHT
    reach = round(radius + 10 * _SOFTNESS)
    for index, place in enumerate(places):
        (left, top), (right, bottom) = np.clip(
            np.rint([place - reach, place + reach + 1]).astype(int), 0, 999
        )
        if index not in hidden:
            distance = np.hypot(x[:, left:right] - place[0], y[top:bottom] - place[1])
            image[top:bottom, left:right] -= CONTRAST / (1.0 + np.exp((distance - radius) / _SOFTNESS))
    image += np.random.default_rng(seed).normal(0.0, noise, image.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def wholly_shown(places, radius=5.0):
    """Which dots ``[N]`` are not cut by the edge of the image."""
    margin = radius + 2.0
    return ((places > margin) & (places < np.array([WIDTH, HEIGHT]) - 1 - margin)).all(1)


def pressed(places, depth, at=(160.0, 120.0), width=60.0):
    """Places that are pushed outward by a press at a point: by up to ``depth`` [px]."""
    way = places - np.asarray(at)
    distance = np.linalg.norm(way, axis=1, keepdims=True)
    return places + depth * way / width * np.exp(0.5 - 0.5 * (distance / width) ** 2)
