import inspect
import math
from typing import Any

import numpy as np
import pytest
import sb3_agents
import torch
from gymnasium import spaces
from rllab_agents.sb3.arguments import DECIDED
from rllab_agents.sb3.base import SB3Agent
from sb3_agents import DQN, NAMES, PPO, SMALL, built, plan, trained
from stable_baselines3.common.noise import NormalActionNoise

from rllab import planning
from rllab.errors import UsageError


@pytest.fixture(autouse=True)
def environments():
    with sb3_agents.registered():
        yield


# --- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_argument_of_the_constructor_is_an_option_or_decided(name):
    library: Any = planning.load_method(name).algorithm
    options = library.Config.model_fields
    missing = {
        argument
        for argument in inspect.signature(library.library).parameters
        if argument not in DECIDED and library.spelling.get(argument, argument) not in options
    }
    assert not missing


SAME = {"policy": "MlpPolicy", "policy_kwargs": None, "replay_buffer_kwargs": None, "rollout_buffer_kwargs": None}
"""Arguments whose defaults have another form, and the same meaning."""


@pytest.mark.parametrize("name", NAMES)
def test_defaults_are_the_librarys(name):
    target, _ = SMALL[name]
    agent = built(name, target, setup=False)
    for argument, parameter in inspect.signature(agent.library).parameters.items():
        if argument in DECIDED or argument in SAME:
            continue
        value = agent.argument(argument)
        equal = {"train_freq": (parameter.default, "step"), "ent_coef": f"{parameter.default}_1.0"}
        assert value in (parameter.default, equal.get(argument)), argument


def test_hidden_auto_is_what_the_library_takes_by_itself():
    for name in NAMES:
        agent = built(name, SMALL[name][0], setup=False)
        widths = {tuple(part.out_features for part in net if isinstance(part, torch.nn.Linear)) for net in nets(agent)}
        assert all(width[: len(agent.default_hidden)] == agent.default_hidden for width in widths)


def nets(agent: SB3Agent) -> list[torch.nn.Sequential]:
    return [part for part in agent.policy.modules() if isinstance(part, torch.nn.Sequential) and len(part) > 2]


def test_options_reach_the_library():
    agent = built(
        "sb3-sac",
        "Pendulum-v1",
        setup=False,
        hidden="none",
        activation="elu",
        alpha=0.3,
        policy_kwarg=["optimizer_class=torch.optim:AdamW", "n_critics=3"],
        action_noise=0.2,
    )
    assert agent.model.ent_coef == 0.3  # type: ignore[attr-defined]
    assert isinstance(agent.policy.actor.optimizer, torch.optim.AdamW)  # type: ignore[union-attr]
    assert len(agent.policy.critic.q_networks) == 3  # type: ignore[union-attr,arg-type]
    assert not nets(agent)
    assert isinstance(agent.model.action_noise, NormalActionNoise)
    assert built("sb3-ppo", "CartPole-v1", setup=False, max_grad_norm=0, **PPO).model.max_grad_norm == math.inf  # type: ignore[attr-defined]
    pairs = 'net_arch={"pi": [4], "vf": [5]},ortho_init=false'
    policy: Any = built("sb3-ppo", "CartPole-v1", setup=False, **{**PPO, "hidden": "auto"}, policy_kwarg=pairs).policy
    assert (policy.action_net.in_features, policy.value_net.in_features, policy.ortho_init) == (4, 5, False)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("sb3-dqn", {"num_envs": 3, "train_every": 4}, "take --train-every 6"),
        ("sb3-dqn", {"learning_starts": 100, "timesteps": 100}, "no update would ever happen"),
        ("sb3-dqn", {"train_every": 50, "learning_starts": 190, "timesteps": 200}, None),
        ("sb3-dqn", {"gradient_steps": 0}, "-1 is one for each env step"),
        ("sb3-dqn", {"train_unit": "episode", "num_envs": 2}, "a single environment"),
        ("sb3-dqn", {"policy_kwarg": "log_std_init"}, "expected KEY=VALUE"),
        ("sb3-dqn", {"hidden": "8,zero"}, "--hidden"),
        ("sb3-ppo", {"rollout_steps": 10, "batch_size": 8}, "take --batch-size 5"),
        ("sb3-ppo", {"rollout_steps": 10, "batch_size": 80}, "take --batch-size 10"),
        ("sb3-ppo", {"timesteps": 1000}, "--rollout-steps 1000 or fewer"),
        ("sb3-a2c", {"rollout_steps": 1, "normalize_advantages": True}, "--rollout-steps 2"),
    ],
)
def test_options_that_cannot_work_say_what_would(name, options, says):
    if says is None:
        plan(name, "CartPole-v1", **options)
        return
    with pytest.raises(UsageError, match=says):
        plan(name, "CartPole-v1", **options)


