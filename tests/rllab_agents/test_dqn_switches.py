"""What DQN has beyond the paper: several steps, dueling networks, priorities, images."""

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from rllab_agents.dqn import DQN, DQNConfig

from rllab import experiment, planning
from rllab.environments import EnvironmentConfig, EnvironmentTask
from rllab.errors import UsageError
from rllab.parts.encoders import Dueling
from rllab.parts.frames import FrameReplay
from rllab.parts.networks import MLP
from rllab.parts.prioritised import PrioritisedReplay
from rllab.parts.replay import Batch, ReplayBuffer
from rllab.testing import check_algorithm


class Clock(gymnasium.Env):
    """Shows how many steps the episode has had, and pays as much; `end` says after how many it terminates."""

    observation_space: Any = spaces.Box(0, 100, (1,), np.float32)
    action_space: Any = spaces.Discrete(2)

    def __init__(self, end: int = 100) -> None:
        self.end = end

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = 0
        return self.look(), {}

    def step(self, action):
        self.at += 1
        return self.look(), float(self.at), self.at == self.end, False, {}

    def look(self):
        return np.array([self.at], np.float32)


class Film(Clock):
    """Shows the time as a bright row."""

    observation_space = spaces.Box(0, 255, (36, 36), np.uint8)

    def look(self):
        image = np.zeros((36, 36), np.uint8)
        image[self.at % 36] = 255
        return image


class Screen(Clock):
    observation_space = spaces.Box(0, 255, (84, 84, 3), np.uint8)

    def look(self):
        return np.full((84, 84, 3), self.at, np.uint8)


ENVIRONMENTS = {kind.__name__: kind for kind in (Clock, Film, Screen)}


@pytest.fixture(autouse=True, scope="module")
def environments() -> Iterator[None]:
    for name, kind in ENVIRONMENTS.items():
        gymnasium.register(f"switches/{name}-v0", kind)
    yield
    for name in ENVIRONMENTS:
        del gymnasium.registry[f"switches/{name}-v0"]


MADE: list[DQN] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    while MADE:
        MADE.pop().close()


def agent_for(environment: str = "Clock", **options: Any) -> DQN:
    """Return an agent that is set up."""
    values = {"preset": "none", "device": "cpu", "timesteps": 100, "learning_starts": 0, "hidden": "8", **options}
    agent, _ = experiment.build(planning.plan("dqn", f"switches/{environment}-v0", values))
    agent.setup()
    assert isinstance(agent, DQN)
    MADE.append(agent)
    return agent


def steps(agent: DQN, number: int) -> DQN:
    for _ in range(number):
        agent.step()
    return agent


# --- several steps ------------------------------------------------------------------------------------------


def everything(agent: DQN) -> Batch:
    assert isinstance(agent.replay, ReplayBuffer)
    return agent.replay.take(np.arange(len(agent.replay)))


def test_rewards_of_several_steps_are_discounted_and_so_is_the_value_after_them() -> None:
    """The rewards are 1, 2, 3, ...: from 0 on 1 + 2 / 2 + 3 / 4 = 2.75; Q_target is the time everywhere."""
    agent = steps(agent_for(n_step=3, gamma=0.5, hidden="none", learning_starts=99), 4)
    with torch.no_grad():
        agent.target[0].weight.fill_(1)  # type: ignore[index,union-attr,operator]
        agent.target[0].bias.zero_()  # type: ignore[index,union-attr,operator]
    drawn = everything(agent)
    assert drawn.rewards.tolist() == [2.75, 2 + 3 / 2 + 4 / 4, 3 + 4 / 2, 4]
    y = agent.targets(drawn, agent.next_q(drawn))
    assert y.tolist() == [2.75 + 3 / 8, 4.5 + 4 / 8, 5 + 4 / 4, 4 + 4 / 2]


@pytest.mark.parametrize("num_envs", [1, 2])
def test_several_steps_stop_at_a_truncation_and_bootstrap_from_it(num_envs: int) -> None:
    drawn = everything(steps(agent_for(n_step=3, gamma=0.5, max_episode_steps=2, num_envs=num_envs), 4))
    assert drawn.rewards.tolist() == [2] * num_envs + [2] * num_envs + [2] * 2 * num_envs
    assert drawn.next_observations.flatten().tolist() == [2] * 4 * num_envs
    assert drawn.discounts(0.5).tolist() == ([0.25] * num_envs + [0.5] * num_envs) * 2


