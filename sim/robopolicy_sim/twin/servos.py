"""What MuJoCo's position servos ask of the joints, as speeds and forces that motors of PyBullet take.

A servo pulls with ``stiffness (target - position) - damping velocity``. A motor of PyBullet holds a speed
as far as its force allows, so it is given the speed at which that pull would not change anything, and the
servo's force. The direct way, to apply the pull as a force, needs far shorter steps than ours: Bullet
integrates forces explicitly, and its joints have no armature.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from robopolicy_datasets.errors import SimulationError
from robopolicy_datasets.geometry import Array
from robopolicy_sim.rendering import import_mujoco


class Servos:
    """The position servos of a model, those on joints and those on fixed tendons (grippers).

    Args:
        model: a ``mujoco.MjModel``.

    Attributes:
        joints: indices ``[P]`` of the joints that are driven.
        forces: with which each is driven at most ``[P]`` [N, N m].

    Raises:
        SimulationError: an actuator is no position servo.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        pairs = [pair for servo in range(model.nu) for pair in self._driven(servo)]
        servos, joints, _ = np.array(pairs, dtype=np.int64).reshape(-1, 3).T
        self.joints = joints
        self._servos, self._positions = servos, model.jnt_qposadr[joints]
        # How much the servo's length changes with each joint.
        self._lengths = np.zeros((model.nu, len(joints)))
        self._lengths[servos, np.arange(len(joints))] = [coefficient for *_, coefficient in pairs]
        self._stiffness = model.actuator_gainprm[:, 0]
        damping = model.dof_damping[model.jnt_dofadr[joints]]
        self._damping = damping - model.actuator_biasprm[servos, 2]
        self.forces = model.actuator_forcerange[servos, 1]
        with np.errstate(divide="ignore"):
            self._fastest = self.forces / damping  # where the joint's own damping takes all of the force
        self._smoothed = model.actuator_actadr >= 0
        self._states = model.actuator_actadr[self._smoothed]
        time_constants = model.actuator_dynprm[self._smoothed, 0]
        self._approach = -np.expm1(-model.opt.timestep / time_constants)

    def speeds(self, data: Any) -> Array:
        """Advances the smoothed targets by one step, and returns what to move at.

        Args:
            data: the ``mujoco.MjData`` with the positions, and the targets in ``ctrl``.

        Returns:
            Speeds ``[P]`` of the driven joints [m/s, rad/s].
        """
        data.act[self._states] += self._approach * (data.ctrl[self._smoothed] - data.act[self._states])
        targets = data.ctrl.copy()
        targets[self._smoothed] = data.act[self._states]
        pull = self._stiffness * (targets - self._lengths @ data.qpos[self._positions])
        speeds = self._lengths.T @ pull / self._damping
        return np.minimum(np.maximum(speeds, -self._fastest), self._fastest)

    def _driven(self, servo: int) -> list[tuple[int, int, float]]:
        """Returns (servo, joint, change of the servo's length with the joint) of what a servo drives."""
        model, mujoco = self._model, import_mujoco()
        kinds = mujoco.mjtTrn
        kind, target = model.actuator_trntype[servo], int(model.actuator_trnid[servo, 0])
        gain, bias = model.actuator_gainprm[servo, 0], model.actuator_biasprm[servo, 1]
        if gain > 0 and gain == -bias:
            if kind == kinds.mjTRN_JOINT:
                return [(servo, target, 1.0)]
            if kind == kinds.mjTRN_TENDON:
                first = int(model.tendon_adr[target])
                wraps = range(first, first + int(model.tendon_num[target]))
                return [(servo, int(model.wrap_objid[wrap]), float(model.wrap_prm[wrap])) for wrap in wraps]
        raise SimulationError(
            f"The actuator '{model.actuator(servo).name}' is no position servo, and task.simulator=pybullet "
            "knows only these: on a joint, or on a fixed tendon. Take task.simulator=mujoco."
        )
