"""Rendering without a display: the choice of the library, its errors, and the images."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from robopolicy_datasets.errors import SimulationError
from robopolicy_sim import rendering
from robopolicy_sim.rendering import Renderer, import_mujoco, shared_renderer
from robopolicy_sim.tasks.pick_place import PickPlaceScene
from robopolicy_sim.worlds.world import World

DRAW = """
from robopolicy_sim.tasks.pick_place import PickPlaceScene
from robopolicy_sim.worlds.world import World
print("drawn", World(PickPlaceScene()).render("camera0", 32, 32).std() > 5)
"""
STEP = """
from robopolicy_sim.tasks.pick_place import PickPlaceScene
from robopolicy_sim.worlds.world import World
world = World(PickPlaceScene()); world.step(5); print("stepped", world.time)
"""


def run(code, **variables):
    environment = {name: value for name, value in os.environ.items() if name != "MUJOCO_GL"}
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, env={**environment, **variables}, capture_output=True, text=True, timeout=300
    )


def test_a_library_is_found_when_none_is_named_and_nothing_is_left_on_stderr():
    result = run(DRAW)
    assert "drawn True" in result.stdout
    assert result.stderr == ""


def test_the_choice_does_not_depend_on_when_mujoco_was_imported():
    assert "drawn True" in run("import mujoco\n" + DRAW).stdout


@pytest.mark.parametrize("name", ["nonsense", "disabled"])
def test_a_library_that_does_not_work_is_named_with_the_cure(name):
    code = f"""
from robopolicy_datasets.errors import SimulationError
try:
    exec({DRAW!r})
except SimulationError as error:
    print("refused:", error)
"""
    result = run(code, MUJOCO_GL=name)
    assert f"refused: MuJoCo cannot draw with MUJOCO_GL='{name}'" in result.stdout
    assert "apt-get install" in result.stdout


def test_physics_runs_where_no_library_works():
    assert "stepped 0.02" in run(STEP, MUJOCO_GL="disabled").stdout


def test_no_working_library_gives_the_apt_line(monkeypatch):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(rendering, "BACKENDS", ("missing_library",))
    rendering._working_backend.cache_clear()
    try:
        for _ in range(2):
            with pytest.raises(SimulationError, match=r"apt-get install .*libosmesa6"):
                rendering.configure_gl()
        assert rendering._working_backend.cache_info().misses == 1
    finally:
        rendering._working_backend.cache_clear()
    assert "MUJOCO_GL" not in os.environ


def test_a_working_choice_is_put_into_the_environment(monkeypatch):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    assert rendering.configure_gl() == os.environ["MUJOCO_GL"]


def test_sizes_can_alternate_and_images_do_not_depend_on_what_was_drawn_before():
    world = World(PickPlaceScene())
    first = world.render("camera0", 64, 48)
    other = world.render("camera1", 96, 96)
    assert first.shape == (48, 64, 3)
    assert other.shape == (96, 96, 3)
    np.testing.assert_array_equal(world.render("camera0", 64, 48), first)
    np.testing.assert_array_equal(world.render("camera1", 96, 96), other)
    assert first.flags.c_contiguous


def test_worlds_share_one_renderer_in_a_thread_and_threads_have_their_own():
    model = World(PickPlaceScene()).model
    assert shared_renderer(model) is shared_renderer(model)
    assert shared_renderer(model) is not shared_renderer(model, smooth=True)
    found = []

    def draw():
        found.append((shared_renderer(model), World(PickPlaceScene()).render("camera0", 32, 32)))
        found[0][0].close()

    here = World(PickPlaceScene()).render("camera0", 32, 32)
    thread = threading.Thread(target=draw)
    thread.start()
    thread.join()
    assert found[0][0] is not shared_renderer(model)
    np.testing.assert_array_equal(found[0][1], here)


def test_a_closed_renderer_says_so():
    model = World(PickPlaceScene()).model
    renderer = Renderer(model)
    renderer.close()
    renderer.close()
    with pytest.raises(SimulationError, match="closed"):
        renderer.render(import_mujoco().MjData(model), 0, width=8, height=8)