def test_several_steps_stop_at_a_terminal_state() -> None:
    drawn = everything(steps(agent_for(n_step=3, gamma=0.5, env_kwarg="end=2"), 4))
    assert drawn.rewards.tolist() == [2, 2, 2, 2]
    assert drawn.discounts(0.5).tolist() == [0, 0, 0, 0]


# --- the loss -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["huber", "squared"])
@pytest.mark.parametrize("environment", ["Clock", "Film"])
def test_a_gradient_step_with_all_switches_is_the_one_that_autograd_takes(environment: str, loss: str) -> None:
    options = {"double": True, "dueling": True, "n_step": 3, "prioritized": True, "optimizer": "sgd"}
    agent = agent_for(environment, loss=loss, batch_size=6, gamma=0.5, learning_starts=99, max_grad_norm=0, **options)
    steps(agent, 12)
    agent.replay.update(agent.replay.sample(6, np.random.default_rng(0), 0.5), torch.arange(6) + 0.5)
    drawn = agent.replay.sample(6, np.random.default_rng(1), 0.5)
    assert drawn.weights is not None
    assert drawn.steps is not None
    rows = torch.arange(6)
    with torch.no_grad():
        for parameter in agent.target.parameters():
            parameter.add_(0.01)
        following = agent.inputs(drawn.next_observations)
        best = agent.q(following).argmax(1)
        value = agent.target(following)[rows, best]
        y = drawn.rewards + 0.5**drawn.steps * (1 - drawn.terminated) * value
    theirs = {"huber": torch.nn.functional.smooth_l1_loss, "squared": torch.nn.functional.mse_loss}[loss]
    losses = theirs(agent.q(agent.inputs(drawn.observations))[rows, drawn.actions], y, reduction="none")
    expected = (drawn.weights * losses).mean()
    gradients = torch.autograd.grad(expected, list(agent.q.parameters()))
    moved = [p.detach() - 0.01 * g for p, g in zip(agent.q.parameters(), gradients, strict=True)]
    with torch.no_grad():
        got = agent.descend(drawn, agent.targets(drawn, agent.next_q(drawn)), 0.01)
    torch.testing.assert_close(got, expected.detach())
    for parameter, value in zip(agent.q.parameters(), moved, strict=True):
        torch.testing.assert_close(parameter.detach(), value)


@pytest.mark.parametrize("part", ["rewards", "terminated", "steps"])
def test_a_column_instead_of_a_vector_is_caught_before_it_broadcasts(part: str) -> None:
    agent = steps(agent_for(n_step=2, batch_size=4, learning_starts=99), 8)
    drawn = agent.replay.sample(4, np.random.default_rng(0))
    wrong = drawn._replace(**{part: torch.ones(4, 1)})
    with torch.no_grad(), pytest.raises(AssertionError):
        agent.descend(wrong, agent.targets(wrong, agent.next_q(wrong)), 0.1)


def test_the_dueling_target_equals_the_online_network_at_the_start() -> None:
    agent = agent_for(dueling=True)
    assert isinstance(agent.q, Dueling)
    for one, other in zip(agent.q.parameters(), agent.target.parameters(), strict=True):
        assert torch.equal(one, other)
        assert one.requires_grad
        assert not other.requires_grad


# --- priorities ---------------------------------------------------------------------------------------------


def test_the_errors_of_a_batch_become_its_priorities() -> None:
    agent = steps(agent_for(prioritized=True, priority_alpha=0.5, batch_size=4, learning_starts=99), 8)
    replay = agent.replay
    assert isinstance(replay, PrioritisedReplay)
    drawn = replay.sample(4, np.random.default_rng(0), 0.4)
    assert drawn.rows is not None
    with torch.no_grad():
        y = agent.targets(drawn, agent.next_q(drawn))
        error = agent.q(drawn.observations)[torch.arange(4), drawn.actions] - y
        agent.descend(drawn, y, 0.1)
    np.testing.assert_allclose(replay._tree[drawn.rows.numpy()], (error.abs().numpy() + 1e-6) ** 0.5, rtol=1e-5)


@pytest.mark.parametrize(("count", "beta"), [(0, 0.4), (50, 0.7), (100, 1.0)])
def test_beta_at_start_middle_and_end(count: int, beta: float) -> None:
    agent = agent_for(prioritized=True, priority_beta=0.4)
    agent.count = count
    assert agent.beta == pytest.approx(beta)


