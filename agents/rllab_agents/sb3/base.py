"""An algorithm of stable-baselines3 under the contract of an `Agent`.

Raffin et al., "Stable-Baselines3: Reliable Reinforcement Learning Implementations", JMLR 22 (2021).

    setup    _setup_learn(budget), once: schedules run over the whole budget
    step     collect_rollouts, then train: what one round of the library's learn() does

Calling `learn()` in chunks would not do: its schedules end with each chunk. This way a run is, bit for bit, one
`learn()` of the whole budget.

The library draws from the global generators of Python, NumPy and torch. A run is reproducible all the same: they are
seeded by the run's seed right before the agent is made, evaluation and environments leave them as they were, and a
checkpoint holds their states. The library's own seeding, which would give environment i the seed + i, is not used.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.noise import ActionNoise, NormalActionNoise, OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

from rllab.agent import Agent, episode_metrics
from rllab.algorithm import Metrics
from rllab.environments import EnvironmentTask
from rllab.errors import RunFailed, one_line
from rllab.parts.experience import check_bytes
from rllab.parts.networks import activate
from rllab.parts.normalise import RunningNormalizer
from rllab.state import State
from rllab_agents.sb3 import observations as looks
from rllab_agents.sb3.arguments import DECIDED, METRICS, SPELLING, buffer_class, class_of, falling, in_our_words
from rllab_agents.sb3.config import SB3Config
from rllab_agents.sb3.state import BufferState, ModelState, set_moments
from rllab_agents.sb3.vecenv import VectorEnvAdapter


class SB3Agent(Agent):
    """An algorithm of stable-baselines3.

    Attributes:
        library: the library's class.
        spelling: its arguments that rllab has another name for.
        model: the library's object, from which everything is read that is not on the agent itself.
        policy: its networks.
    """

    library: ClassVar[type[BaseAlgorithm]]
    spelling: ClassVar[Mapping[str, str]] = SPELLING
    actions: ClassVar[tuple[type[spaces.Space[Any]], ...]]
    default_hidden: ClassVar[tuple[int, ...]]

    Config = SB3Config
    config: Any
    transient = Agent.transient | {"model", "policy", "adapter", "callback"}  # the state is on `learner` and `replay`
    reductions = dict.fromkeys(("train/lr", "train/epsilon", "train/alpha", "train/clip_range"), "last")

    # --- asked before anything starts

    @classmethod
    def refusal(cls, config: SB3Config, task: EnvironmentTask) -> str | None:
        """Return why the library cannot act in `task`: what it does not take, in its own words or in ours."""
        space = task.action_space
        if not isinstance(space, cls.actions):
            return f"it takes {' or '.join(kind.__name__ for kind in cls.actions)} actions, not {space}"
        if isinstance(space, spaces.Box) and not np.isfinite([space.low, space.high]).all():
            return f"it takes Box actions with finite bounds, not {space}"
        if isinstance(space, spaces.Box) and not space.shape:
            return f"it takes Box actions in a row, not the single number of {space}"
        scales = issubclass(cls.library, OffPolicyAlgorithm)
        if scales and isinstance(space, spaces.Box) and (space.low == space.high).any():
            return f"it scales Box actions between their bounds, of which a pair is equal in {space}"
        if getattr(config, "use_sde", False) and not isinstance(space, spaces.Box):
            return f"--use-sde is for Box actions, not {space}"
        if isinstance(space, spaces.MultiDiscrete) and (space.nvec.ndim > 1 or np.any(space.start)):
            return f"it takes MultiDiscrete actions in a row that begin at 0, not {space}"
        if isinstance(space, spaces.MultiBinary) and len(space.shape) > 1:
            return f"it takes MultiBinary actions in a row, not {space}"
        return looks.refusal(config, task.observation_space)

    @classmethod
    def work(cls, config: SB3Config, task: EnvironmentTask) -> float:
        """Return about how many multiply-adds a gradient step takes: forward, backward, and a target or two."""
        hidden = cls.default_hidden if config.hidden == "auto" else config.hidden
        features, convolutions = looks.size(config, task.observation_space)
        sizes = [features, *hidden, spaces.flatdim(task.action_space)]
        batch: int = getattr(config, "batch_size", None) or config.num_envs * getattr(config, "rollout_steps", 1)
        return 4.0 * batch * (sum(a * b for a, b in pairwise(sizes)) + convolutions)

    # --- making it

    def __init__(self, config: Any, task: EnvironmentTask, *, device: torch.device, streams: Any) -> None:
        super().__init__(config, task, device=device, streams=streams)
        seed = int(streams.sequence("exploration").generate_state(1)[0])
        self.adapter = VectorEnvAdapter(task, config.num_envs, seed)
        shape = task.observation_space.shape or ()
        self.normalizer = RunningNormalizer(math.prod(shape)) if config.normalize_observations else None
        with in_our_words(type(self).__name__):
            self.model = self._make_model()
        self.policy: BasePolicy = self.model.policy

    def _make_model(self) -> BaseAlgorithm:
        made: dict[str, Any] = {"env": self._wrapped(), "device": self.device, "_init_setup_model": False}
        model = self.library(**self.arguments(), **made)
        if isinstance(model, OffPolicyAlgorithm):
            model.replay_buffer = _Later()  # type: ignore[assignment]  # acting needs none: `setup` makes it
        model._setup_model()
        model.set_logger(Logger(folder=None, output_formats=[]))
        return model

    def _wrapped(self) -> VecEnv:
        config = self.config
        if not (config.normalize_observations or config.normalize_returns):
            return self.adapter
        return VecNormalize(
            self.adapter,
            norm_obs=config.normalize_observations,
            norm_reward=config.normalize_returns,
            gamma=config.gamma,
        )

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of the library's constructor that follow from the options."""
        names = [name for name in inspect.signature(self.library).parameters if name not in DECIDED]
        options = type(self.config).model_fields
        return {name: self.argument(name) for name in names if self.spelling.get(name, name) in options}

    def argument(self, name: str) -> Any:
        """Return one argument of the library's constructor, by its name there."""
        config = self.config
        value = getattr(config, self.spelling.get(name, name))
        match name:
            case "policy":
                return looks.policy_name(config, self.observation_space)
            case "learning_rate":
                return falling(value, config.schedule)
            case "clip_range":
                return falling(value, config.clip_schedule)
            case "policy_kwargs":
                hidden = {} if config.hidden == "auto" else {"net_arch": list(config.hidden)}
                given = {key: class_of(item) for key, item in value.items()}
                return {"activation_fn": type(activate(config.activation)), **hidden, **given}
            case "train_freq":
                steps = config.train_unit == "step"
                return (value // config.num_envs if steps else value), config.train_unit
            case "action_noise":
                return self._noise(value)
            case "replay_buffer_class" | "rollout_buffer_class":
                return buffer_class(value)
            case "max_grad_norm":
                return value or math.inf
            case "clip_range_vf" | "target_kl":
                return value or None
        return value

    def _noise(self, std: float) -> ActionNoise | None:
        if not std:
            return None
        assert isinstance(self.action_space, spaces.Box)
        process = NormalActionNoise if self.config.noise_process == "normal" else OrnsteinUhlenbeckActionNoise
        return process(np.zeros(self.action_space.shape), np.full(self.action_space.shape, std))

    def setup(self) -> None:
        """Make the training environments and the replay buffer, and begin the library's training."""
        super().setup()
        self.adapter.envs = self.envs
        model = self.model
        with in_our_words(type(self).__name__):
            if isinstance(model, OffPolicyAlgorithm):
                model.replay_buffer = self._make_buffer(model)
                self.replay = BufferState(model.replay_buffer)
            _, self.callback = model._setup_learn(self.budget)
        self.callback.on_training_start({}, {})
        self.learner = ModelState(model)
        self._note_statistics()

    def _make_buffer(self, model: OffPolicyAlgorithm) -> ReplayBuffer:
        assert model.replay_buffer_class is not None
        options = dict(model.replay_buffer_kwargs)
        seen = _bytes(model.observation_space) * (1 if model.optimize_memory_usage else 2)
        check_bytes(model.buffer_size, seen + _bytes(model.action_space) + 12)  # and reward, end, time limit
        if issubclass(model.replay_buffer_class, HerReplayBuffer):
            options["env"] = model.env
        made: Any = model.replay_buffer_class  # whose classes do not agree on the spaces they take
        buffer: ReplayBuffer = made(
            model.buffer_size,
            model.observation_space,
            model.action_space,
            device=model.device,
            n_envs=model.n_envs,
            optimize_memory_usage=model.optimize_memory_usage,
            **options,
        )
        return buffer

    def close(self) -> None:
        """Close the environments."""
        super().close()
        self.adapter.close()

    # --- acting

    def act(
        self,
        observations: np.ndarray,
        memory: Any = None,
        starts: np.ndarray | None = None,
        *,
        deterministic: bool,
    ) -> tuple[np.ndarray, Any]:
        """Choose actions as the library's `predict` does: the best ones, or samples where the policy is a distribution.

        With gSDE the memory is what turns a state into noise; it is drawn at the first call, for all environments.
        """
        if self.normalizer is not None:
            rows = torch.from_numpy(observations.reshape(len(observations), -1))
            observations = self.normalizer(rows).numpy().reshape(observations.shape)
        if deterministic or not getattr(self.config, "use_sde", False):
            actions, _ = self.policy.predict(observations, deterministic=deterministic)
        else:
            actions, memory = self._explore(observations, memory)
        return actions + self.adapter.first_action, memory

    def _explore(self, observations: np.ndarray, memory: Any) -> tuple[np.ndarray, Any]:
        """Sample actions by gSDE with the matrices in `memory`; those of training are put back."""
        policy: Any = getattr(self.policy, "actor", self.policy)
        names = ("exploration_mat", "exploration_matrices")
        before = {name: getattr(policy.action_dist, name) for name in names}
        try:
            if memory is None:
                policy.reset_noise(len(observations))
                memory = {name: getattr(policy.action_dist, name).detach() for name in names}
            vars(policy.action_dist).update(memory)
            actions, _ = self.policy.predict(observations, deterministic=False)
        finally:
            vars(policy.action_dist).update(before)
        return actions, memory

    # --- learning

    def step(self) -> Metrics:
        """Do one round of the library's `learn`: collect what one update is made from, then update."""
        model = self.model
        try:
            if isinstance(model, OnPolicyAlgorithm):
                _round_on_policy(model, self.callback)
            else:
                assert isinstance(model, OffPolicyAlgorithm)
                _round_off_policy(model, self.callback)
        except (ValueError, RuntimeError) as error:
            # parameters that have become NaN: seen by a distribution that checks them, or when it is drawn from
            if isinstance(error, RuntimeError) and "probability tensor" not in str(error):
                raise
            raise RunFailed(f"stable-baselines3 ({type(self).__name__}): {one_line(error)}") from error
        self.count = model.num_timesteps
        self._note_statistics()
        return episode_metrics(self.adapter.take_episodes()) | self._logged()

    def _logged(self) -> Metrics:
        """Return what the library has logged in this round, by our names."""
        logged, found = self.model.logger.name_to_value, {}
        for name, value in logged.items():
            if name in METRICS and not math.isnan(value):  # as the explained variance of constant returns
                found[METRICS[name]] = -float(value) if name == "train/entropy_loss" else float(value)
        logged.clear()
        return dict(found)

    # --- state

    def load_state_dict(self, state: State) -> None:
        """Go back to a state, also where the state of an environment could not be kept."""
        super().load_state_dict(state)
        wrapper: Any = self.model.get_vec_normalize_env()
        if self.normalizer is not None:
            shape = self.observation_space.shape or ()
            mean, variance = (part.numpy().reshape(shape) for part in (self.normalizer.mean, self.normalizer.variance))
            set_moments(wrapper.obs_rms, mean, variance, float(self.normalizer.number))
        if self.envs.restarted:
            self._begin_again()

    def _begin_again(self) -> None:
        """Let the library see the first observations of episodes that began again, and no transition across."""
        model, starts = self.model, self.envs.starts
        buffer = getattr(model, "replay_buffer", None)
        if isinstance(buffer, HerReplayBuffer):
            buffer.truncate_last_trajectory()
        elif buffer is not None and buffer.size():
            last = buffer.pos - 1  # of the environments that began again: cut off there, without a terminal state
            cut = starts & (buffer.dones[last] == 0)
            buffer.dones[last][cut] = buffer.timeouts[last][cut] = 1
        env: Any = model.env
        observations: Any = self.adapter.reset()
        layers = []
        while env is not self.adapter:
            layers.append(env)
            env = env.venv
        for layer in reversed(layers):
            if isinstance(layer, VecNormalize):
                model._last_original_obs = observations
                layer.returns[starts] = 0
                observations = layer.normalize_obs(observations)
            else:
                observations = layer.transpose_observations(observations)
        model._last_obs = observations
        assert model._last_episode_starts is not None
        model._last_episode_starts = model._last_episode_starts | starts
        for i in np.flatnonzero(starts):
            if model.action_noise is not None:
                model.action_noise.reset(**({"indices": [i]} if self.envs.num_envs > 1 else {}))

    def _note_statistics(self) -> None:
        """Copy the statistics of observations to the module that acting uses."""
        if self.normalizer is not None:
            wrapper: Any = self.model.get_vec_normalize_env()
            rms = wrapper.obs_rms
            self.normalizer.mean.copy_(torch.from_numpy(rms.mean.reshape(-1)))
            self.normalizer.variance.copy_(torch.from_numpy(rms.var.reshape(-1)))
            self.normalizer.number.fill_(rms.count)


def _bytes(space: spaces.Space[Any]) -> int:
    """Return the bytes that an observation or an action takes in a replay buffer."""
    if isinstance(space, spaces.Dict):
        return sum(map(_bytes, space.values()))
    return math.prod(space.shape or ()) * np.dtype(space.dtype).itemsize


# --- one round of the library's learn() -----------------------------------------------------------


def _round_on_policy(model: OnPolicyAlgorithm, callback: BaseCallback) -> None:
    assert model.env is not None
    model.collect_rollouts(model.env, callback, model.rollout_buffer, n_rollout_steps=model.n_steps)
    model._update_current_progress_remaining(model.num_timesteps, model._total_timesteps)
    model.train()


def _round_off_policy(model: OffPolicyAlgorithm, callback: BaseCallback) -> None:
    assert model.env is not None
    assert model.replay_buffer is not None
    rollout = model.collect_rollouts(
        model.env,
        callback,
        model.train_freq,  # type: ignore[arg-type]  # made of the option when the model is
        model.replay_buffer,
        model.action_noise,
        model.learning_starts,
        log_interval=None,
    )
    if model.num_timesteps > model.learning_starts:
        steps = model.gradient_steps if model.gradient_steps >= 0 else rollout.episode_timesteps
        model.train(gradient_steps=steps, batch_size=model.batch_size)


class _Later:
    """Stands where the replay buffer will be."""
