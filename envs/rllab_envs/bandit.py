"""Bandit-v0: arms to pull, of which one pays best."""

from __future__ import annotations

from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Discrete

from rllab_envs.base import Environment, discrete, generator, generator_state, number, whole
from rllab_envs.rendering import BLUE, GREEN, INK, LINE, ORANGE, SKY, SOFT, Canvas, Frame

Floats: TypeAlias = npt.NDArray[np.float64]

_SHOWN = 20
"""Arms that the text has a line for."""


class BanditEnv(Environment):
    """A bandit with several arms, each of which pays around a mean of its own.

    The testbed of Sutton & Barto, "Reinforcement Learning: An Introduction" (2018), section 2.3; drifting, that of
    exercise 2.5.

    **Observation**: `Discrete(1)`, always 0: there is nothing to see.

    **Actions**: `Discrete(arms)`: the arm to pull.

    **Reward**: normal, around the mean of the arm pulled, with the standard deviation `noise`. The means were drawn
    once for each `instance`, normal around 0 with the standard deviation `spread`: environments of one instance have
    the same arms, those of training and of evaluation, too. With another seed only the rewards are others.

    **End**: terminated after `pulls` pulls; by default after each one, so that an episode's return is a reward and a
    discount changes nothing.

    **Known**: `means`, `best_arm`, `best_mean`, `regret(arm)`. `info` of a step has the "mean" of the arm pulled, the
    "best_mean" and their difference, the "regret", all at the moment of the pull.

    With `drift`, each mean takes a normal step of that standard deviation after each pull. The walk, too, belongs to
    the instance: it goes on over episodes and begins again with a seeded `reset`. Evaluation environments begin at its
    start, so that a method that follows a drift is measured by the regret while it learns.

    Args:
        arms: how many, from 2 to 1000.
        spread: standard deviation of the means.
        noise: standard deviation of an arm's rewards.
        drift: standard deviation of a step of each mean after each pull; 0: the means stay.
        instance: which arms: another number, other means.
        pulls: in an episode.
        render_mode: "ansi", "rgb_array" or None.

    Raises:
        ValueError: for other options.
    """

    metadata: dict[str, Any] = {**Environment.metadata, "ends_by_itself": True}
    changing: ClassVar[tuple[str, ...]] = ("pulled", "counts", "last", "_means")

    def __init__(
        self,
        arms: int = 10,
        spread: float = 1.0,
        noise: float = 1.0,
        drift: float = 0.0,
        instance: int = 0,
        pulls: int = 1,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(render_mode)
        self.arms = whole("arms", arms, 2, 1000)
        self.spread = number("spread", spread, 0)
        self.noise = number("noise", noise, 0)
        self.drift = number("drift", drift, 0)
        self.instance = whole("instance", instance, 0)
        self.pulls = whole("pulls", pulls, 1)
        self.observation_space = Discrete(1)
        self.action_space = Discrete(self.arms)
        self._lay_out()

    def _lay_out(self) -> None:
        """Set the arms as they are before the first pull."""
        # not the stream that `reset(seed=instance)` begins: rewards must not repeat the numbers of the means
        self._walk = np.random.default_rng(np.random.SeedSequence(self.instance, spawn_key=(2,)))
        self._means = self.spread * self._walk.standard_normal(self.arms)
        self.pulled = 0
        self.counts = np.zeros(self.arms, np.int64)
        self.last: tuple[int, float] | None = None

    # --- what is known

    @property
    def means(self) -> Floats:
        """The mean reward of each arm now, (arms,)."""
        return self._means.copy()

    @property
    def best_arm(self) -> int:
        """The arm with the highest mean now."""
        return int(self._means.argmax())

    @property
    def best_mean(self) -> float:
        """The highest mean now."""
        return float(self._means.max())

    def regret(self, arm: int) -> float:
        """Return what pulling an arm now costs on average, compared with the best one."""
        return float(self._means.max() - self._means[arm])

    def heuristic(self, observation: Any) -> int:
        """Return the best arm: that of the lowest regret."""
        return self.best_arm

    # --- pulling

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """Begin an episode; with a seed, drifted arms begin again, too."""
        super().reset(seed=seed, options=options)
        if seed is not None:
            self._lay_out()
        self.pulled = 0
        return 0, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Pull an arm.

        Raises:
            ValueError: for an arm that there is not.
        """
        arm = discrete("Bandit", action, self.arms)
        mean, best = float(self._means[arm]), self.best_mean
        reward = mean + self.noise * float(self.np_random.standard_normal())
        self.pulled += 1
        self.counts[arm] += 1
        self.last = arm, reward
        if self.drift:
            self._means = self._means + self.drift * self._walk.standard_normal(self.arms)
        info = {"mean": mean, "best_mean": best, "regret": best - mean}
        return 0, reward, self.pulled >= self.pulls, False, info

    def state_dict(self) -> dict[str, Any]:
        """Return everything that changes, where the walk of the means is included."""
        return {**super().state_dict(), "walk": generator_state(self._walk)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        super().load_state_dict(state)
        self._walk = generator(state["walk"])

    # --- looking

    def text(self) -> str:
        """Return a line for each arm: its mean, how often it was pulled, * at the best, and the last reward."""
        lines = ["  arm   mean   pulls"]
        for arm in range(min(self.arms, _SHOWN)):
            sign = "*" if arm == self.best_arm else " "
            paid = f"  -> {self.last[1]:+.2f}" if self.last is not None and self.last[0] == arm else ""
            lines.append(f"{sign} {arm:3d}  {self._means[arm]:+.2f}  {self.counts[arm]:6d}{paid}")
        if self.arms > _SHOWN:
            lines.append(f"  and {self.arms - _SHOWN} more")
        return "\n".join(lines)

    def picture(self) -> Frame:
        """Return the arms as a picture: means, a standard deviation of rewards around them, pulls, the last reward."""
        width, height, top, bottom, left = 640, 320, 34, 270, 44
        canvas = Canvas(width, height)
        reach = 1.1 * max(float(np.abs(self._means).max()) + 2 * self.noise, 1e-9)
        each = (width - left - 12) / self.arms
        half = min(0.36 * each, 18)

        def y(value: float) -> float:
            return (top + bottom) / 2 - (bottom - top) / 2 * min(max(value / reach, -1), 1)

        for value in (-reach / 1.1, 0.0, reach / 1.1):
            canvas.line([(left, y(value)), (width - 8, y(value))], SOFT if value == 0 else LINE)
            canvas.write(left - 6, y(value), f"{value:+.1f}" if value else "0", 11, SOFT, "rm")
        pulls = int(self.counts.sum())
        canvas.write(left, 16, f"reward by arm, after {pulls} pull{'' if pulls == 1 else 's'}", 13, INK, "lm")
        canvas.write(left - 6, bottom + 34, "pulls", 11, SOFT, "rm")
        for arm in range(self.arms):
            x = left + (arm + 0.5) * each
            mean, best = float(self._means[arm]), arm == self.best_arm
            canvas.box(x - half, y(mean + self.noise), 2 * half, y(mean - self.noise) - y(mean + self.noise), "#D6ECF8")
            canvas.box(x - half, y(mean) - 2, 2 * half, 4, GREEN if best else BLUE)
            if each >= 16:
                canvas.write(x, bottom + 16, str(arm), 12, GREEN if best else INK)
                canvas.write(x, bottom + 34, str(self.counts[arm]), 10, SOFT)
            else:
                share = self.counts[arm] / max(int(self.counts.max()), 1)
                canvas.box(x - half, bottom + 40 * (1 - share), 2 * half, 40 * share, SKY)
            if self.last is not None and self.last[0] == arm:
                canvas.disc(x, y(self.last[1]), 6, ORANGE)
        return canvas.frame()