@pytest.mark.parametrize(("prioritized", "drawn"), [(False, [12]), (True, [4, 4, 4])])
def test_with_priorities_each_batch_is_drawn_after_the_step_before(prioritized: bool, drawn: list[int]) -> None:
    agent = steps(agent_for(prioritized=prioritized, batch_size=4, learning_starts=50, gradient_steps=3), 50)
    sizes: list[int] = []
    sample = agent.replay.sample

    def watching(batch_size: int, *rest: Any) -> Batch:
        sizes.append(batch_size)
        return sample(batch_size, *rest)

    agent.replay.sample = watching  # type: ignore[method-assign]
    agent.step()
    assert sizes == drawn


@pytest.mark.parametrize("num_envs", [1, 3])
def test_the_updates_for_each_step_are_the_same_with_all_switches(num_envs: int) -> None:
    """120 steps, learning after 24, one round of 2 for every 4 steps: (120 - 24) / 4 * 2 = 48."""
    options = {"learning_starts": 24, "train_every": 4, "gradient_steps": 2, "batch_size": 4}
    switches = {"prioritized": True, "n_step": 2, "dueling": True, "double": True}
    agent = agent_for(num_envs=num_envs, timesteps=120, **options, **switches)
    descend, taken = agent.descend, []
    agent.descend = lambda *given: taken.append(1) or descend(*given)  # type: ignore[method-assign,func-returns-value]
    while agent.count < 120:
        agent.step()
    assert len(taken) == 48


# --- images -------------------------------------------------------------------------------------------------


def test_images_are_looked_at_by_convolutions_and_their_frames_are_stored_once() -> None:
    agent = agent_for("Film", frame_stack=4, num_envs=2, max_episode_steps=7, batch_size=4, n_step=2)
    assert isinstance(agent.replay, FrameReplay)
    assert [type(layer).__name__ for layer in agent.q.children()][:2] == ["Conv2d", "ReLU"]
    for _ in range(10):
        assert "train/loss" in agent.step()
    drawn = everything(agent)
    assert drawn.observations.shape == (20, 4, 36, 36)
    assert drawn.observations[12:14].argmax(2)[..., 0].tolist() == [[3, 4, 5, 6]] * 2
    assert drawn.next_observations[12:14].argmax(2)[..., 0].tolist() == [[4, 5, 6, 7]] * 2  # the true final one
    assert drawn.observations[14:16].argmax(2)[..., 0].tolist() == [[0, 0, 0, 0]] * 2
    assert agent.act(agent.envs.observations, deterministic=True)[0].shape == (2,)


def test_images_can_be_flattened() -> None:
    agent = agent_for("Screen", network="mlp", batch_size=2)
    assert type(agent.q) is MLP
    assert agent.inputs(torch.full((1, 84, 84, 3), 255, dtype=torch.uint8)).tolist() == [[1.0] * 84 * 84 * 3]
    assert "train/loss" in agent.step()


def test_the_work_of_convolutions_is_counted() -> None:
    task = planning.plan("dqn", "switches/Screen-v0", {"preset": "none"}).task
    flat, seen = (DQN.work(DQNConfig(network=network), task) for network in ("mlp", "cnn"))
    assert flat == 4.0 * 64 * (84 * 84 * 3 * 64 + 64 * 64 + 64 * 2)
    # 20 x 20, 9 x 9 and 7 x 7 pixels, each a sum over a kernel and its channels
    convolutions = 400 * 32 * 3 * 64 + 81 * 64 * 32 * 16 + 49 * 64 * 64 * 9
    assert seen == 4.0 * 64 * (convolutions + 3136 * 512 + 512 * 64 + 64 * 64 + 64 * 2)


def test_rewards_are_clipped_for_learning_and_reported_raw() -> None:
    agent = agent_for(clip_rewards=True, max_episode_steps=3, learning_starts=99)
    metrics = [agent.step() for _ in range(3)]
    assert everything(agent).rewards.tolist() == [1, 1, 1]
    assert metrics[-1]["train/return"] == 6