def test_what_the_library_refuses_is_a_usage_error():
    with pytest.raises(UsageError, match=r"stable-baselines3 .SB3DQN. does not take that: .*no_such"):
        built("sb3-dqn", "CartPole-v1", policy_kwarg="no_such=1")
    with pytest.raises(UsageError, match=r"there is no class 'no\.where:Buffer'"):
        built("sb3-dqn", "CartPole-v1", replay_buffer_class="no.where:Buffer")
    with pytest.raises(UsageError, match="optimize_memory_usage"):
        built("sb3-dqn", "CartPole-v1", optimize_memory_usage=True)


@pytest.mark.parametrize("name", NAMES)
def test_presets_are_valid_and_for_environments_that_exist(name):
    method = planning.load_method(name)
    assert method.presets()
    for preset in method.presets():
        target = "LunarLander-v3" if preset == "LunarLanderContinuous" else preset
        planning.plan(name, target, {"preset": preset, "device": "cpu"})


def test_the_presets_of_cartpole_are_the_zoos():
    config: Any = planning.plan("sb3-ppo", "CartPole-v1", {"device": "cpu"}).config
    assert (config.num_envs, config.rollout_steps, config.batch_size, config.update_epochs) == (8, 32, 256, 20)
    config = planning.plan("sb3-dqn", "CartPole-v1", {"device": "cpu"}).config
    assert (config.lr, config.train_every, config.gradient_steps, config.target_every) == (2.3e-3, 256, 128, 10)


# --- spaces ---------------------------------------------------------------------------------------


class Spaces:
    """A task that is nothing but spaces."""

    name = "spaces"

    def __init__(self, observations: Any, actions: Any) -> None:
        self.observation_space, self.action_space = observations, actions


VECTOR, BUTTONS, ARM = spaces.Box(-1, 1, (3,)), spaces.Discrete(3), spaces.Box(-2, 2, (2,))
IMAGE, STAMP = spaces.Box(0, 255, (84, 84, 3), np.uint8), spaces.Box(0, 255, (20, 20, 3), np.uint8)


