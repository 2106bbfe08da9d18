"""What sac, td3 and ddpg have in common: experience, how often they learn, what they refuse."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boxes
import numpy as np
import pytest
from boxes import agent_for
from rllab_agents.off_policy import OffPolicyConfig, ReplayConfig

from rllab import planning
from rllab.agent import crossings
from rllab.errors import UsageError
from rllab.parts.replay import Batch
from rllab.testing import check_algorithm, check_resume_in_new_process

METHODS = ["sac", "td3", "ddpg"]


@pytest.fixture(autouse=True, scope="module")
def environments() -> Iterator[None]:
    with boxes.registered():
        yield


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    boxes.close()


# --- experience ---------------------------------------------------------------------------------------------


def stored(agent: Any, steps: int) -> dict[str, list[float]]:
    for _ in range(steps):
        agent.step()
    state = agent.replay.state_dict()
    names = ("observations", "next_observations", "terminated", "actions", "rewards")
    return {name: state[name].reshape(-1).tolist() for name in names}


@pytest.mark.parametrize("method", METHODS)
def test_actions_are_stored_scaled_and_played_between_asymmetric_bounds(method: str) -> None:
    found = stored(agent_for(method), 30)  # the environment refuses what is not in its space, and pays the action
    assert -1 <= min(found["actions"]) < max(found["actions"]) <= 1
    assert found["rewards"] == pytest.approx([2 + 4 * a for a in found["actions"]], abs=1e-5)
    assert found["observations"] == list(range(30))


@pytest.mark.parametrize("method", METHODS)
def test_a_truncated_episode_keeps_its_final_observation_and_bootstraps(method: str) -> None:
    found = stored(agent_for(method, max_episode_steps=3), 7)
    assert found["next_observations"] == [1, 2, 3, 1, 2, 3, 1]
    assert found["terminated"] == [0] * 7


@pytest.mark.parametrize("method", METHODS)
def test_a_terminated_episode_is_marked(method: str) -> None:
    found = stored(agent_for(method, env_kwarg="end=3", max_episode_steps=3), 7)
    assert found["next_observations"] == [1, 2, 3, 1, 2, 3, 1]
    assert found["terminated"] == [0, 0, 1, 0, 0, 1, 0]


@pytest.mark.parametrize("method", METHODS)
def test_observations_and_actions_may_be_numbers(method: str) -> None:
    agent = agent_for(method, "Number", normalize_observations=True, num_envs=2)
    for _ in range(5):
        assert "train/value_loss" in agent.step()
    assert agent.normalizer.number == 10
    assert agent.normalizer.mean.item() == 2  # of 0 to 4, which were acted on
    actions, _ = agent.act(np.ones(3, np.float32), deterministic=True)
    assert actions.shape == (3,)
    assert actions.dtype == np.float64


# --- how often they learn -----------------------------------------------------------------------------------


@pytest.mark.parametrize("num_envs", [1, 3, 8])
@pytest.mark.parametrize("method", METHODS)
def test_the_updates_for_each_step_are_the_same_for_any_number_of_environments(method: str, num_envs: int) -> None:
    """120 steps, learning after 24, one round of 2 for every 4 steps: (120 - 24) / 4 * 2 = 48."""
    options = {"timesteps": 120, "learning_starts": 24, "train_every": 4, "gradient_steps": 2, "batch_size": 16}
    agent = agent_for(method, num_envs=num_envs, **options)
    batches: list[Batch] = []
    sample = agent.replay.sample

    def watching(*arguments: Any) -> Batch:
        batches.append(sample(*arguments))
        return batches[-1]

    agent.replay.sample = watching
    while agent.count < 120:
        before = len(batches)
        agent.step()
        assert len(batches) == before or agent.count > 24
    assert len(batches) == 48
    assert len({tuple(drawn.actions.flatten().tolist()) for drawn in batches}) == 48  # a batch of its own for each


@pytest.mark.parametrize(("count", "lr"), [(1, 0.099), (50, 0.05), (100, 0.0)])
@pytest.mark.parametrize("method", METHODS)
def test_the_step_size_at_start_middle_and_end(method: str, count: int, lr: float) -> None:
    agent = agent_for(method, lr=0.1, schedule="linear", batch_size=2)
    agent.step()
    agent.count = count - 1
    assert agent.step()["train/lr"] == pytest.approx(lr)


@pytest.mark.parametrize("method", METHODS)
def test_metrics_of_several_gradient_steps_are_their_mean(method: str) -> None:
    agent = agent_for(method, gradient_steps=3)
    values: list[float] = []
    learn = agent.learn

    def watching(lr: float) -> Any:
        metrics = learn(lr)
        values.append(float(metrics["train/value_loss"]))
        return metrics

    agent.learn = watching
    assert float(agent.step()["train/value_loss"]) == pytest.approx(sum(values) / 3)
    assert len(values) == 3


# --- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("CartPole-v1", "it takes Box actions, not Discrete"),
        (
            "boxes/Unbounded-v0",
            r"an action bound is infinite: number 0 lies in \[-inf, inf\]; reinforce, a2c and ppo",
        ),
        ("boxes/Looking-v0", r"it takes vectors, and the observations are images of \(96, 96, 3\)"),
    ],
)
def test_spaces_it_cannot_handle_are_refused_before_anything_starts(method: str, target: str, reason: str) -> None:
    with pytest.raises(UsageError, match=f"{method} cannot be trained on {target}: .*{reason}") as caught:
        planning.plan(method, target, {"preset": "none"})
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("method", METHODS)
def test_a_replay_buffer_that_has_no_room_in_memory_is_refused(method: str) -> None:
    with pytest.raises(UsageError, match=r"a replay buffer of 1,000,000,000,000 transitions takes 36 TB"):
        planning.plan(method, "Pendulum-v1", {"preset": "none", "buffer_size": 10**12})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batch_size": 64, "buffer_size": 32}, "--batch-size 64 is larger than the replay buffer: --buffer-size 32"),
        ({"learning_starts": 100, "timesteps": 100}, "--learning-starts 100 is not below --timesteps 100: no update"),
        ({"timesteps": 150, "train_every": 200}, "--train-every 200 has no multiple above --learning-starts 100"),
        ({"gamma": 1.1}, "--gamma 1.1: should be less than or equal to 1"),
        ({"tau": 0}, "--tau 0: should be greater than 0"),
    ],
)
def test_a_configuration_that_cannot_work_is_told(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        OffPolicyConfig.parse(values)


def test_exactly_the_configurations_that_never_learn_are_refused() -> None:
    for timesteps in range(1, 7):
        for every in range(1, 7):
            for starts in range(7):
                rounds = [n for n in range(1, timesteps + 1) if n > starts and crossings(n - 1, n, every)]
                try:
                    ReplayConfig.parse({"timesteps": timesteps, "train_every": every, "learning_starts": starts})
                    assert rounds
                except UsageError:
                    assert not rounds


def test_the_presets_are_found_also_that_of_an_environment_with_an_option() -> None:
    planned = planning.plan("sac", "Pendulum-v1", {})
    assert (planned.config.lr, planned.config.timesteps) == (1e-3, 20_000)
    pytest.importorskip("Box2D")
    for method, timesteps in (("sac", 500_000), ("td3", 300_000)):
        planned = planning.plan(method, "LunarLander-v3", {"preset": "LunarLanderContinuous"})
        assert planned.config.timesteps == timesteps
        assert planned.task.config.env_kwarg == {"continuous": True}


# --- the contract -------------------------------------------------------------------------------------------


SMALL = {
    **{"hidden": "8", "batch_size": 8, "learning_starts": 10},
    **{"timesteps": 1000, "buffer_size": 100, "eval_episodes": 2},
}


@pytest.mark.parametrize("method", METHODS)
def test_they_keep_the_contract(method: str) -> None:
    check_algorithm(
        method, "Pendulum-v1", **SMALL, steps=15, num_envs=2, max_episode_steps=8, normalize_observations=True
    )


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sac", "td3"])
def test_a_resumed_run_is_the_same_in_a_new_process(method: str, tmp_path: Path) -> None:
    options = [f"--{name.replace('_', '-')}={value}" for name, value in (SMALL | {"timesteps": 120}).items()]
    check_resume_in_new_process(method, "Pendulum-v1", budget=120, stop_after=70, options=options, folder=tmp_path)
