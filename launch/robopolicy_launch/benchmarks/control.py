"""Controllers: inverse kinematics beside MuJoCo and mink, predictive control beside OSQP and casadi.

mink, daqp, OSQP and casadi are no dependencies of ours; rows of those that are not installed are left out.
"""

from __future__ import annotations

import importlib
import logging
import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from robopolicy_datasets.geometry import matrix_to_quaternion, matrix_to_rot6d
from robopolicy_drivers.control.differential_ik import DifferentialIK
from robopolicy_drivers.control.flying_arm import FlyingArmState
from robopolicy_drivers.control.kinematics import Kinematics
from robopolicy_drivers.control.quadratic_program import Bounds, solve_quadratic_program
from robopolicy_drivers.control.whole_body_mpc import WholeBodyMpc
from robopolicy_drivers.embodiments import load_embodiment
from robopolicy_launch.benchmarks import Row
from robopolicy_launch.benchmarks._casadi_mpc import CasadiMpc
from robopolicy_launch.benchmarks._timing import side_by_side, threads
from robopolicy_sim.rendering import import_mujoco
from robopolicy_sim.worlds.portrait import embodiment_model

PERIOD_S = 0.02
GATE_MS = 10.0  # half the time between two commands at 50 Hz
DAMPING = 0.01

_log = logging.getLogger(__name__)


def run(*, seconds: float = 3.0, solves: int = 500) -> Iterator[Row]:
    """Measures the controllers.

    Args:
        seconds: to spend on each row.
        solves: of the predictive controller, for its percentiles.
    """
    with threads(1):
        yield from _inverse_kinematics(seconds)
        yield from _predictive_control(seconds, solves)


def _peer(*names: str) -> list[ModuleType] | None:
    """Returns modules, or None with a word about it where one is not installed."""
    try:
        return [importlib.import_module(name) for name in names]
    except ImportError:
        _log.warning("%s is left out: it is not installed. pip install %s", names[0], " ".join(names))
        return None


def _inverse_kinematics(seconds: float) -> Iterator[Row]:
    embodiment = load_embodiment("ur5e")
    kinematics = Kinematics(embodiment)
    ik = DifferentialIK(kinematics, period_s=PERIOD_S, iterations=1)
    home = embodiment.home_positions
    target = kinematics.forward(home + 0.05)
    model = embodiment_model(embodiment)

    def ours() -> None:
        ik.solve(target[None], home[None])

    milliseconds = side_by_side(ours, _mujoco_tick(model, home, target), seconds=seconds)
    yield _row("control_ik_floor", milliseconds, "MuJoCo's kinematics and a damped step")
    if peers := _peer("mink", "daqp"):
        milliseconds = side_by_side(ours, _mink_tick(peers[0], model, home, target), seconds=seconds)
        yield _row("control_ik_mink", milliseconds, "mink with daqp and joint limits")


def _row(name: str, milliseconds: tuple[float, float], compared_with: str) -> Row:
    return Row(name, 1e3 * milliseconds[0], 1e3 * milliseconds[1], "us", compared_with)


def _joints_in(model: Any, positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Positions of all of a model's joints; those of the arm come first."""
    return np.concatenate([positions, model.key_qpos[0][len(positions) :]])


def _mujoco_tick(model: Any, home: NDArray[np.float64], target: NDArray[np.floating]) -> Callable[[], None]:
    mujoco = import_mujoco()
    data, site, joints = mujoco.MjData(model), model.site("tcp").id, len(home)
    linear, angular = np.zeros((2, 3, model.nv))
    quaternion, now, turn = matrix_to_quaternion(target[:3, :3]), np.zeros(4), np.zeros(3)
    start = _joints_in(model, home)

    def tick() -> None:
        data.qpos[:] = start
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_jacSite(model, data, linear, angular, site)
        mujoco.mju_mat2Quat(now, data.site_xmat[site])
        mujoco.mju_subQuat(turn, quaternion, now)
        error = np.concatenate([target[:3, 3] - data.site_xpos[site], turn])
        jacobian = np.concatenate([linear, angular])[:, :joints]
        jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + DAMPING**2 * np.eye(6), error)

    return tick


