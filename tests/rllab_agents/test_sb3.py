import inspect
import math
import subprocess
import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
import stable_baselines3
import torch
from gymnasium import spaces
from rllab_agents.sb3.arguments import DECIDED, METRICS
from rllab_agents.sb3.base import SB3Agent
from rllab_agents.sb3.state import LEFT_OUT
from stable_baselines3.common.envs import BitFlippingEnv
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from rllab import experiment, planning
from rllab.errors import RunFailed, UsageError
from rllab.seeding import Streams, global_state, set_global_state
from rllab.state import UncapturedState
from rllab.testing import check_algorithm, check_resume, check_resume_in_new_process, first_difference

OFF = {"timesteps": 70, "buffer_size": 30, "learning_starts": 20, "batch_size": 8, "hidden": "8", "eval_episodes": 2}
DQN = {**OFF, "timesteps": 88, "train_every": 4, "gradient_steps": 2, "target_every": 10, "exploration_fraction": 0.5}
BOX = {**OFF, "max_episode_steps": 30}
ON = {"timesteps": 120, "num_envs": 2, "hidden": "8", "eval_episodes": 2}
PPO = {**ON, "rollout_steps": 10, "batch_size": 10, "update_epochs": 2}
SMALL: dict[str, tuple[str, dict[str, Any]]] = {
    "sb3-dqn": ("CartPole-v1", DQN),
    "sb3-ppo": ("CartPole-v1", PPO),
    "sb3-a2c": ("CartPole-v1", ON),
    "sb3-sac": ("Pendulum-v1", BOX),
    "sb3-td3": ("Pendulum-v1", {**BOX, "action_noise": 0.1, "noise_process": "ornstein-uhlenbeck"}),
    "sb3-ddpg": ("Pendulum-v1", {**BOX, "num_envs": 2, "train_every": 2, "action_noise": 0.1}),
}
NAMES = sorted(SMALL)
STEPS = {"sb3-dqn": 10, "sb3-ppo": 3, "sb3-a2c": 6, "sb3-sac": 33, "sb3-td3": 33, "sb3-ddpg": 17}
"""Steps after which there were updates, and a replay buffer is full."""


class Goals(BitFlippingEnv):
    def __init__(self) -> None:
        super().__init__(n_bits=3, continuous=False, max_steps=5)


class FromFive(gymnasium.Env):
    """An action is told from the others by its reward; the observation is the number of steps."""

    observation_space = spaces.Box(0, 100, (1,), np.float32)
    action_space = spaces.Discrete(2, start=5)
    metadata: dict[str, Any] = {"render_modes": []}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        assert action in {5, 6}, action
        self.at += 1
        return np.array([self.at], np.float32), float(action), False, self.at == 7, {}


class Opaque(FromFive):
    """Nothing tells how far its episode is: a checkpoint cannot keep it."""

    def __init__(self) -> None:
        self.hidden = iter(range(0))

    def reset(self, *, seed=None, options=None):
        self.hidden = iter(range(1, 100))
        self.drift = np.random.default_rng().integers(1, 50)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        at = next(self.hidden)
        return np.array([at + self.drift], np.float32), 0.0, False, at == 40, {}


class Looking(gymnasium.Env):
    """Images of any space."""

    action_space = spaces.Discrete(2)
    metadata: dict[str, Any] = {"render_modes": []}

    def __init__(self, shape=(40, 48, 3)) -> None:
        self.observation_space = spaces.Box(0, 255, tuple(shape), np.uint8)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = 0
        return self.look(), {}

    def step(self, action):
        self.at += 1
        return self.look(), 1.0, self.at == 4, False, {}

    def look(self):
        return np.full(self.observation_space.shape, 10 * self.at, np.uint8)


ENVS = {"SB3Goals-v0": Goals, "SB3FromFive-v0": FromFive, "SB3Opaque-v0": Opaque, "SB3Looking-v0": Looking}


@pytest.fixture(autouse=True)
def registered():
    threads, before = torch.get_num_threads(), global_state()
    for name, kind in ENVS.items():
        gymnasium.register(name, kind)
    yield
    for name in ENVS:
        del gymnasium.registry[name]
    torch.set_num_threads(threads)
    set_global_state(before)


def plan(name: str, target: str, **options: Any) -> planning.Plan:
    return planning.plan(name, target, {"preset": "none", "device": "cpu", **options})