@pytest.mark.parametrize(
    ("name", "observations", "actions", "options", "says"),
    [
        ("sb3-dqn", VECTOR, BUTTONS, {}, None),
        ("sb3-dqn", VECTOR, ARM, {}, "it takes Discrete actions, not Box"),
        ("sb3-sac", VECTOR, BUTTONS, {}, "it takes Box actions, not Discrete"),
        ("sb3-td3", VECTOR, spaces.Box(-np.inf, np.inf, (1,)), {}, "finite bounds"),
        ("sb3-ppo", VECTOR, spaces.Box(-1, 1, ()), {}, "not the single number"),
        ("sb3-ppo", spaces.Box(-1, 1, ()), BUTTONS, {}, "observations: it takes Box observations in a row"),
        ("sb3-sac", VECTOR, spaces.Box(np.float32([1, 0]), np.float32([1, 2])), {}, "of which a pair is equal"),
        ("sb3-ppo", VECTOR, spaces.Box(np.float32([1, 0]), np.float32([1, 2])), {}, None),
        ("sb3-ppo", VECTOR, BUTTONS, {"use_sde": True}, "--use-sde is for Box actions"),
        ("sb3-ppo", VECTOR, spaces.MultiDiscrete([2, 3]), {}, None),
        ("sb3-ppo", VECTOR, spaces.MultiDiscrete([[2], [3]]), {}, "in a row"),
        ("sb3-ppo", VECTOR, spaces.MultiBinary((2, 2)), {}, "in a row"),
        ("sb3-ppo", VECTOR, spaces.Tuple([BUTTONS]), {}, "it takes Box or Discrete or MultiDiscrete or MultiBinary"),
        ("sb3-dqn", spaces.Tuple([VECTOR]), BUTTONS, {}, "it does not take Tuple"),
        ("sb3-dqn", spaces.Dict(a=spaces.Dict(b=VECTOR)), BUTTONS, {}, "no Dict within a Dict"),
        ("sb3-dqn", spaces.Dict(a=STAMP), BUTTONS, {}, "36 x 36 and more"),
        ("sb3-dqn", spaces.Discrete(3, start=1), BUTTONS, {}, "begin at 0"),
        ("sb3-dqn", STAMP, BUTTONS, {}, None),
        ("sb3-dqn", STAMP, BUTTONS, {"policy": "CnnPolicy"}, "36 x 36 and more"),
        ("sb3-dqn", VECTOR, BUTTONS, {"policy": "CnnPolicy"}, "takes images of bytes"),
        ("sb3-dqn", VECTOR, BUTTONS, {"policy": "MultiInputPolicy"}, "--policy MlpPolicy does"),
        ("sb3-dqn", spaces.Dict(a=VECTOR), BUTTONS, {"policy": "MlpPolicy"}, "--policy MultiInputPolicy does"),
        ("sb3-dqn", IMAGE, BUTTONS, {"normalize_observations": True}, "Box observations of floats"),
        ("sb3-dqn", spaces.Dict(a=VECTOR), BUTTONS, {"normalize_observations": True}, "for Box observations"),
    ],
)
def test_spaces_that_the_library_does_not_take_are_refused_with_the_reason(name, observations, actions, options, says):
    library: Any = planning.load_method(name).algorithm
    reason = library.refusal(library.Config.parse(options), Spaces(observations, actions))
    assert reason is None if says is None else says in reason


def test_a_replay_buffer_that_has_no_room_is_refused_before_it_is_made():
    with pytest.raises(UsageError, match="a replay buffer of 1,000,000,000,000 transitions takes 52 TB"):
        built("sb3-dqn", "CartPole-v1", buffer_size=10**12, timesteps=2000)


@pytest.mark.parametrize(
    ("target", "kwarg", "policy"),
    [
        ("SB3Looking-v0", {}, "CnnPolicy"),
        ("SB3Looking-v0", {"shape": [3, 40, 40]}, "CnnPolicy"),
        ("SB3Looking-v0", {"shape": [8, 8, 3]}, "DQNPolicy"),
        ("SB3Goals-v0", {}, "MultiInputPolicy"),
    ],
)
def test_the_policy_follows_from_the_observations(target, kwarg, policy):
    agent = built("sb3-dqn", target, env_kwarg=kwarg, **{**DQN, "timesteps": 24, "learning_starts": 8})
    assert type(agent.policy).__name__ == policy
    while agent.count < agent.budget:
        metrics = agent.step()
    assert "train/loss" in metrics
    assert agent.evaluate(2)["eval/length"] <= 5
    assert type(agent).work(agent.config, agent.task) > 0


def test_actions_that_do_not_begin_at_0_are_counted_from_0_for_the_library():
    agent = trained("sb3-dqn", "SB3FromFive-v0", **DQN)
    assert set(np.unique(agent.replay.buffer.actions[: agent.replay.buffer.pos])) <= {0, 1}
    for deterministic in (True, False):
        actions, _ = agent.act(np.zeros((50, 1), np.float32), deterministic=deterministic)
        assert set(actions.tolist()) <= {5, 6}
