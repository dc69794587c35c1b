"""Off-screen rendering without a display: finds a GL library that works, and draws MuJoCo scenes fast."""

from __future__ import annotations

import atexit
import copy
import importlib
import importlib.util
import logging
import os
import platform
import subprocess
import sys
import threading
import weakref
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robopolicy_datasets.errors import SimulationError, missing_extra

APT_LINE = "sudo apt-get install -y libegl1 libgl1-mesa-dri libosmesa6"
BACKENDS = ("egl", "osmesa")
SCENERY = 2  # geom group that only smooth renderers draw

# What PyOpenGL and mujoco answer where a library is missing.
_GL_ERRORS = (ImportError, AttributeError, RuntimeError, OSError)

_log = logging.getLogger(__name__)
_renderers = threading.local()


def configure_gl() -> str:
    """Chooses the GL library for off-screen rendering and puts its name into ``MUJOCO_GL``.

    What ``MUJOCO_GL`` already says is kept. Otherwise each library proves itself in a process of its own,
    because a broken one can take its process down; child processes inherit the choice.

    Returns:
        The value of ``MUJOCO_GL``; ``""`` leaves the choice to MuJoCo (outside Linux).

    Raises:
        SimulationError: no library works; the message names the packages to install.
        MissingExtraError: mujoco is not installed.
    """
    if importlib.util.find_spec("mujoco") is None:
        raise missing_extra("Simulation", "sim")
    given = os.environ.get("MUJOCO_GL", "").strip().lower()
    if given or platform.system() != "Linux":
        return given
    backend, failures = _working_backend()
    if not backend:
        raise SimulationError(
            f"Found no GL library to render with ({failures}). Install one with: {APT_LINE}"
        )
    os.environ["MUJOCO_GL"] = backend
    return backend


@lru_cache(maxsize=1)
def _working_backend() -> tuple[str, str]:
    """Returns the first library that works, or "" and why none does; asked once in a process."""
    failures = []
    for backend in BACKENDS:
        failure = _try_backend(backend)
        if failure is None:
            return backend, ""
        failures.append(f"{backend}: {failure}")
    return "", "; ".join(failures)


def _try_backend(backend: str) -> str | None:
    """Creates a small GL context in a subprocess; returns why it failed, or None."""
    code = (
        f"from mujoco.{backend} import GLContext\n"
        "context = GLContext(16, 16); context.make_current(); context.free(); print('works')"
    )
    environment = {**os.environ, "MUJOCO_GL": backend}
    environment.pop("PYOPENGL_PLATFORM", None)
    try:
        result = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
        )
    except subprocess.TimeoutExpired:
        return "no answer within 60 s"
    if "works" in result.stdout:
        return None
    lines = result.stderr.strip().splitlines()
    return lines[-1] if lines else f"exit status {result.returncode}"


def import_mujoco() -> Any:
    """Imports mujoco, where possible with a GL library that works, and returns the module.

    Physics needs no GL library; making a ``Renderer`` does.

    Raises:
        MissingExtraError: mujoco is not installed.
        SimulationError: mujoco does not start.
    """
    try:
        configure_gl()
    except SimulationError as error:
        _log.warning("Physics only: %s", error)
    try:
        return importlib.import_module("mujoco")
    except _GL_ERRORS as error:
        raise _no_gl(error) from error


def _no_gl(error: Exception) -> SimulationError:
    given = os.environ.get("MUJOCO_GL", "")
    return SimulationError(
        f"MuJoCo cannot draw with MUJOCO_GL='{given}' ({error}). Unset MUJOCO_GL to let robopolicy choose, "
        f"or install the library: {APT_LINE}"
    )


def _make_context(backend: str, width: int, height: int) -> Any:
    """Makes a GL context; by its own module, because ``mujoco.GLContext`` was chosen at mujoco's import."""
    module = f"mujoco.{backend}" if backend in BACKENDS else "mujoco"
    return importlib.import_module(module).GLContext(width, height)


