"""Recording by a person at the keyboard: real keys on a screen, and hands that follow a script."""

import subprocess
import sys

import numpy as np
import pytest

from robopolicy_datasets.clock import now_ns
from robopolicy_datasets.errors import ConfigError, SimulationError
from robopolicy_datasets.store.demo_store import DemoStore
from robopolicy_drivers.embodiments import Pose
from robopolicy_drivers.teleop.configs import Button, GamepadConfig, KeyboardConfig
from robopolicy_drivers.teleop.steering import BUTTONS, Steering
from robopolicy_drivers.teleop.window import SIZE, Inputs
from robopolicy_launch import command
from robopolicy_sim.tasks.configs import PickPlaceConfig, PushTStateConfig
from robopolicy_sim.tasks.manipulation import ManipulationEnv
from robopolicy_sim.tasks.pick_place import PickPlaceScene
from robopolicy_sim.teleop.desk import Decision, Desk, Hands, collect
from robopolicy_sim.worlds.scene import UPRIGHT, View

pytestmark = pytest.mark.realtime


class LiftScene(PickPlaceScene):
    """Two arms side by side; the second's tool is to be lifted."""

    name = "lift"
    num_robots = 2
    views = {  # noqa: RUF012 (never changed)
        **PickPlaceScene.views,
        "video": View((-0.8, -0.3, 0.9), (0.4, 0.0, 0.1), 45.0),  # from behind
    }

    def base_pose(self, embodiment, number):
        x, y, z = super().base_pose(embodiment, number).position
        return Pose((x, y + (-0.5, 0.5)[number], z), UPRIGHT)

    def start_pose(self, number):
        pose = super().start_pose(number)
        pose[1, 3] += (-0.5, 0.5)[number]
        return pose

    def reach_center(self, number):
        return tuple(np.add(self.center, (0.0, (-0.5, 0.5)[number], 0.0)))

    def bind(self, model, data, robots):
        super().bind(model, data, robots)
        self._second, self._start = robots[1], None

    def reset(self, random):
        super().reset(random)
        self._start = None

    def success(self):
        height = self._second.tcp_pose[2, 3]
        self._start = height if self._start is None else self._start
        return bool(height > self._start + 0.03)


class ScriptedWindow:
    """In the place of a window: what the hands do at one control step after another."""

    def __init__(self, *script):
        self.script = iter(script)
        self.pictures = []

    def show(self, picture):
        self.pictures.append(picture)

    def poll(self):
        step = next(self.script)
        held, drag = (step, (0.0, 0.0)) if isinstance(step, str) else ("", step)
        keys = frozenset(filter(None, held.split("+")))
        return Inputs(keys, keys, drag, "escape" in keys)


@pytest.fixture(scope="module")
def env():
    return ManipulationEnv(PickPlaceConfig(image_size=8), LiftScene())


def attempt(env, *script, seed=0, **config):
    window = ScriptedWindow(*script)
    desk = Desk(env, window, Hands(window), KeyboardConfig(**config))
    return desk.attempt(seed, 1), desk, window


def test_tab_switches_the_robot_and_success_ends_the_episode(env):
    decision, desk, hands = attempt(env, "", "a", "a", "space", "tab+r", *["r"] * 12, *[""] * 10)
    assert decision is Decision.KEEP
    data, info = desk.episode
    assert info.success
    assert (info.operator, info.embodiment, info.task) == ("keyboard", "ur5e", "put the cube on the pad")
    first, second = data["action"][:, :7], data["action"][:, 7:]
    np.testing.assert_allclose(first[:2, 1] - data["robot0_eef_pos"][0, 1], [0.015, 0.03], atol=1e-6)
    np.testing.assert_allclose(first[2:, :3], first[1:-1, :3][:1].repeat(len(first) - 2, 0), atol=1e-6)
    np.testing.assert_array_equal(first[:, 6], np.float32([0.085] * 2 + [0.0] * (len(first) - 2)))
    np.testing.assert_array_equal(second[:3], second[:1].repeat(3, 0))
    assert data["robot1_eef_pos"][-1, 2] > data["robot1_eef_pos"][0, 2] + 0.01
    assert (second[:, 6] == np.float32(0.085)).all()
    for feature in env.data_spec.features:
        assert data[feature.key].shape == (len(first), *feature.shape)
        assert data[feature.key].dtype == feature.dtype
    assert hands.pictures[0].shape == (SIZE[1], SIZE[0], 3)
    assert (hands.pictures[-1] != hands.pictures[0]).any()


def test_tab_goes_round_the_robots_one_by_one_and_all_together(env):
    _, desk, _ = attempt(env, "a", "tab+a", "tab+a", "tab+a", "return")
    action = desk.episode[0]["action"]
    moved = np.abs(np.diff(action[:, [1, 8]], axis=0)) > 0.01
    np.testing.assert_array_equal(moved, [[False, True], [True, True], [True, False]])


def test_steps_are_never_faster_than_real_time(env):
    begun = now_ns()
    _, desk, _ = attempt(env, *["d"] * 8, "return")
    steps = len(desk.episode[0]["action"])
    assert steps == 8
    assert now_ns() - begun >= steps * round(1e9 * env.dt)


def test_nothing_is_recorded_before_the_first_movement(env):
    """Keys that decide nothing and move nothing do not begin it; what was recorded last is exact."""
    decision, desk, _ = attempt(env, "", "return", "left shift", "tab", "w+s", "d", "", "return")
    data, info = desk.episode
    assert decision is Decision.KEEP
    assert not info.success
    assert len(data["action"]) == 2
    np.testing.assert_array_equal(data["action"][0], data["action"][1])


