"""Foreign environments in real processes: they fit, they fail, they leave nothing behind."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from robopolicy_datasets.errors import ConfigError, SimulationError, SpecError, UnknownNameError
from robopolicy_sim.bridge.configs import BridgeConfig, ForeignExpertConfig
from robopolicy_sim.conformance import check_env

pytest.importorskip("gymnasium", reason="the extra 'sim' is not installed")
from robopolicy_sim.bridge.environment import BridgedEnv
from robopolicy_sim.bridge.expert import demonstrate
from robopolicy_sim.rollout import rollout

FOLDER = Path(__file__).parent


@pytest.fixture(scope="session")
def python(tmp_path_factory) -> str:
    """An interpreter of another environment, which has our numpy and gymnasium but nothing of robopolicy."""
    folder = tmp_path_factory.mktemp("foreign") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for name in ("numpy", "gymnasium", "cloudpickle", "farama_notifications", "typing_extensions"):
        origin = Path(importlib.util.find_spec(name).origin)
        path = origin.parent if origin.name == "__init__.py" else origin
        (site / path.name).symlink_to(path)
    return str(folder / "bin" / "python")


@pytest.fixture
def make(python):
    """Makes environments of ``foreign_tasks`` and closes them."""
    made = []

    def make_env(name="Point", **settings):
        config = BridgeConfig(python, f"foreign_tasks:test/{name}-v0", folders=[str(FOLDER)], **settings)
        made.append(BridgedEnv(config))
        return made[-1]

    yield make_env
    for env in made:
        env.close()


def gone(pid: int) -> bool:
    """Whether there is no such process, not even a zombie."""
    return not Path(f"/proc/{pid}").exists()


def until(condition) -> bool:
    for _ in range(500):
        if condition():
            return True
        time.sleep(0.02)
    return False


def test_a_foreign_environment_conforms(make):
    assert len(check_env(lambda: make(images=["view"]))) > 15


def test_its_words_are_ours(make, python):
    env = make(images=["render", "view"], kwargs={"size": 0.001})
    assert env.data_spec.keys() == ["camera0_rgb", "camera1_rgb", "count", "position", "action"]
    assert (env.dt, env.max_steps) == (0.05, 40)
    observation, info = env.reset(seed=1)
    assert np.abs(observation["position"]).max() <= 0.001
    assert observation["camera0_rgb"].shape == (6, 4, 3)
    assert observation["camera0_rgb"].max() == 7
    assert (info["success"], info["score"]) == (False, 0.0)
    assert "many" not in info
    observation, reward, terminated, truncated, info = env.step(np.array([0.01, 0.0], np.float32))
    assert observation["count"].tolist() == [1.0]
    assert observation["camera1_rgb"].max() == 1
    assert (reward, terminated, truncated, info["score"]) == (-1.0, True, False, 1.0)
    assert info["python"] == python


def test_settings_come_before_what_the_environment_says(make):
    env = make(rate_hz=5.0, max_steps=3, success="other")
    env.reset(seed=0)
    assert env.dt == 0.2
    steps = [env.step(np.zeros(2))[2:] for _ in range(3)]
    assert [truncated for _, truncated, _ in steps] == [False, False, True]
    assert not any(info["success"] for _, _, info in steps)


def fail(make, fault: str) -> tuple[str, BridgedEnv]:
    """Lets an environment fail in this way and returns what is said about it."""
    faults = ("die", "exit", "hang", "raise", "nan", "garbage", "nonsense", "shape", "print", "child")
    env = make("Faulty")
    env.reset(seed=0)
    if fault == "hang":
        env._process._connection.settimeout(0.5)  # after the start, which may take its time
    with pytest.raises(SimulationError) as caught:
        env.step(np.array([faults.index(fault) / 100, 0.0]))
    return str(caught.value), env


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("die", "was ended by SIGKILL"),
        ("exit", "ended with exit status 3. Its last lines: the motor is on fire"),
        ("garbage", "do not understand each other"),
        ("nonsense", "answered 'step' with something else"),
        ("hang", "did not answer 'step' within 0.5 s and was ended"),
    ],
)
def test_a_process_that_fails_is_ended_and_its_cause_told(make, fault, words):
    message, env = fail(make, fault)
    assert words in message
    assert "test/Faulty-v0" in message
    assert gone(env._process.pid)
    with pytest.raises(SimulationError, match="Faulty"):
        env.reset(seed=0)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("raise", "failed in 'step': RuntimeError: the motor is too hot"),
        ("nan", "'position' as float64[2] at step 1, [nan nan]"),
        ("shape", "'position' as float64[3]"),
    ],
)
def test_an_environment_that_fails_can_go_on(make, fault, words):
    message, env = fail(make, fault)
    assert words in message
    assert env.reset(seed=0)[1]["score"] == 0.0


def test_what_it_prints_disturbs_nothing(make):
    env = make("Faulty")
    env.reset(seed=0)
    for _ in range(3):
        assert env.step(np.array([0.08, 0.0]))[0]["count"] > 0


def test_what_it_starts_is_ended_with_it(make):
    _, env = fail(make, "child")

    def orphans() -> list[str]:
        listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
        return [line for line in listed.splitlines() if "robopolicy-orphan" in line]

    assert until(lambda: not orphans())
    assert gone(env._process.pid)


def test_closing_ends_the_process_and_so_does_forgetting_it(make, python):
    env = make()
    pid = env._process.pid
    assert not gone(pid)
    env.close()
    env.close()
    assert gone(pid)
    config = BridgeConfig(python, "foreign_tasks:test/Point-v0", folders=[str(FOLDER)])
    pid = BridgedEnv(config)._process.pid
    assert until(lambda: gone(pid))


def test_it_ends_with_its_user_however_that_ends(python):
    program = (
        "import sys, os, signal, numpy as np\n"
        "from robopolicy_sim.bridge.configs import BridgeConfig\n"
        "from robopolicy_sim.bridge.environment import BridgedEnv\n"
        f"config = BridgeConfig({python!r}, 'foreign_tasks:test/Faulty-v0', folders=[{str(FOLDER)!r}])\n"
        "env = BridgedEnv(config)\n"
        "env.reset(seed=0)\n"
        "print(env._process.pid, flush=True)\n"
        "env.step(np.array([0.02, 0.0]))\n"  # hangs
    )
    user = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    pid = int(user.stdout.readline())
    user.send_signal(signal.SIGKILL)
    user.wait()
    user.stdout.close()
    # Nobody of ours waits for an orphan; in a container it may stay as a zombie of process 1.
    assert until(lambda: gone(pid) or "State:\tZ" in Path(f"/proc/{pid}/status").read_text())


def test_what_cannot_be_bridged_is_refused(make, python, tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere/python.*cannot be started"):
        BridgedEnv(BridgeConfig("/nowhere/python", "Pendulum-v1"))
    with pytest.raises(SimulationError, match=r"'make': .*NoSuch"):
        BridgedEnv(BridgeConfig(python, "NoSuch-v0"))
    with pytest.raises(SimulationError, match="ValueError: no such world"):
        make("Odd", kwargs={"odd": "make"}, max_steps=5)
    with pytest.raises(SpecError, match="'action' is a Discrete"):
        make("Odd", kwargs={"odd": "action"}, max_steps=5)
    with pytest.raises(SpecError, match="'state' is a Text"):
        make("Odd", kwargs={"odd": "text"}, max_steps=5)
    with pytest.raises(SpecError, match="camera0_rgb"):
        make("Odd", kwargs={"odd": "image"}, images=["state"], max_steps=5)
    with pytest.raises(ConfigError, match="does not say its max_steps"):
        make("Odd", kwargs={"odd": ""})
    with pytest.raises(UnknownNameError, match="Did you mean 'view'"):
        make(images=["vew"])


def test_an_interpreter_without_gymnasium_says_so(python, tmp_path):
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    with pytest.raises(SimulationError, match=r"exit status 1.*No module named 'numpy'"):
        BridgedEnv(BridgeConfig(str(bare / "bin" / "python"), "Pendulum-v1"))


def test_the_foreign_expert_demonstrates(make, python):
    task = BridgeConfig(python, "foreign_tasks:test/Point-v0", folders=[str(FOLDER)], max_steps=6)
    episodes = [data for data, _ in demonstrate(ForeignExpertConfig(), task, range(8))]
    assert 0 < len(episodes) < 8  # some points are too far away
    for data in episodes:
        assert set(data) == {"position", "count", "view", "action"}
        moved = data["position"][:-1] + data["action"][:-1]
        assert np.allclose(moved, data["position"][1:], atol=1e-6)
    with pytest.raises(SimulationError, match="failed one after the other"):
        list(
            demonstrate(
                ForeignExpertConfig(), BridgeConfig(**{**vars(task), "kwargs": {"size": 50.0}}), range(60)
            )
        )
    odd = {"id": "foreign_tasks:test/Odd-v0", "kwargs": {"odd": ""}, "rate_hz": 9.0}
    with pytest.raises(SimulationError, match="expert_action"):
        next(demonstrate(ForeignExpertConfig(), BridgeConfig(**{**vars(task), **odd}), [0]))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_process_that_dies_is_a_failed_episode_and_the_next_has_another(python, workers):
    task = BridgeConfig(python, "foreign_tasks:test/Faulty-v0", folders=[str(FOLDER)], max_steps=4)
    env = BridgedEnv(task)
    env.close()

    class Policy:
        """Lets the first episode that it sees die; what the others print disturbs nothing."""

        spec, dt, observation_steps, action_steps = env.data_spec, env.dt, 1, 2

        def reset(self):
            self.calls = 0

        def infer(self, observation, *, seeds=None):
            actions = np.full((len(seeds), 2, 2), 0.08)
            actions[0] = 0.0 if self.calls == 0 else 0.08
            self.calls += 1
            return actions

    results = rollout(Policy(), task, range(4), batch_size=2, workers=workers)
    assert "was ended by SIGKILL" in (results[0].error or "")
    assert [each.error for each in results[1:]] == [None] * 3
    assert all(each.steps > 0 for each in results[1:])