class Renderer:
    """Draws scenes of one model into numpy images. Use it in the thread that made it.

    Args:
        model: a ``mujoco.MjModel``; its quality settings are replaced.
        smooth: shadows and smooth edges, for people; many times slower.
        fine: round shapes of many triangles without either, to measure distances to them.

    Raises:
        SimulationError: no GL library works.
    """

    def __init__(self, model: Any, *, smooth: bool = False, fine: bool = False) -> None:
        backend = configure_gl()
        mujoco = import_mujoco()
        self._mujoco = mujoco
        self._model = copy.copy(model)
        # Without the shadow map (4096 x 4096 by default) and multisampling, software GL is 10-100x faster;
        # then the triangles of round shapes count, of which a small image needs few.
        quality = self._model.vis.quality
        quality.offsamples, quality.shadowsize = (4, 1024) if smooth else (0, 0)
        triangles = (64, 32, 1) if fine else (28, 16, 4) if smooth else (10, 4, 1)
        quality.numslices, quality.numstacks, quality.numquads = triangles
        self._scene = mujoco.MjvScene(model=self._model, maxgeom=max(2 * model.ngeom, 100))
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._scene.flags[flag] = smooth
        self._option = mujoco.MjvOption()
        self._option.geomgroup[SCENERY] = smooth
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._size = (64, 64)
        self._model.vis.global_.offwidth, self._model.vis.global_.offheight = self._size
        self._gl: Any = None
        try:
            self._gl = _make_context(backend, *self._size)
            self._gl.make_current()
            self._context = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
        except (*_GL_ERRORS, mujoco.FatalError) as error:
            raise _no_gl(error) from error
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        _register_for_exit(self)

    def render(self, data: Any, camera: int, *, width: int, height: int) -> NDArray[np.uint8]:
        """Draws what a camera sees.

        Args:
            data: ``mujoco.MjData`` with up-to-date kinematics.
            camera: the camera's index in the model.
            width: of the image [px].
            height: of the image [px].

        Returns:
            RGB image ``[height, width, 3]``.

        Raises:
            SimulationError: the renderer is closed.
        """
        self._resize(width, height)
        self._camera.fixedcamid = camera
        self._update_scene(data, self._camera)
        mujoco, view = self._mujoco, self._mujoco.MjrRect(0, 0, width, height)
        mujoco.mjr_render(view, self._scene, self._context)
        image = np.empty((height, width, 3), dtype=np.uint8)
        mujoco.mjr_readPixels(image, None, view, self._context)
        return np.ascontiguousarray(image[::-1])

    def distances(
        self, data: Any, pose: NDArray, size: tuple[float, float], reach: float, *, width: int, height: int
    ) -> NDArray[np.float32]:
        """Measures how far things are from a rectangle, straight ahead of each of its points.

        A shape that the rectangle lies inside of is not seen.

        Args:
            data: ``mujoco.MjData`` with up-to-date kinematics.
            pose: of the rectangle's middle in the world ``[4, 4]``: x to the right of the image, y down, z
                ahead.
            size: of the rectangle along y and x (2) [m].
            reach: the largest distance [m]; what lies farther is that far.
            width: of the image [px].
            height: of the image [px].

        Returns:
            distances ``[height, width]`` [m].

        Raises:
            SimulationError: the renderer is closed.
        """
        self._resize(width, height)
        self._update_things(data, self._mujoco.MjvCamera())
        for eye in self._scene.camera:  # one for each eye of a stereo image; both are used
            eye.pos, eye.forward, eye.up = pose[:3, 3], pose[:3, 2], -pose[:3, 1]
            eye.orthographic, eye.frustum_center, eye.frustum_width = 1, 0.0, 0.5 * size[1]
            eye.frustum_bottom, eye.frustum_top = -0.5 * size[0], 0.5 * size[0]
            eye.frustum_near, eye.frustum_far = 1e-6, reach  # [m]; 0 is refused
        mujoco, view = self._mujoco, self._mujoco.MjrRect(0, 0, width, height)
        sky = mujoco.mjtRndFlag.mjRND_SKYBOX
        flag, self._scene.flags[sky] = self._scene.flags[sky], 0  # seen in parallel, the sky is a near cube
        mujoco.mjr_render(view, self._scene, self._context)
        self._scene.flags[sky] = flag
        depth = np.empty((height, width), dtype=np.float32)
        mujoco.mjr_readPixels(None, depth, view, self._context)
        return depth[::-1] * np.float32(reach)

    def depth(self, data: Any, camera: int, *, width: int, height: int) -> NDArray[np.float32]:
        """Measures how far things are along the direction in which a camera looks.

        Args:
            data: ``mujoco.MjData`` with up-to-date kinematics.
            camera: the camera's index in the model.
            width: of the image [px].
            height: of the image [px].

        Returns:
            z in the camera's frame ``[height, width]`` [m]; where there is nothing, the farthest that is
            drawn (MuJoCo's ``zfar``).

        Raises:
            SimulationError: the renderer is closed.
        """
        mujoco = self._mujoco
        reading, self._context.readDepthMap = self._context.readDepthMap, mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        _, inverse = self._draw_shapes(data, camera, width, height)
        self._context.readDepthMap = reading
        planes, extent = self._model.vis.map, self._model.stat.extent
        near, far = planes.znear * extent, planes.zfar * extent
        depth = near * far / (near + inverse.astype(np.float64) * (far - near))
        return depth[::-1].astype(np.float32)

    def segmentation(self, data: Any, camera: int, *, width: int, height: int) -> NDArray[np.int32]:
        """Tells which body each pixel shows; not for ``smooth`` renderers, which blend colors at edges.

        Args:
            data: ``mujoco.MjData`` with up-to-date kinematics.
            camera: the camera's index in the model.
            width: of the image [px].
            height: of the image [px].

        Returns:
            Indices of bodies in the model ``[height, width]``; 0 is what is fixed to the world, -1 nothing.

        Raises:
            SimulationError: the renderer is closed.
        """
        color, _ = self._draw_shapes(data, camera, width, height)
        shapes = color.astype(np.int32) @ (1, 1 << 8, 1 << 16)  # their places in the scene, from 1 on
        bodies = np.full(self._scene.ngeom + 1, -1, dtype=np.int32)
        kind = self._mujoco.mjtObj.mjOBJ_GEOM
        for shape in self._scene.geoms[: self._scene.ngeom]:
            if shape.objtype == kind and shape.segid >= 0:
                bodies[shape.segid + 1] = self._model.geom_bodyid[shape.objid]
        return bodies[shapes[::-1]]

    def _draw_shapes(
        self, data: Any, camera: int, width: int, height: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Draws each shape in a color of its own; returns the image and the depth buffer, upside down."""
        self._resize(width, height)
        self._camera.fixedcamid = camera
        self._update_things(data, self._camera)
        mujoco, view = self._mujoco, self._mujoco.MjrRect(0, 0, width, height)
        flags = self._scene.flags
        flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = 1
        mujoco.mjr_render(view, self._scene, self._context)
        flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = 0
        color = np.empty((height, width, 3), dtype=np.uint8)
        depth = np.empty((height, width), dtype=np.float32)
        mujoco.mjr_readPixels(color, depth, view, self._context)
        return color, depth

    def _resize(self, width: int, height: int) -> None:
        if self._gl is None:
            raise SimulationError("This renderer is closed; make a new one.")
        self._gl.make_current()
        if self._size != (width, height):
            self._mujoco.mjr_resizeOffscreen(width, height, self._context)
            self._size = (width, height)

    def _update_scene(self, data: Any, camera: Any) -> None:
        everything = self._mujoco.mjtCatBit.mjCAT_ALL.value
        self._mujoco.mjv_updateScene(self._model, data, self._option, None, camera, everything, self._scene)

    def _update_things(self, data: Any, camera: Any) -> None:
        """Leaves sites out, which are no things."""
        self._option.sitegroup[:], groups = 0, self._option.sitegroup.copy()
        self._update_scene(data, camera)
        self._option.sitegroup[:] = groups

    def close(self) -> None:
        """Frees the GL context. A second call does nothing."""
        if self._gl is not None:
            self._gl.make_current()
            self._context.free()
            self._gl.free()
            self._gl = None


def shared_renderer(model: Any, *, smooth: bool = False, fine: bool = False) -> Renderer:
    """Returns this thread's renderer of a model: one GL context serves all worlds that share the model."""
    cache: dict[tuple[int, bool, bool], tuple[Any, Renderer]] = _renderers.__dict__.setdefault("cache", {})
    key = (id(model), smooth, fine)
    if key not in cache:
        cache[key] = (model, Renderer(model, smooth=smooth, fine=fine))
    return cache[key][1]


_open_renderers: weakref.WeakSet[Renderer] = weakref.WeakSet()


def _register_for_exit(renderer: Renderer) -> None:
    """Closes what is still open before the GL library goes; its own destructor comes too late."""
    if not _open_renderers:
        atexit.register(_close_all)
    _open_renderers.add(renderer)


def _close_all() -> None:
    for renderer in list(_open_renderers):
        try:
            renderer.close()
        except Exception as error:  # at exit, nobody is left to act on it
            _log.debug("Closing a renderer failed: %s", error)
