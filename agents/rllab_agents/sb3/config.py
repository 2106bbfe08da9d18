"""Options that several algorithms of stable-baselines3 have, in rllab's spelling; the library is not imported."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from rllab.agent import AgentConfig
from rllab.parts.networks import Activation
from rllab.parts.schedules import Schedule
from rllab_agents.actor_critic import whole_rollout


def _read_pairs(value: Any) -> Any:
    """Read KEY=VALUE, or several of them in one text with commas between; a value is JSON, else text."""
    if not isinstance(value, str | list | tuple):
        return value or {}
    texts = [value] if isinstance(value, str) else value
    pairs = [pair.strip() for text in texts for pair in re.split(r",(?=\s*[A-Za-z_]\w*=)", str(text))]
    return dict(map(_pair, (pair for pair in pairs if pair not in {"", "none"})))


def _pair(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.isidentifier():
        raise ValueError(f"expected KEY=VALUE, such as log_std_init=-2, not {text!r}")
    try:
        return key, None if value == "none" else json.loads(value)
    except json.JSONDecodeError:
        return key, value


def _read_auto(value: Any) -> Any:
    return "auto" if value in (["auto"], ("auto",)) else value


Pairs: TypeAlias = Annotated[dict[str, Any], BeforeValidator(_read_pairs)]
"""KEY=VALUE arguments."""
Hidden: TypeAlias = Annotated[tuple[PositiveInt, ...] | Literal["auto"], BeforeValidator(_read_auto)]
"""Units of hidden layers, or what the library takes by itself."""
PolicyName: TypeAlias = Literal["auto", "MlpPolicy", "CnnPolicy", "MultiInputPolicy"]


class SB3Config(AgentConfig):
    """Hyperparameters of every algorithm of stable-baselines3."""

    policy: PolicyName = "auto"
    """The library's class of networks; auto: by the observations, a CNN for images of 36 pixels and more."""

    hidden: Hidden = "auto"
    """Units of the hidden layers, of actor and critic alike; auto: as many as the library takes by itself."""

    activation: Activation = "relu"
    """What follows each hidden layer."""

    policy_kwarg: Pairs = {}
    """KEY=VALUE for the library's policy, such as log_std_init=-2; may be repeated. Values are JSON, else text;
    a class is MODULE:NAME."""

    normalize_observations: bool = False
    """Shift and scale observations by running statistics (the library's VecNormalize), saved with the weights."""

    normalize_returns: bool = False
    """Divide the rewards that are learned from by the running standard deviation of discounted returns."""

    lr: PositiveFloat = 3e-4
    """Step size of the optimisers."""

    schedule: Schedule = "constant"
    """How the step size goes on: constant, linear or cosine to 0 at the end, or onecycle, up and then down."""

    gamma: float = Field(default=0.99, ge=0, le=1)
    """Discount of a reward one step later."""


class OffPolicyConfig(SB3Config):
    """Hyperparameters of algorithms with a replay buffer."""

    buffer_size: PositiveInt = 1_000_000
    """Transitions the replay buffer holds."""

    learning_starts: NonNegativeInt = 100
    """Env steps before the first gradient step."""

    batch_size: PositiveInt = 256
    """Transitions in a gradient step."""

    tau: float = Field(default=0.005, ge=0, le=1)
    """How far the target networks move towards the online ones at an update; 1 copies them."""

    train_every: PositiveInt = 1
    """Env steps, over all environments, between two rounds of gradient steps; a multiple of --num-envs."""

    train_unit: Literal["step", "episode"] = "step"
    """What --train-every counts; episode: rounds come between episodes, of a single environment."""

    gradient_steps: int = Field(default=1, ge=-1)
    """Gradient steps in a round, each on a batch of its own; -1: as many as env steps since the last round."""

    n_step: PositiveInt = 1
    """Rewards that are summed before the value of the state they lead to."""

    optimize_memory_usage: bool = False
    """Keep each observation once in the replay buffer; needs --replay-buffer-kwarg handle_timeout_termination=false,
    with which a time limit counts as a termination."""

    replay_buffer_class: str = "auto"
    """auto; her, hindsight replay for environments with goals; or MODULE:CLASS of a replay buffer."""

    replay_buffer_kwarg: Pairs = {}
    """KEY=VALUE for the replay buffer, such as n_sampled_goal=4; may be repeated."""

    @model_validator(mode="after")
    def _updates_happen(self) -> Self:
        if self.learning_starts >= self.timesteps:
            raise ValueError(
                f"--learning-starts {self.learning_starts} is not below --timesteps {self.timesteps}: "
                "no update would ever happen"
            )
        if self.gradient_steps == 0:
            raise ValueError("--gradient-steps 0: no update would ever happen; -1 is one for each env step")
        if self.train_unit == "episode":
            if self.num_envs > 1:
                raise ValueError(f"--train-unit episode takes a single environment, not --num-envs {self.num_envs}")
            return self
        if self.train_every % self.num_envs:
            raise ValueError(
                f"--train-every {self.train_every} is no multiple of --num-envs {self.num_envs}, which are stepped "
                f"together: take --train-every {-(-self.train_every // self.num_envs) * self.num_envs} "
                "(and more --gradient-steps, for as many updates per env step)"
            )
        # rounds come after each multiple of train_every; the last one may lie beyond the budget
        if -(-self.timesteps // self.train_every) * self.train_every <= self.learning_starts:
            raise ValueError(
                f"--train-every {self.train_every} has no multiple above --learning-starts {self.learning_starts}: "
                "no update would ever happen; make --train-every smaller"
            )
        return self


class ActionNoiseConfig(OffPolicyConfig):
    """Hyperparameters of algorithms whose actions get noise while training."""

    action_noise: NonNegativeFloat = 0.0
    """Standard deviation of the noise added to actions while training, which are scaled to [-1, 1]; 0: none."""

    noise_process: Literal["normal", "ornstein-uhlenbeck"] = "normal"
    """Independent noise at each step, or noise that drifts."""


class OnPolicyConfig(SB3Config):
    """Hyperparameters of algorithms that learn from rollouts of the current policy."""

    activation: Activation = "tanh"

    rollout_steps: PositiveInt = 2048
    """Steps of each environment between two updates."""

    gae_lambda: float = Field(default=0.95, ge=0, le=1)
    """Generalised advantage estimation: 1 takes all rewards of the rollout, 0 the first one and the critic's word."""

    normalize_advantages: bool = True
    """Shift and scale the advantages of each gradient step's batch to mean 0 and variance 1."""

    entropy_coef: NonNegativeFloat = 0.0
    """Weight of the policy's entropy, which is to be high."""

    value_coef: NonNegativeFloat = 0.5
    """Weight of the critic's loss."""

    max_grad_norm: NonNegativeFloat = 0.5
    """The gradient is clipped to this norm; 0: no clipping."""

    use_sde: bool = False
    """Explore by noise that is a function of the state, for Box actions (gSDE; Raffin et al., 2021)."""

    sde_sample_freq: int = Field(default=-1, ge=-1)
    """Steps between two draws of that function; -1: one for each rollout."""

    rollout_buffer_class: str = "auto"
    """auto, or MODULE:CLASS of a rollout buffer."""

    rollout_buffer_kwarg: Pairs = {}
    """KEY=VALUE for the rollout buffer; may be repeated."""

    @model_validator(mode="after")
    def _a_rollout_fits(self) -> Self:
        if whole_rollout(self) == 1 and self.normalize_advantages:
            raise ValueError(
                "--normalize-advantages needs more than one step in a rollout: --rollout-steps 2 or --num-envs 2"
            )
        return self