def built(name: str, target: str, *, setup: bool = True, **options: Any) -> SB3Agent:
    agent, _ = experiment.build(plan(name, target, **options))
    assert isinstance(agent, SB3Agent)
    if setup:
        agent.setup()
    return agent


def trained(name: str, target: str, **options: Any) -> SB3Agent:
    agent = built(name, target, **options)
    while agent.count < agent.budget:
        agent.step()
    return agent


# --- the contract ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_it_keeps_the_contract(name):
    target, options = SMALL[name]
    check_algorithm(name, target, steps=STEPS[name], **options)


@pytest.mark.parametrize(
    ("name", "target", "options"),
    [
        (
            "sb3-ppo",
            "Pendulum-v1",
            {**PPO, "use_sde": True, "sde_sample_freq": 4, "normalize_observations": True},
        ),
        ("sb3-a2c", "CartPole-v1", {**ON, "normalize_observations": True, "normalize_returns": True}),
        ("sb3-sac", "Pendulum-v1", {**BOX, "use_sde": True, "normalize_returns": True}),
        ("sb3-dqn", "CartPole-v1", {**DQN, "n_step": 3, "normalize_observations": True, "num_envs": 2}),
        ("sb3-td3", "Pendulum-v1", {**BOX, "train_unit": "episode", "gradient_steps": -1}),
        ("sb3-dqn", "SB3Goals-v0", {**DQN, "replay_buffer_class": "her", "replay_buffer_kwarg": "n_sampled_goal=2"}),
        (
            "sb3-dqn",
            "CartPole-v1",
            {**DQN, "optimize_memory_usage": True, "replay_buffer_kwarg": "handle_timeout_termination=false"},
        ),
    ],
    ids=["gsde", "normalised", "sac-gsde", "n-step", "episodes", "hindsight", "memory"],
)
def test_a_resumed_run_goes_on_bit_for_bit_with(name, target, options):
    steps = 2 if "train_unit" in options else min(STEPS[name], 24)
    check_resume(plan(name, target, **options), steps)


@pytest.mark.slow
def test_resumes_in_a_new_process_bit_for_bit(tmp_path):
    target, options = SMALL["sb3-sac"]
    given = [text for key, value in options.items() for text in (f"--{key.replace('_', '-')}", str(value))]
    check_resume_in_new_process("sb3-sac", target, budget=70, stop_after=40, options=given, folder=tmp_path)


# --- the same as the library ----------------------------------------------------------------------


def alone(name: str, target: str, options: dict[str, Any], **arguments: Any) -> Any:
    """Return the library's model after one `learn`, without anything of ours but the seeds."""
    streams = Streams(0)
    streams.seed_globals()
    n, limit = options.get("num_envs", 1), options.get("max_episode_steps")
    envs: Any = DummyVecEnv([lambda: gymnasium.make(target, max_episode_steps=limit)] * n)
    children = streams.sequence("environments").spawn(n)
    envs._seeds = [int(child.generate_state(2)[0]) for child in children]
    envs.action_space.seed(int(streams.sequence("exploration").generate_state(1)[0]))
    if options.get("normalize_observations"):
        envs = VecNormalize(envs, norm_reward=False)
    kind = getattr(stable_baselines3, name.removeprefix("sb3-").upper())
    arguments["policy_kwargs"] = {"net_arch": [8], **arguments.get("policy_kwargs", {})}
    model = kind("MlpPolicy", envs, device="cpu", **arguments)
    return model.learn(options["timesteps"])


REPLAY = {"buffer_size": 30, "learning_starts": 20, "batch_size": 8}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "sb3-dqn": {
        **REPLAY,
        "train_freq": 4,
        "gradient_steps": 2,
        "target_update_interval": 10,
        "exploration_fraction": 0.5,
    },
    "sb3-ppo": {"n_steps": 10, "batch_size": 10, "n_epochs": 2},
    "sb3-a2c": {},
    "sb3-sac": REPLAY,
    "sb3-td3": {**REPLAY, "action_noise": OrnsteinUhlenbeckActionNoise(np.zeros(1), np.full(1, 0.1))},
    "sb3-ddpg": {**REPLAY, "action_noise": NormalActionNoise(np.zeros(1), np.full(1, 0.1))},
}


