"""Probe environments: so small that a sound method learns exact values within seconds, and a faulty one others.

After Andy Jones, "Debugging RL, Without the Agonizing Pain" (2021), whose probe environments are the first four here;
the fifth tells the two ends of an episode apart. One tries them in this order, as each takes for granted what those
before it have shown, and compares what the method has learned with `expected_values(gamma)`:

| probe | what a sound method learns | a fault, and what it learns instead |
|---|---|---|
| `ProbeConstant-v0` | V = 1 | bootstraps over a termination: 1 / (1 - gamma) |
| `ProbeObservation-v0` | V(o) = o | rewards beside the wrong observations, or none looked at: 0 |
| `ProbeDelay-v0` | V(0) = gamma, V(1) = 1 | no discount: V(0) = 1; no bootstrapping: V(0) = 0; a sum of \
rewards that goes on over the end of an episode: V(1) = 1 / (1 - gamma^2) |
| `ProbeAction-v0` | action 1, return 1 | the gradient's sign: return -1; the probability of another action: below 1 |
| `ProbeTruncation-v0` | V(1) = 1 / (1 - gamma), V(-1) = -1 | truncation taken for termination: V(1) = 1 / \
(1 - gamma / 2); termination for truncation: V(-1) = -1 / (1 - gamma); bootstrapping from the first observation of the \
next episode: V(1) far below |

With gamma 0.8 sound and faulty values lie well apart, and need little training. A method that learns of several
faults at once (discounts, ends) has several numbers off; then the first probe that fails says where to look.

With `continuous=true` the actions are a Box, for methods that have no others.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box, Discrete, Space

from rllab_envs.base import Environment, number, switch, whole
from rllab_envs.rendering import BLUE, GREY, INK, ORANGE, SOFT, Canvas, Frame

Floats: TypeAlias = npt.NDArray[np.float32]
Values: TypeAlias = npt.NDArray[np.float64]


class Probe(Environment):
    """What the probes share: an observation of one number from -1 to 1, and actions that change nothing.

    **Observation**: `Box(-1, 1, (1,), float32)`.

    **Actions**: `Discrete(1)`: there is only one, so that what is learned wrongly is learned wrongly by the values;
    with `continuous`, `Box(-1, 1, (1,))`, of which none makes a difference.

    Args:
        continuous: whether actions are a Box.
        render_mode: "ansi", "rgb_array" or None.

    Attributes:
        seen: the present observation.
        last: what was done last, and the reward of it; None at the start.

    Raises:
        ValueError: for other options.
    """

    metadata: dict[str, Any] = {**Environment.metadata, "ends_by_itself": True}
    changing: ClassVar[tuple[str, ...]] = ("seen", "steps", "last")

    def __init__(self, continuous: bool = False, render_mode: str | None = None) -> None:
        super().__init__(render_mode)
        self.continuous = switch("continuous", continuous)
        self.observation_space = Box(-1, 1, (1,), np.float32)
        self.action_space: Space[Any] = self._actions()
        self.seen, self.steps = 0.0, 0
        self.last: tuple[float, float] | None = None

    def _actions(self) -> Space[Any]:
        return Box(-1, 1, (1,), np.float32) if self.continuous else Discrete(1)

    def expected_values(self, gamma: float) -> tuple[Floats, Values]:
        """Return what a sound method learns: the observations that are acted on, (n, 1), and their values, (n,).

        They are those of the best policy, without any bonus for entropy.

        Raises:
            ValueError: for a discount that is not between 0 and 1, or so high that there is no value.
        """
        table = self._values(number("gamma", gamma, 0, 1))
        return np.array([[seen] for seen in table], np.float32), np.array(list(table.values()), np.float64)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Floats, dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed, options=options)
        self.steps, self.last = 0, None
        self.seen = self._first()
        return np.array([self.seen], np.float32), {}

    def step(self, action: Any) -> tuple[Floats, float, bool, bool, dict[str, Any]]:
        """Take a step.

        Raises:
            ValueError: for an action that is none of the space.
        """
        chosen = np.asarray(action, np.float64).reshape(-1)
        low, high = self._bounds
        if chosen.size != 1 or not low <= chosen[0] <= high:
            raise ValueError(f"{type(self).__name__} has actions of {self.action_space}, not {action!r}")
        done = float(chosen[0])
        self.steps += 1
        reward, self.seen, terminated, truncated = self._follow(done)
        self.last = done, reward
        return np.array([self.seen], np.float32), reward, terminated, truncated, {}

    @property
    def _bounds(self) -> tuple[float, float]:
        space = self.action_space
        if isinstance(space, Discrete):
            return float(space.start), float(space.start + space.n - 1)
        assert isinstance(space, Box)
        return float(space.low[0]), float(space.high[0])

    # --- what a probe says

    @abstractmethod
    def _values(self, gamma: float) -> dict[float, float]:
        """Return the values by observation."""

    def _first(self) -> float:
        """Return the first observation."""
        return 0.0

    @abstractmethod
    def _follow(self, action: float) -> tuple[float, float, bool, bool]:
        """Return reward, observation, terminated, truncated."""

    def _sign(self) -> float:
        """Return -1 or 1, each as often."""
        return 1.0 if self.np_random.random() < 0.5 else -1.0

    # --- looking

    def text(self) -> str:
        """Return a line: the step, the observation, the action, the reward."""
        done = "" if self.last is None else f", action {self.last[0]:g}, reward {self.last[1]:+g}"
        return f"step {self.steps}: observation {self.seen:g}{done}"

    def picture(self) -> Frame:
        """Return the observation as a disc on a line from -1 to 1, and the last action and reward as text."""
        canvas = Canvas(320, 160)
        canvas.write(16, 22, f"{type(self).__name__}, step {self.steps}", 15, INK, "lm")
        canvas.line([(40, 80), (280, 80)], GREY, 2)
        for tick in (-1, 0, 1):
            canvas.line([(160 + 120 * tick, 74), (160 + 120 * tick, 86)], GREY, 2)
            canvas.write(160 + 120 * tick, 106, f"{tick}", 12, SOFT)
        canvas.disc(160 + 120 * self.seen, 80, 12, BLUE if self.last is None or self.last[1] >= 0 else ORANGE)
        done = "no action yet" if self.last is None else f"action {self.last[0]:.3g}, reward {self.last[1]:+.3g}"
        canvas.write(16, 138, done, 13, SOFT, "lm")
        return canvas.frame()


class Constant(Probe):
    """One step, always the same observation, always the reward 1: V(0) = 1.

    **End**: terminated after the step, with the observation 0 again. Who bootstraps over it learns 1 / (1 - gamma).
    Zeros as observations, without any spread, are also a trial of what normalises them.
    """

    def _values(self, gamma: float) -> dict[float, float]:
        return {0.0: 1.0}

    def _follow(self, action: float) -> tuple[float, float, bool, bool]:
        return 1.0, 0.0, True, False


class Observation(Probe):
    """One step, the observation -1 or 1, each as often, and the same as reward: V(-1) = -1, V(1) = 1.

    **End**: terminated after the step, with the observation 0, which nobody acts on. Who puts rewards beside other
    observations, those of the next episode, say, or does not look at them, learns the mean, 0. Who takes the
    observation after the step for the one before it learns nothing about -1 and 1.
    """

    def _values(self, gamma: float) -> dict[float, float]:
        return {-1.0: -1.0, 1.0: 1.0}

    def _first(self) -> float:
        return self._sign()

    def _follow(self, action: float) -> tuple[float, float, bool, bool]:
        return self.seen, 0.0, True, False


class Delay(Probe):
    """Some steps, and the reward 1 for the last one: the value is gamma to the power of the steps that follow this one.

    **Observation**: from 0 at the start to 1 before the last step, in equal parts.
    **End**: terminated after the last step, with the observation 1 again. With two steps, who does not discount
    learns V(0) = 1 instead of gamma, who does not bootstrap 0, and who goes on summing over the end of the episode
    V(1) = 1 / (1 - gamma^2). With more steps than n, returns of n steps are put to the test.

    Args:
        steps: in an episode, from 2 to 100.
        continuous: whether actions are a Box.
        render_mode: "ansi", "rgb_array" or None.

    Raises:
        ValueError: for other options.
    """

    def __init__(self, steps: int = 2, continuous: bool = False, render_mode: str | None = None) -> None:
        self.length = whole("steps", steps, 2, 100)
        super().__init__(continuous, render_mode)

    def _values(self, gamma: float) -> dict[float, float]:
        last = self.length - 1
        return {step / last: gamma ** (last - step) for step in range(self.length)}

    def _follow(self, action: float) -> tuple[float, float, bool, bool]:
        over = self.steps >= self.length
        return float(over), min(self.steps / (self.length - 1), 1.0), over, False


class Action(Probe):
    """One step, and a reward for the right action: V(0) = 1, reached by action 1.

    **Actions**: `Discrete(2)`: 1 is paid 1, and 0 is paid -1: the first action, which an argmax without any values
    takes, is the wrong one. With `contextual` the observation is -1 or 1, each as often, and says which action is
    right: 0 or 1. With `continuous`, `Box(-1, 3, (1,))`: bounds that are not alike. The best action is then 2, and
    each unit beside it costs 2/3, so that actions that are not scaled to the bounds, from -1 to 1, earn 1/3 at most;
    `contextual` then mirrors the interval for the observation -1, and the best action is 0.

    **Reward**: from -1 to 1. **End**: terminated after the step, with the observation 0. Who walks up the gradient
    instead of down, or takes the values for costs, ends at -1; who updates another action than the one taken, or does
    not look at the observation where it matters, at 0.

    Args:
        contextual: whether the observation says which action is right.
        continuous: whether actions are a Box.
        render_mode: "ansi", "rgb_array" or None.

    Raises:
        ValueError: for other options.
    """

    LOW, HIGH, BEST = -1.0, 3.0, 2.0

    def __init__(self, contextual: bool = False, continuous: bool = False, render_mode: str | None = None) -> None:
        self.contextual = switch("contextual", contextual)
        super().__init__(continuous, render_mode)

    def _actions(self) -> Space[Any]:
        return Box(self.LOW, self.HIGH, (1,), np.float32) if self.continuous else Discrete(2)

    def _values(self, gamma: float) -> dict[float, float]:
        return {-1.0: 1.0, 1.0: 1.0} if self.contextual else {0.0: 1.0}

    def _first(self) -> float:
        return self._sign() if self.contextual else 0.0

    def best_action(self, seen: float) -> float:
        """Return the action that is paid 1."""
        mirrored = self.contextual and seen < 0
        if self.continuous:
            return self.LOW + self.HIGH - self.BEST if mirrored else self.BEST
        return float(not mirrored)

    def heuristic(self, observation: npt.ArrayLike) -> Any:
        """Return the action that is paid 1."""
        best = self.best_action(float(np.asarray(observation).reshape(-1)[0]))
        return np.array([best], np.float32) if self.continuous else int(best)

    def _follow(self, action: float) -> tuple[float, float, bool, bool]:
        beside = abs(action - self.best_action(self.seen))  # 0 or 1 if discrete, up to 3 if not
        return 1.0 - (2 / 3 if self.continuous else 2.0) * beside, 0.0, True, False


class Truncation(Probe):
    """Two kinds of episodes, told apart by the observation: one that ends, and one that is only cut off.

    **Observation**: 1 or -1, each as often, and the same during the whole episode, its end included.
    **Reward**: the observation, in each step.
    **End**: with the observation -1, terminated after one step: V(-1) = -1. With 1, nothing ever ends, but it is cut
    off (truncated) after `limit` steps: V(1) = 1 + gamma * V(1) = 1 / (1 - gamma), whatever the limit.

    With the limit of 2 and gamma 0.8, V(1) is 5 and V(-1) is -1. Who takes truncation for termination learns
    V(1) = 1 / (1 - gamma / 2) = 1.67; who takes termination for truncation V(-1) = -1 / (1 - gamma) = -5; who
    bootstraps from the first observation of the next episode instead of the true final one
    V(1) = (1 - gamma / 4) / (1 - 3 gamma / 4) = 2.

    Args:
        limit: steps after which an episode is cut off, at least 2; the higher, the nearer faulty values are to sound
            ones.
        continuous: whether actions are a Box.
        render_mode: "ansi", "rgb_array" or None.

    Raises:
        ValueError: for other options.
    """

    def __init__(self, limit: int = 2, continuous: bool = False, render_mode: str | None = None) -> None:
        self.limit = whole("limit", limit, 2)
        super().__init__(continuous, render_mode)

    def _values(self, gamma: float) -> dict[float, float]:
        if gamma == 1:
            raise ValueError("gamma is below 1 here: what goes on for ever has no value without a discount")
        return {-1.0: -1.0, 1.0: 1 / (1 - gamma)}

    def _first(self) -> float:
        return self._sign()

    def _follow(self, action: float) -> tuple[float, float, bool, bool]:
        goes_on = self.seen > 0
        return self.seen, self.seen, not goes_on, goes_on and self.steps >= self.limit
