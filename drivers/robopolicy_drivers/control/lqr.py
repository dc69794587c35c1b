"""Linear-quadratic regulators of discrete systems ``x' = A x + B u``, with saturation.

Formulas: Anderson, Moore, "Optimal Control: Linear Quadratic Methods", chapters 2 and 4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, solve_discrete_are

from robopolicy_datasets.errors import ConfigError, SpecError
from robopolicy_datasets.geometry import Array


@dataclass(frozen=True)
class SaturatedLqr:
    """The regulator ``u = clip(u0 - K (x - x0))``.

    Attributes:
        gain: K ``[m, n]``.
        value: P of the cost to go ``(x - x0)^T P (x - x0)`` where nothing saturates ``[n, n]``.
        state: x0 ``[n]``.
        input: u0 ``[m]``.
        lower, upper: of the inputs ``[m]``.
    """

    gain: Array
    value: Array
    state: Array
    input: Array
    lower: Array
    upper: Array

    @classmethod
    def design(
        cls,
        system: tuple[Array, Array],
        weights: tuple[Array, Array],
        *,
        state: Array | float = 0.0,
        input: Array | float = 0.0,
        lower: Array | float = -np.inf,
        upper: Array | float = np.inf,
    ) -> SaturatedLqr:
        """Solves the discrete algebraic Riccati equation.

        Args:
            system: A ``[n, n]`` and B ``[n, m]``.
            weights: Q ``[n, n]`` of ``(x - x0)`` and R ``[m, m]`` of ``(u - u0)``.
            state: x0, at rest with u0.
            input: u0.
            lower: of the inputs.
            upper: of the inputs.

        Raises:
            ConfigError: no regulator stabilises the system at a finite cost.
        """
        a, b = system
        try:
            value = solve_discrete_are(a, b, *weights)
        except LinAlgError as error:
            raise ConfigError(
                f"There is no regulator for this system and these weights ({error}); its unstable parts must "
                "be reached by the inputs and seen by Q, and R must be positive definite."
            ) from error
        gain = np.linalg.solve(weights[1] + b.T @ value @ b, b.T @ value @ a)
        n, m = b.shape
        sized = (
            np.broadcast_to(part, size) for part, size in ((state, n), (input, m), (lower, m), (upper, m))
        )
        return cls(gain, value, *sized)

    def command(self, state: Array) -> Array:
        """Returns the input ``[..., m]`` at a state ``[..., n]``."""
        return np.clip(self.input - (state - self.state) @ self.gain.T, self.lower, self.upper)


class TrackingLqr:
    """Follows references over H steps, optimally where the inputs have no limits.

    The cost of a reference r is the sum over the steps k = 1 to H of
    ``(x_k - r_k)^T Q (x_k - r_k) + u_{k-1}^T R u_{k-1}``, with another Q at the last step.

    Args:
        system: A ``[n, n]`` and B ``[n, m]``, or those of each step ``[H, n, n]`` and ``[H, n, m]``.
        weights: Q ``[n, n]`` and R ``[m, m]``, symmetric.
        steps: H.
        terminal: Q of the last step ``[n, n]``; that of the others, where it is not given.

    Raises:
        ConfigError: there is no step.
    """

    def __init__(
        self,
        system: tuple[Array, Array],
        weights: tuple[Array, Array],
        *,
        steps: int,
        terminal: Array | None = None,
    ) -> None:
        if steps < 1:
            raise ConfigError(f"TrackingLqr got steps={steps}; give at least 1.")
        self._steps = steps
        self._a = np.broadcast_to(system[0], (steps, *system[0].shape[-2:]))
        self._b = np.broadcast_to(system[1], (steps, *system[1].shape[-2:]))
        self._q = np.repeat(np.asarray(weights[0], np.float64)[None], steps, axis=0)
        self._r = np.asarray(weights[1], np.float64)
        if terminal is not None:
            self._q[-1] = terminal
        self.gains, self._forward = self._riccati()

    def command(self, reference: Array, state: Array) -> Array:
        """Returns the first input ``[B, m]``; what limits there are is for the caller to clip to.

        Args:
            reference: ``[B, H, n]``.
            state: now ``[B, n]``.
        """
        return self.predict(reference, state)[0][:, 0]

    def predict(self, reference: Array, state: Array) -> tuple[Array, Array]:
        """Returns the best inputs ``[B, H, m]`` and the states ``[B, H, n]`` that they lead to.

        Args:
            reference: ``[B, H, n]``.
            state: now ``[B, n]``.

        Raises:
            SpecError: a shape does not fit.
        """
        size, count = self._b.shape[-2:]
        if reference.shape != (len(state), self._steps, size) or state.shape[1:] != (size,):
            raise SpecError(
                f"The reference has the shape {list(reference.shape)} and the state {list(state.shape)}; "
                f"[B, {self._steps}, {size}] and [B, {size}] are needed."
            )
        ahead = np.einsum("kij,bkj->bki", self._q, reference)
        for step in reversed(range(self._steps - 1)):
            closed = self._a[step + 1] - self._b[step + 1] @ self.gains[step + 1]
            ahead[:, step] += ahead[:, step + 1] @ closed
        inputs, states = np.empty((len(state), self._steps, count)), np.empty_like(ahead)
        for step in range(self._steps):
            inputs[:, step] = ahead[:, step] @ self._forward[step].T - state @ self.gains[step].T
            state = state @ self._a[step].T + inputs[:, step] @ self._b[step].T
            states[:, step] = state
        return inputs, states

    def cost_and_grad(self, reference: Array, state: Array) -> tuple[Array, Array]:
        """Returns the least cost of following a reference ``[B]``, and its gradient ``[B, H, n]``.

        By the envelope theorem the gradient is ``-2 Q (x_k - r_k)`` at the optimum.

        Args:
            reference: ``[B, H, n]``.
            state: now ``[B, n]``.

        Raises:
            SpecError: a shape does not fit.
        """
        inputs, states = self.predict(reference, state)
        apart = states - reference
        weighted = np.einsum("kij,bkj->bki", self._q, apart)
        effort = np.einsum("bki,ij,bkj->b", inputs, self._r, inputs)
        return np.sum(apart * weighted, axis=(1, 2)) + effort, -2.0 * weighted

    def _riccati(self) -> tuple[Array, Array]:
        """Returns the gains of the state ``[H, m, n]`` and of the cost to go's slope ``[H, m, n]``."""
        size, count = self._b.shape[-2:]
        gains, forward = np.empty((2, self._steps, count, size))
        value = self._q[-1]
        for step in reversed(range(self._steps)):
            a, b = self._a[step], self._b[step]
            forward[step] = np.linalg.solve(self._r + b.T @ value @ b, b.T)
            gains[step] = forward[step] @ value @ a
            value = a.T @ value @ (a - b @ gains[step]) + (self._q[step - 1] if step else 0.0)
        return gains, forward
