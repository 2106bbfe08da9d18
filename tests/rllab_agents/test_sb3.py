import inspect
import math
import subprocess
import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
import sb3_agents
import stable_baselines3
import torch
from rllab_agents.sb3.arguments import METRICS
from rllab_agents.sb3.state import LEFT_OUT
from sb3_agents import BOX, DQN, NAMES, ON, PPO, SMALL, STEPS, built, plan, trained
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from rllab.errors import RunFailed
from rllab.seeding import Streams
from rllab.state import UncapturedState
from rllab.testing import check_algorithm, check_resume, check_resume_in_new_process, first_difference


@pytest.fixture(autouse=True)
def environments():
    with sb3_agents.registered():
        yield


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
    assert agent.evaluate(1)["eval/return"] >= 1


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


@pytest.mark.parametrize("validated", [True, False])
def test_parameters_that_become_nan_fail_the_run(monkeypatch, validated):
    monkeypatch.setattr(torch.distributions.Distribution, "_validate_args", validated)
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
