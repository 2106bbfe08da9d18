"""What a return means something beside: that of random actions and, where there is one, of a rule made by hand.

In: an `EnvironmentTask`. Out: random actions of any space, the heuristic of an environment, and what both reach.

A heuristic is a method `heuristic(observation) -> action` of the environment's class, which looks at nothing but the
observation and what the constructor was given; or, as in Gymnasium's LunarLander, a function
`heuristic(env, observation)` in the module of the class.
"""

from __future__ import annotations

import copy
import inspect
import re
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import gymnasium
import numpy as np
from gymnasium.envs.registration import find_highest_version

from rllab import plugins
from rllab.environments import PLUGIN_GROUP, EnvironmentTask
from rllab.errors import PluginError
from rllab.seeding import preserved_globals

Heuristic: TypeAlias = Callable[[Any], Any]
"""An action for one observation."""


def random_actions(space: gymnasium.Space[Any], n: int) -> Any:
    """Return `n` independent actions of any space, as a `VectorEnv` takes them; the space's own generator draws.

    Returns:
        (n, *action) of the space's dtype; a list for spaces that have none, such as Dict.
    """
    actions = [space.sample() for _ in range(n)]
    return actions if space.dtype is None else np.array(actions, space.dtype)


def seeded(space: gymnasium.Space[Any], seed: np.random.SeedSequence) -> gymnasium.Space[Any]:
    """Return a copy of a space that draws from a seed of its own."""
    own = copy.deepcopy(space)
    own.seed(int(seed.generate_state(1)[0]))
    return own


def rows(observations: Any) -> list[Any]:
    """Return the observations of a batch one by one, also of a space of parts: those of each environment."""
    if isinstance(observations, dict):
        parts = zip(*(rows(part) for part in observations.values()), strict=True)
        return [dict(zip(observations, row, strict=True)) for row in parts]
    if isinstance(observations, tuple):
        return list(zip(*map(rows, observations), strict=True))
    return list(observations)


# --- rules made by hand -----------------------------------------------------------------------------


def heuristic_of(task: EnvironmentTask) -> Heuristic | None:
    """Return the rule that an environment brings for itself, observation -> action; None if it has none.

    The rule belongs to an environment made for it, which is never stepped. An environment whose options change what
    is observed, such as `--frame-stack`, has no rule.
    """
    env = task.make_one()
    base: Any = env.unwrapped
    if env.observation_space != base.observation_space:
        env.close()
        return None
    rule = getattr(base, "heuristic", None)
    if rule is None:
        of_module = getattr(sys.modules.get(type(base).__module__), "heuristic", None)
        rule = partial(of_module, env) if inspect.isfunction(of_module) else None
    if not callable(rule):
        env.close()
        return None
    return rule


def with_heuristic() -> list[str]:
    """Return the installed environments that have a heuristic: plugins, and the latest versions of Gymnasium's own.

    Plugins are imported; modules of Gymnasium are only read, as many of them want packages that may be missing.
    """
    found = []
    for plugin in plugins.find(PLUGIN_GROUP):
        try:
            made: Any = plugins.load(plugin)
        except PluginError:
            continue
        if callable(getattr(made, "heuristic", None)):
            found.append(plugin.name)
    for spec in gymnasium.registry.values():
        latest = find_highest_version(spec.namespace, spec.name)
        if spec.version == latest and isinstance(spec.entry_point, str) and _FUNCTION.search(_text(spec.entry_point)):
            found.append(spec.id)
    return sorted(found)


_FUNCTION = re.compile(r"^def heuristic\(", re.MULTILINE)


def _text(entry_point: str) -> str:
    """Return the text of the module of an entry point of Gymnasium's, which is not imported; else ""."""
    package, *parts = entry_point.partition(":")[0].split(".")
    if package != "gymnasium" or not parts or gymnasium.__file__ is None:
        return ""
    file = Path(gymnasium.__file__).parent.joinpath(*parts).with_suffix(".py")
    return file.read_text(encoding="utf-8") if file.is_file() else ""


# --- what they reach --------------------------------------------------------------------------------


def baseline_returns(
    task: EnvironmentTask,
    seeds: np.random.SeedSequence,
    episodes: int = 20,
    max_steps: int = 10_000,
    max_seconds: float = 2.0,
) -> dict[str, float]:
    """Return what random actions and the heuristic, where there is one, reach: the mean return of an episode.

    Args:
        task: the environment; its own limit of steps holds.
        seeds: of environments and random actions; the same ones give the same numbers.
        episodes: how many each of the two plays, at most.
        max_steps: environment steps of each of the two, at most; an episode that is not over by then does not count.
        max_seconds: of each of the two, at most, for slow environments; their numbers then vary a little.

    Returns:
        Mean raw returns by name, "random" and "heuristic"; without what has ended no episode within its steps.

    Raises:
        RunFailed: if the environment raises.
    """
    with preserved_globals():
        space = seeded(task.action_space, _child(seeds, 0))
        rules: dict[str, Heuristic | None] = {"random": lambda _: space.sample(), "heuristic": heuristic_of(task)}
        means = {
            name: _mean_return(task, rule, seeds, episodes, max_steps, max_seconds)
            for name, rule in rules.items()
            if rule
        }
    return {name: mean for name, mean in means.items() if mean is not None}


def _mean_return(
    task: EnvironmentTask,
    rule: Heuristic,
    seeds: np.random.SeedSequence,
    episodes: int,
    max_steps: int,
    max_seconds: float,
) -> float | None:
    """Return the mean return of whole episodes, played one after the other; None if none ended."""
    envs = task.make(1, _child(seeds, 1), keep_state=False)  # both rules meet the same environments
    returns: list[float] = []
    deadline = time.monotonic() + max_seconds
    try:
        envs.reset()
        for _ in range(max_steps):
            action = rule(rows(envs.observations)[0])
            moved = envs.step([action] if envs.action_space.dtype is None else np.array([action]))
            returns += [episode.return_ for episode in moved.episodes]
            if len(returns) == episodes or time.monotonic() > deadline:
                break
    finally:
        envs.close()
    return float(np.mean(returns)) if returns else None


def _child(seeds: np.random.SeedSequence, number: int) -> np.random.SeedSequence:
    """Return a seed sequence that follows from another, which does not change as by `spawn`."""
    return np.random.SeedSequence(seeds.entropy, spawn_key=(*seeds.spawn_key, number))