def _mink_tick(
    mink: ModuleType, model: Any, home: NDArray[np.float64], target: NDArray[np.floating]
) -> Callable[[], None]:
    configuration = mink.Configuration(model, _joints_in(model, home))
    task = mink.FrameTask("tcp", "site", position_cost=1.0, orientation_cost=1.0)
    task.set_target(mink.SE3.from_matrix(np.array(target)))
    limits = [mink.ConfigurationLimit(model)]

    def tick() -> None:
        configuration.update(_joints_in(model, home))
        mink.solve_ik(configuration, [task], PERIOD_S, "daqp", damping=DAMPING**2, limits=limits)

    return tick


def _scene(steps: int) -> tuple[Kinematics, NDArray[np.float64], FlyingArmState]:
    """A flying arm at home, and a way of its tool of 10 cm to the side and 5 cm up."""
    kinematics = Kinematics(load_embodiment("aerial_manipulator"))
    home = kinematics.embodiment.home_positions[None]
    zero, level = np.zeros((1, 3)), np.array([[1.0, 0.0, 0.0, 0.0]])
    tool = kinematics.forward(home[0])
    share = np.arange(1, steps + 1)[:, None] / steps
    positions = tool[:3, 3] + share * np.array([0.0, 0.1, 0.05])
    rot6d = np.broadcast_to(matrix_to_rot6d(tool[:3, :3]), (steps, 6))
    reference = np.concatenate([positions, rot6d], axis=1)[None]
    return kinematics, reference, FlyingArmState(zero, level, zero, zero, home, home)


def _predictive_control(seconds: float, solves: int) -> Iterator[Row]:
    steps = 8
    kinematics, reference, state = _scene(steps)
    mpc = WholeBodyMpc(kinematics, steps=steps)
    warm = mpc.converge(reference, state).inputs
    random = np.random.default_rng(0)
    times = []
    for _ in range(solves):
        shaken = reference + random.normal(0, 0.01, (1, steps, 9)) * (np.arange(9) < 3)
        begun = time.process_time()
        mpc.solve(shaken, state, warm)
        times.append(1e3 * (time.process_time() - begun))
    for percent in (50, 99):
        figure = float(np.percentile(times, percent))
        yield Row(f"control_mpc_p{percent}", figure, GATE_MS, "ms", "half a period at 50 Hz")
    if peers := _peer("casadi"):
        casadi = CasadiMpc(peers[0], kinematics, state, steps=steps)
        milliseconds = side_by_side(
            lambda: mpc.converge(reference, state, warm),
            lambda: casadi.solve(reference, state),
            seconds=seconds,
        )
        yield Row("control_mpc_converged", *milliseconds, "ms", "casadi with IPOPT, warm as ours")
    if peers := _peer("osqp"):
        yield _quadratic_program(peers[0], seconds)


def _quadratic_program(osqp: ModuleType, seconds: float) -> Row:
    """A problem of the predictive controller's size and accuracy: 80 variables, 32 sums."""
    random = np.random.default_rng(0)
    root = random.normal(size=(144, 80))
    hessian, gradient = root.T @ root / 144 + 0.1 * np.eye(80), random.normal(size=80)
    rows = np.kron(np.tril(np.ones((8, 8))), np.eye(4, 10))
    one, much = np.ones(80), np.ones(32)
    bounds = Bounds(-one, one, rows, -much, much)

    def ours() -> None:
        solve_quadratic_program(hessian[None], gradient[None], bounds, np.zeros((1, 80)), tolerance=1e-6)

    def theirs() -> None:
        solver = osqp.OSQP()
        constraints = sparse.csc_matrix(np.vstack([np.eye(80), rows]))
        upper = np.concatenate([one, much])
        accuracy = {"eps_abs": 1e-6, "eps_rel": 1e-6, "max_iter": 20000, "verbose": False}
        solver.setup(sparse.csc_matrix(hessian), gradient, constraints, -upper, upper, **accuracy)
        solver.solve()

    milliseconds = side_by_side(ours, theirs, seconds=seconds)
    return Row("control_mpc_program", *milliseconds, "ms", "OSQP, set up and solved")