@pytest.mark.parametrize("name", NAMES)
def test_steps_are_bit_for_bit_one_learn_of_the_library(name):
    target, options = SMALL[name]
    options = options | {"schedule": "linear"}
    rate = inspect.signature(getattr(stable_baselines3, name[4:].upper())).parameters["learning_rate"].default
    expected = alone(
        name, target, options, **ARGUMENTS[name], learning_rate=lambda remaining: rate * (1 - (1 - remaining))
    )
    agent = trained(name, target, **options)
    assert agent.count == expected.num_timesteps >= options["timesteps"]
    assert agent.model._n_updates == expected._n_updates > 0
    assert not first_difference(expected.policy.state_dict(), agent.policy.state_dict())


def test_normalised_observations_and_gsde_are_the_librarys():
    options = {**PPO, "use_sde": True, "normalize_observations": True, "policy_kwarg": "log_std_init=-2"}
    arguments = {"use_sde": True, "policy_kwargs": {"log_std_init": -2}}
    expected = alone("sb3-ppo", "Pendulum-v1", options, **ARGUMENTS["sb3-ppo"], **arguments)
    agent = trained("sb3-ppo", "Pendulum-v1", **options)
    assert not first_difference(expected.policy.state_dict(), agent.policy.state_dict())
    raw = agent.envs.observations
    seen = expected.get_vec_normalize_env().normalize_obs(raw)
    actions, _ = agent.act(raw, deterministic=True)
    assert np.array_equal(actions, expected.policy.predict(seen, deterministic=True)[0])


def test_schedules_run_over_the_whole_budget_and_not_over_a_step():
    agent = built(
        "sb3-dqn", "CartPole-v1", **{**DQN, "timesteps": 100, "learning_starts": 0}, schedule="linear", lr=0.1
    )
    seen = {}
    while agent.count < agent.budget:
        metrics = agent.step()
        seen[agent.count] = metrics["train/epsilon"], metrics["train/lr"]
    # epsilon falls from 1 to 0.05 over the first half, lr from 0.1 to 0 over all
    assert seen[4] == pytest.approx((1 - 0.95 * 4 / 50, 0.1 * 0.96))
    assert seen[48] == pytest.approx((1 - 0.95 * 48 / 50, 0.1 * 0.52))
    assert seen[100] == pytest.approx((0.05, 0.0))


def test_the_clip_range_follows_its_schedule():
    agent = built("sb3-ppo", "CartPole-v1", **{**PPO, "timesteps": 40}, clip_schedule="linear", clip_range=0.2)
    assert [agent.step()["train/clip_range"] for _ in range(2)] == pytest.approx([0.1, 0.0])


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


# --- ends of episodes -----------------------------------------------------------------------------


def test_a_time_limit_is_no_termination_and_leads_to_the_true_last_observation():
    agent = trained("sb3-dqn", "SB3FromFive-v0", **{**DQN, "timesteps": 16, "learning_starts": 0})
    buffer = agent.replay.buffer
    assert buffer.next_observations[:8, 0, 0].tolist() == [1, 2, 3, 4, 5, 6, 7, 1]
    assert buffer.observations[:8, 0, 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 0]
    assert np.flatnonzero(buffer.dones[:16, 0]).tolist() == [6, 13]
    assert np.flatnonzero(buffer.timeouts[:16, 0]).tolist() == [6, 13]


def test_returns_are_raw_also_where_the_library_learns_from_normalised_ones():
    agent = built("sb3-ppo", "SB3FromFive-v0", normalize_returns=True, normalize_observations=True, **PPO)
    returns = [agent.step().get("train/return") for _ in range(3)]
    assert all(35 <= value <= 42 for value in returns if value is not None)
    assert any(value is not None for value in returns)


# --- state ----------------------------------------------------------------------------------------


def test_whatever_the_library_holds_is_kept_or_left_out_for_a_reason():
    for name in NAMES:
        agent = built(name, SMALL[name][0], **SMALL[name][1])
        kept = agent.learner.state_dict()["attributes"]
        assert not set(kept) & set(LEFT_OUT)
        assert {"num_timesteps", "_n_updates", "_last_obs", "action_space"} <= set(kept)
        agent.model.novelty = object()  # type: ignore[attr-defined]  # as of a later version
        with pytest.raises(UncapturedState, match="novelty"):
            agent.state_dict()


def test_only_the_filled_part_of_the_replay_buffer_is_kept():
    agent = trained("sb3-dqn", "CartPole-v1", **{**DQN, "buffer_size": 1_000_000, "timesteps": 40})
    sizes = {len(array) for array in agent.replay.state_dict()["arrays"].values()}
    assert sizes == {41}


def test_acting_needs_no_replay_buffer():
    agent = built("sb3-dqn", "CartPole-v1", setup=False, buffer_size=10**12)
    agent.evaluate(1)