# --- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batch_size": 100, "buffer_size": 50}, "--batch-size 100 is larger than the replay buffer: --buffer-size 50"),
        ({"n_step": 0}, "--n-step 0: should be greater than 0"),
        (
            {"n_step": 40, "num_envs": 3, "buffer_size": 100},
            "--buffer-size 100 has no room for --n-step 40 of --num-envs 3: it takes at least 120",
        ),
        ({"priority_alpha": -1}, "--priority-alpha -1: should be greater than or equal to 0"),
        ({"priority_beta": 1.5}, "--priority-beta 1.5: should be less than or equal to 1"),
        ({"network": "cnm"}, "--network cnm: should be 'auto', 'mlp' or 'cnn'"),
    ],
)
def test_a_configuration_that_cannot_work_is_told(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        DQNConfig.parse(values)


@pytest.mark.parametrize(
    ("target", "values", "message"),
    [
        ("CartPole-v1", {"network": "cnn"}, "--network cnn takes images of 36 x 36 pixels"),
        ("switches/Film-v0", {"normalize_observations": True}, "--normalize-observations is for vectors"),
    ],
)
def test_options_that_do_not_fit_the_environment_are_told(target: str, values: dict[str, Any], message: str) -> None:
    task = EnvironmentTask.open(target, EnvironmentConfig(), seed=0)
    reason = DQN.refusal(DQNConfig(**values), task)
    assert reason is not None
    assert reason.startswith(message)


def test_a_buffer_of_frames_holds_two_transitions_of_each_environment() -> None:
    values = {"preset": "none", "buffer_size": 64, "num_envs": 40}
    with pytest.raises(UsageError, match="--buffer-size 64 is less than two transitions of each of 40 environments"):
        planning.plan("dqn", "switches/Film-v0", values)


@pytest.mark.parametrize(
    ("target", "each", "total"),
    [
        ("CartPole-v1", 2 * 4 * 4 + 16, "48 GB"),  # two observations; action, reward, and whether it ended
        ("switches/Screen-v0", 84 * 84 * 3 + 2 * 3 * 4 + 16, "21.2 TB"),  # one, and where its planes lie
    ],
)
def test_a_buffer_that_has_no_room_is_refused_before_it_is_made(
    target: str, each: int, total: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rllab.parts.experience.memory", lambda: (10**10, 5 * 10**9))
    largest = int(0.9 * 5e9) // each
    with pytest.raises(UsageError) as caught:
        planning.plan("dqn", target, {"preset": "none", "buffer_size": 10**9})
    message = f"a replay buffer of 1,000,000,000 transitions takes {total} ({each * 10**9:,} bytes), and "
    assert message in str(caught.value)
    assert "5 GB of memory are free" in str(caught.value)
    assert str(caught.value).endswith(f"The largest that fits is --buffer-size {largest}.")
    planning.plan("dqn", target, {"preset": "none", "buffer_size": largest})
    with pytest.raises(UsageError):
        planning.plan("dqn", target, {"preset": "none", "buffer_size": largest + 1})


def test_where_nobody_knows_what_is_free_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rllab.parts.experience.memory", lambda: (None, None))
    planned = planning.plan("dqn", "CartPole-v1", {"preset": "none", "buffer_size": 10**12})
    assert planned.algorithm_class.refusal(planned.config, planned.task) is None


# --- the contract -------------------------------------------------------------------------------------------

OPTIONS: dict[str, Any] = {
    "timesteps": 200,
    "learning_starts": 20,
    "hidden": "8",
    "batch_size": 8,
    "buffer_size": 60,
    "target_every": 7,
    "eval_episodes": 2,
}


@pytest.mark.parametrize(
    "switches",
    [
        {"n_step": 3, "num_envs": 3},
        {"prioritized": True, "train_every": 4, "gradient_steps": 2},
        {"double": True, "dueling": True, "n_step": 3, "prioritized": True, "num_envs": 2},
    ],
    ids=" ".join,
)
def test_it_keeps_the_contract_with_each_switch(switches: dict[str, Any]) -> None:
    check_algorithm("dqn", "CartPole-v1", steps=30, **OPTIONS, **switches)


def test_it_keeps_the_contract_with_images() -> None:
    options = {**OPTIONS, "train_every": 8, "frame_stack": 2, "max_episode_steps": 9, "env_kwarg": "end=13"}
    check_algorithm("dqn", "switches/Film-v0", steps=30, n_step=2, prioritized=True, **options)


def test_the_preset_of_all_switches_fits_any_environment() -> None:
    config = planning.plan("dqn", "Acrobot-v1", {"preset": "rainbow"}).config
    assert isinstance(config, DQNConfig)
    assert (config.double, config.dueling, config.n_step, config.prioritized) == (True, True, 3, True)
