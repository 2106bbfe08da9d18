"""Our options and the library's arguments: names on both sides, and values that differ in form."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

from rllab.errors import UsageError, one_line
from rllab.parts.schedules import Schedule, scheduled

SPELLING = {
    "learning_rate": "lr",
    "policy_kwargs": "policy_kwarg",
    "replay_buffer_kwargs": "replay_buffer_kwarg",
    "rollout_buffer_kwargs": "rollout_buffer_kwarg",
    "train_freq": "train_every",
    "target_update_interval": "target_every",
    "exploration_initial_eps": "initial_epsilon",
    "exploration_final_eps": "final_epsilon",
    "target_policy_noise": "target_noise",
    "n_epochs": "update_epochs",
    "ent_coef": "entropy_coef",
    "vf_coef": "value_coef",
    "clip_range_vf": "value_clip_range",
    "normalize_advantage": "normalize_advantages",
}
"""Arguments of the library's constructors that rllab has another name for."""

DECIDED = {
    "env": "the task",
    "seed": "--seed seeds the global generators, and each environment by a stream of its own",
    "device": "--device, by the device manager",
    "verbose": "rllab tells what there is to tell",
    "tensorboard_log": "--logger",
    "stats_window_size": "metrics are averaged between two lines, --log-every",
    "_init_setup_model": "networks are made at once",
}
"""Arguments that are no option of their own, and what decides them."""

METRICS = {
    "train/learning_rate": "train/lr",
    "train/loss": "train/loss",
    "train/policy_gradient_loss": "train/policy_loss",
    "train/policy_loss": "train/policy_loss",
    "train/actor_loss": "train/policy_loss",
    "train/value_loss": "train/value_loss",
    "train/critic_loss": "train/value_loss",
    "train/entropy_loss": "train/entropy",
    "train/approx_kl": "train/kl",
    "train/clip_fraction": "train/clip_fraction",
    "train/clip_range": "train/clip_range",
    "train/explained_variance": "train/explained_variance",
    "train/std": "train/std",
    "train/ent_coef": "train/alpha",
    "train/ent_coef_loss": "train/alpha_loss",
    "rollout/exploration_rate": "train/epsilon",
}
"""What the library logs, and what rllab calls it; the entropy loss is the entropy with its sign turned."""

_BUFFERS = {"auto": None, "her": HerReplayBuffer}
_UNTOLD = ("on the GPU, but it is primarily intended", "number of environments used is greater than the target")
"""Parts of warnings that are not passed on: the device manager decides, and intervals count env steps."""

logger = logging.getLogger("rllab")


def falling(value: float, schedule: Schedule) -> float | Callable[[float], float]:
    """Return a number as the library takes it: itself, or a function of the share of the budget that remains."""
    return value if schedule == "constant" else lambda remaining: scheduled(value, schedule, 1.0 - remaining)


def class_of(value: Any) -> Any:
    """Return the class that a text such as torch.nn:GELU names; anything else is returned unchanged."""
    return _imported(value) if isinstance(value, str) and ":" in value else value


def buffer_class(name: str) -> Any:
    """Return the class of a buffer by the option's value; None leaves it to the library."""
    return _BUFFERS[name] if name in _BUFFERS else _imported(name)


def _imported(name: str) -> Any:
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"there is no class {name!r}: {one_line(error)}", "Write MODULE:CLASS.") from error


@contextmanager
def in_our_words(name: str) -> Iterator[None]:
    """Turn warnings of the library into notes, and what it says of its arguments into a usage error."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        except (AssertionError, ValueError, TypeError, NotImplementedError) as error:
            raise UsageError(f"stable-baselines3 ({name}) does not take that: {one_line(error)}") from error
    for text in dict.fromkeys(one_line(str(item.message)) for item in caught if item.category is UserWarning):
        if not any(part in text for part in _UNTOLD):
            logger.warning("stable-baselines3: %s", text)