def test_a_larger_budget_is_what_schedules_count_to():
    first = trained("sb3-ppo", "CartPole-v1", **{**PPO, "timesteps": 40}, schedule="linear", lr=0.1)
    state = first.state_dict()
    second = built("sb3-ppo", "CartPole-v1", **{**PPO, "timesteps": 80}, schedule="linear", lr=0.1)
    second.load_state_dict(state)
    assert second.step()["train/lr"] == pytest.approx(0.1 * 0.25)


def test_an_episode_that_begins_again_does_not_reach_across():
    options = {**DQN, "num_envs": 2, "train_every": 2, "timesteps": 60, "n_step": 3}
    first = built("sb3-dqn", "SB3Opaque-v0", **options)
    assert first.envs.strategy is not None
    assert first.envs.strategy.name == "restart"
    for _ in range(5):
        first.step()
    second = built("sb3-dqn", "SB3Opaque-v0", **options)
    second.load_state_dict(first.state_dict())
    assert second.envs.restarted == 2
    assert np.array_equal(second.model._last_obs, second.envs.observations)  # type: ignore[arg-type]
    assert second.model._last_obs.tolist() == [[0], [0]]  # type: ignore[union-attr]
    assert second.replay.buffer.dones[4].tolist() == second.replay.buffer.timeouts[4].tolist() == [1, 1]
    assert not second.replay.buffer.dones[:4].any()


def test_evaluating_by_gsde_draws_noise_of_its_own():
    agent = trained("sb3-ppo", "Pendulum-v1", **PPO, use_sde=True, max_episode_steps=10)
    policy: Any = agent.policy
    before, generator = policy.action_dist.exploration_mat.clone(), torch.get_rng_state()
    first, second = (agent.evaluate(2, deterministic=False)["eval/return"] for _ in range(2))
    assert first == second != agent.evaluate(2)["eval/return"]
    assert torch.equal(policy.action_dist.exploration_mat, before)
    assert torch.equal(torch.get_rng_state(), generator)
    observations = agent.envs.observations
    one, memory = agent.act(observations, deterministic=False)
    again, _ = agent.act(observations, memory, deterministic=False)
    assert np.array_equal(one, again)


# --- metrics and failures -------------------------------------------------------------------------


def test_metrics_have_our_names():
    logged = {name: set(trained_metrics(name)) for name in NAMES}
    assert {"train/loss", "train/epsilon", "train/lr"} <= logged["sb3-dqn"]
    common = {"train/policy_loss", "train/value_loss", "train/lr"}
    assert common | {"train/entropy", "train/kl", "train/clip_fraction", "train/loss"} <= logged["sb3-ppo"]
    assert common | {"train/entropy"} <= logged["sb3-a2c"]
    assert common | {"train/alpha"} <= logged["sb3-sac"]
    assert common <= logged["sb3-td3"] & logged["sb3-ddpg"]
    assert set.union(*logged.values()) <= set(METRICS.values()) | {"train/return", "train/length"}


def trained_metrics(name: str) -> dict[str, Any]:
    target, options = SMALL[name]
    agent, found = built(name, target, **options), {}
    while agent.count < agent.budget:
        found |= agent.step()
    return found


def test_the_entropy_is_positive():
    assert 0.6 < trained_metrics("sb3-ppo")["train/entropy"] <= math.log(2)


def test_parameters_that_become_nan_fail_the_run():
    agent = built("sb3-ppo", "CartPole-v1", **PPO)
    with torch.no_grad():
        next(agent.policy.parameters()).fill_(math.nan)
    with pytest.raises(RunFailed, match="stable-baselines3"):
        agent.step()


def test_warnings_of_the_library_become_notes(caplog):
    import warnings

    from rllab_agents.sb3.arguments import in_our_words

    with in_our_words("SB3PPO"):
        warnings.warn(
            "You are trying to run PPO on the GPU, but it is primarily intended to run on the CPU", stacklevel=1
        )
        warnings.warn("This system does not have apparently enough memory", stacklevel=1)
        warnings.warn("a word between the authors of libraries", DeprecationWarning, stacklevel=1)
    assert [record.getMessage() for record in caplog.records] == [
        "stable-baselines3: This system does not have apparently enough memory"
    ]


def test_listing_methods_does_not_import_the_library():
    code = (
        "import sys, rllab.cli\n"
        "try: rllab.cli.main(['list', 'agents'])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert not {'stable_baselines3', 'torch'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in NAMES)
