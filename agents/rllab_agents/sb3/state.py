"""What an algorithm of stable-baselines3 holds besides its weights, as plain data and back.

The library saves by pickling, and leaves out what a bit-equal resume needs: the replay buffer, the counters of DQN's
target network, the generator of the action space, the state of the environments. Here everything that is found on
the algorithm is kept, or stands in `LEFT_OUT` with the reason; anything new that a later version brings and that
cannot be kept is an error at the start of a run, as for our own methods.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.save_util import recursive_getattr
from stable_baselines3.common.vec_env import VecNormalize

from rllab import state as states
from rllab.state import State

_WEIGHTS = ("policy", "q_net", "q_net_target", "actor", "actor_target", "critic", "critic_target")
_SETTINGS = (
    *("policy_class", "policy_kwargs", "learning_rate", "lr_schedule", "clip_range", "clip_range_vf"),
    *("exploration_schedule", "train_freq", "replay_buffer_kwargs", "rollout_buffer_kwargs"),
)

LEFT_OUT = {
    **dict.fromkeys(_WEIGHTS, "weights, which the agent keeps"),
    **dict.fromkeys(_SETTINGS, "follows from the options, and does not change"),
    "_total_timesteps": "the budget, which --extend may have changed",
    "ent_coef_optimizer": "kept with the other optimisers",
    "replay_buffer": "kept by a `BufferState`",
    "rollout_buffer": "emptied before it is filled again: between two steps nobody reads it",
    "action_noise": "its processes are kept apart",
    "env": "the environments are kept by the agent, and their normalisation apart",
    "_vec_normalize_env": "the same",
    "start_time": "a clock, for prints that are not made",
    "_logger": "read after each step",
}
"""Attributes of an algorithm that are no part of its own state, and why.

The exploration matrices of gSDE are not there either: they are drawn anew before they are used again.
"""


class ModelState:
    """The state of an algorithm of the library, but for weights, environments and replay buffer.

    Args:
        model: the algorithm, ready to be trained.
    """

    def __init__(self, model: BaseAlgorithm) -> None:
        self.model = model

    def state_dict(self) -> State:
        """Return everything that changes; arrays and tensors are not copied.

        Raises:
            UncapturedState: for an attribute that this version of the library has new, and which cannot be kept.
        """
        attributes = {name: value for name, value in vars(self.model).items() if name not in LEFT_OUT}
        return {
            "attributes": {name: states.capture(value, f"the model's {name}") for name, value in attributes.items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self._optimizers().items()},
            "noise": [getattr(noise, "noise_prev", None) for noise in self._noises()],
            "normalization": self._normalization(),
        }

    def load_state_dict(self, state: State) -> None:
        """Go back to a state, in place wherever that is possible."""
        for name, item in state["attributes"].items():
            setattr(self.model, name, states.restore(getattr(self.model, name, None), item, f"the model's {name}"))
        for name, optimizer in self._optimizers().items():
            optimizer.load_state_dict(state["optimizers"][name])
        for noise, before in zip(self._noises(), state["noise"], strict=True):
            if before is not None:
                noise.noise_prev = before.copy()
        if (wrapper := self._wrapper()) is not None:
            saved = state["normalization"]
            set_moments(wrapper.ret_rms, saved["mean"], saved["variance"], saved["number"])
            wrapper.returns = saved["returns"].copy()

    def _optimizers(self) -> dict[str, Any]:
        names, _ = self.model._get_torch_save_params()
        return {name: recursive_getattr(self.model, name) for name in names if name.endswith("optimizer")}

    def _noises(self) -> list[Any]:
        noise = self.model.action_noise
        return [] if noise is None else list(getattr(noise, "noises", [noise]))

    def _wrapper(self) -> VecNormalize | None:
        return self.model.get_vec_normalize_env()

    def _normalization(self) -> State | None:
        """Return the statistics of rewards; those of observations are weights, as acting needs them."""
        if (wrapper := self._wrapper()) is None:
            return None
        rms = wrapper.ret_rms
        return {"mean": rms.mean, "variance": rms.var, "number": rms.count, "returns": wrapper.returns}


def set_moments(rms: RunningMeanStd, mean: Any, variance: Any, number: float) -> None:
    """Set running statistics of the library, which makes new arrays at each update."""
    rms.mean, rms.var, rms.count = np.array(mean), np.array(variance), float(number)


class BufferState:
    """The state of a replay buffer of the library: the filled part of its arrays, and where the next row goes.

    Args:
        buffer: of any class of the library.
    """

    def __init__(self, buffer: ReplayBuffer) -> None:
        self.buffer = buffer

    def state_dict(self) -> State:
        """Return the filled part of each array (not copied), and the place of the next row."""
        arrays = {name: self._filled(array) for name, array in self._arrays().items()}
        return {"pos": self.buffer.pos, "full": self.buffer.full, "arrays": arrays}

    def load_state_dict(self, state: State) -> None:
        """Fill the arrays from a state of a buffer of the same size."""
        self.buffer.pos, self.buffer.full = state["pos"], state["full"]
        for name, array in self._arrays().items():
            self._filled(array)[...] = state["arrays"][name]

    def _arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays of the buffer by name, those in a dict as NAME.KEY; arrays of objects are not kept."""
        found: dict[str, np.ndarray] = {}
        for name, value in vars(self.buffer).items():
            parts = {f"{name}.{key}": part for key, part in value.items()} if isinstance(value, dict) else {name: value}
            found |= {key: part for key, part in parts.items() if isinstance(part, np.ndarray)}
        return {name: array for name, array in found.items() if array.dtype.kind != "O"}

    def _filled(self, array: np.ndarray) -> np.ndarray:
        """Return the part of an array that has been written to; one that has no row for each step is that itself."""
        buffer = self.buffer
        if array.shape[:2] != (buffer.buffer_size, buffer.n_envs) or buffer.full:
            return array
        # with `optimize_memory_usage` the row at `pos` is the observation that the last step led to
        return array[: min(buffer.pos + 1, buffer.buffer_size)]