class ScriptedDevice:
    """In the place of a device: what it says at one control step after another."""

    def __init__(self, *script):
        self.script = iter(script)

    def steering(self):
        return next(self.script)


def test_a_device_is_used_beside_the_keys(env):
    """It moves the tool while its clutch is closed, and its buttons decide as keys do."""
    away, none = np.array([1.0, 0, 0, 0, 0, 0]), np.zeros(len(BUTTONS), np.int64)
    keep = none.copy()
    keep[BUTTONS.index(Button.SUCCESS)] = 1
    said = [Steering(away, False, none), Steering(away, True, none), Steering(away, True, none)]
    window = ScriptedWindow("", "", "d", "")
    hands = Hands(window, ScriptedDevice(*said, Steering(away, False, keep)))
    desk = Desk(env, window, hands, GamepadConfig())
    assert desk.attempt(0, 1) is Decision.KEEP
    data, info = desk.episode
    assert info.operator == "gamepad"
    assert len(data["action"]) == 2
    moved = data["action"][:, :2] - data["robot0_eef_pos"][0, :2]
    np.testing.assert_allclose(moved, [[0.015, 0.0], [0.03, -0.015]], atol=1e-6)


def test_equal_seeds_give_equal_beginnings_and_others_differ(env):
    starts = [attempt(env, "space", "return", seed=seed)[1].episode[0] for seed in (3, 3, 4)]
    for key, value in starts[0].items():
        np.testing.assert_array_equal(starts[1][key], value)
    assert not np.array_equal(starts[2]["robot0_eef_pos"], starts[0]["robot0_eef_pos"])


def test_a_mouse_drag_moves_the_tool_as_far_as_the_mouse(env):
    _, desk, _ = attempt(env, (0.02, -0.01), "return")
    data, camera = desk.episode[0], env.world.model.camera("video").id
    rotation = env.world.data.cam_xmat[camera].reshape(3, 3)
    seen = [
        (point - env.world.data.cam_xpos[camera]) @ rotation
        for point in (data["robot0_eef_pos"][0], data["action"][0, :3])
    ]
    heights = [point[:2] / -point[2] / (2 * np.tan(np.radians(45.0) / 2)) for point in seen]
    np.testing.assert_allclose(heights[1] - heights[0], [0.02, 0.01], atol=1e-5)


@pytest.mark.parametrize(
    ("script", "decision"),
    [
        (["a", "a", "backspace"], Decision.ANEW),
        (["backspace"], Decision.ANEW),
        (["a", "escape"], Decision.END),
    ],
)
def test_episodes_can_be_thrown_away(env, script, decision):
    given, desk, _ = attempt(env, *script)
    assert given is decision
    assert not hasattr(desk, "episode")


def test_a_success_can_still_be_thrown_away_for_a_while(env):
    lift = ["tab+r", *["r"] * 12]
    steps = len(attempt(env, *lift, *[""] * 10)[1].episode[0]["action"])
    decision, desk, _ = attempt(env, *lift[:steps], "", "backspace")
    assert decision is Decision.ANEW
    assert not hasattr(desk, "episode")


def test_unstable_physics_is_never_recorded(env, monkeypatch, caplog):
    def explode(action):
        raise SimulationError("The physics became unstable.")

    monkeypatch.setattr(env, "step", explode)
    decision, desk, _ = attempt(env, "a")
    assert decision is Decision.ANEW
    assert not hasattr(desk, "episode")
    assert "became unstable" in caplog.text


def test_tasks_without_a_tool_are_refused():
    with pytest.raises(ConfigError, match=r"PushTEnv has none.*task=pick_place"):
        next(collect(KeyboardConfig(), PushTStateConfig(), [0]))


@pytest.mark.parametrize(
    ("words", "told"),
    [(["teleop=keyboard", "workers=2"], "give workers=1"), (["teleop=replay"], "give robot=sim")],
)
def test_what_a_window_cannot_do_is_refused(words, told, tmp_path, capsys):
    assert command.main(["collect", *words, f"runs={tmp_path}"]) == command.FAILED
    assert told in capsys.readouterr().err


def test_the_command_records_what_a_person_does_with_real_keys(screen, tmp_path):
    """One attempt is thrown away, then the tool comes nearer with a closed gripper until Enter."""
    output = tmp_path / "demos.zarr"
    words = ["task=pick_place", "teleop=keyboard", "episodes=1", f"output={output}", f"runs={tmp_path}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "robopolicy_launch", "collect", *words],
        env=screen.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    screen.wait_for(process, lambda picture: picture != screen.empty)
    beginning = screen.wait_for(process, lambda picture: picture == screen.picture())
    screen.do("keydown", "w")
    screen.wait_for_changes(process, 8)
    screen.do("keyup", "w", "key", "BackSpace")
    screen.wait_for(process, lambda picture: picture == beginning)
    screen.do("keydown", "s")
    screen.wait_for_changes(process, 8)
    screen.do("key", "space")
    screen.wait_for_changes(process, 8)
    screen.do("key", "Return", "keyup", "s")
    assert process.wait(60) == 0, process.communicate()
    store = DemoStore.open(output)
    action, position = store.array("action"), store.array("robot0_eef_pos")
    assert len(store) == 1
    assert store.episode_info(0).operator == "keyboard"
    # The person looks at the robot from the front: what comes nearer goes along the world's x axis.
    moves = action[:, :3] - position[0]
    np.testing.assert_allclose(moves[:, 1:], 0.0, atol=1e-5)
    assert (np.diff(moves[:, 0], prepend=0.0) > -1e-6).all()
    assert position[-1, 0] > position[0, 0] + 0.005
    np.testing.assert_allclose(position[:, 1:], position[:1, 1:].repeat(len(position), 0), atol=0.01)
    assert action[-1, 6] == 0.0
