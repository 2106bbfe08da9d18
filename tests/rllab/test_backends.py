import os
import signal
import subprocess
import sys
import textwrap
import time
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from rllab import backends, plugins
from rllab.backends.native import NativeEnvs
from rllab.backends.workers import WorkerEnvs
from rllab.environments import EnvironmentConfig, EnvironmentTask
from rllab.errors import RunFailed, UsageError
from rllab.planning import plan
from rllab.state import UncapturedState
from rllab.testing import check_algorithm, check_resume_in_new_process, first_difference
from rllab.vectorenv import Episode, VectorEnv


class Counter(gymnasium.Env):
    """Counts its steps; the action is paid. Terminates after the third step, or by action 9."""

    observation_space = spaces.Box(0, 100, (1,), np.float32)
    action_space = spaces.Discrete(10)

    def __init__(self, fault: str = ""):
        self.fault = fault

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.count += 1
        if self.fault and self.count == 2:
            if self.fault == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            raise ZeroDivisionError(self.fault)
        return np.array([self.count], np.float32), float(action), self.count == 3 or action == 9, False, {}


class Counters(gymnasium.vector.VectorEnv):
    """As many counters at once, which keep their buffer to themselves only if they are told so."""

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
    single_observation_space, single_action_space = Counter.observation_space, Counter.action_space

    def __init__(self, num_envs=1, max_episode_steps=None, fault=""):
        self.num_envs, self.fault = num_envs, fault
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.counts = np.zeros((num_envs, 1), np.float32)

    def reset(self, *, seed=None, options=None):
        self.counts[:] = 0
        return self.counts, {}  # the same buffer every time: rows must be copies

    def step(self, actions):
        self.counts += 1
        if self.fault == "nan":
            self.counts[1] = np.nan
        elif self.fault:
            raise ZeroDivisionError(self.fault)
        terminated = (self.counts[:, 0] == 3) | (actions == 9)
        final = np.full(self.num_envs, None, object)  # as Gymnasium's own vectors give them
        for row in terminated.nonzero()[0]:
            final[row] = self.counts[row].copy()
        self.counts[terminated] = 0
        rewards = actions.astype(float)
        return self.counts, rewards, terminated, terminated, {"final_obs": final, "_final_obs": terminated}


class NextStep(Counters):
    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}


class OtherSpaces(Counters):
    single_observation_space = spaces.Box(0, 3, (1,), np.float32)


class Kept(Counters):
    faster_from = 3

    def state_dict(self):
        return {"counts": self.counts.copy()}

    def load_state_dict(self, state):
        self.counts = state["counts"].copy()


@pytest.fixture
def _registry():
    before = dict(gymnasium.registry)
    kinds = {"Kept-v0": Kept, "Plain-v0": Counters, "Next-v0": NextStep, "Other-v0": OtherSpaces}
    for name, kind in kinds.items():
        gymnasium.register(name, Counter, vector_entry_point=kind)
    yield
    gymnasium.registry.clear()
    gymnasium.registry.update(before)


def open_task(name: str, **options: Any) -> EnvironmentTask:
    return EnvironmentTask.open(name, EnvironmentConfig.parse(options), seed=0)


def make(name: str, backend: Any, num_envs: int, seed: int = 3, **options: Any) -> VectorEnv:
    envs = backends.make(open_task(name, **options), backend, num_envs, np.random.SeedSequence(seed))
    envs.reset()
    return envs


def random_actions(envs: VectorEnv, steps: int) -> list[np.ndarray]:
    envs.action_space.seed(0)
    return [np.array([envs.action_space.sample() for _ in range(envs.num_envs)]) for _ in range(steps)]


def assert_same(one: VectorEnv, other: VectorEnv, actions: list[np.ndarray], active: Any = None) -> None:
    for given in actions:
        difference = first_difference(tuple(one.step(given, active)), tuple(other.step(given, active)))
        assert not difference
        assert not first_difference(one.observations, other.observations)
        assert one.observations.flags.c_contiguous == other.observations.flags.c_contiguous
        assert (one.starts == other.starts).all()


# --- native ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_registry")
@pytest.mark.parametrize("name", ["Kept-v0", "Plain-v0"])
def test_a_native_vector_gives_true_final_observations_and_only_real_steps(name):
    envs = make(name, "native", 2)
    assert envs.observations.tolist() == [[0.0], [0.0]]
    assert envs.starts.tolist() == [True, True]
    moved = [envs.step(np.array(actions)) for actions in ([1, 2], [3, 9], [5, 6], [7, 8])]
    assert [t.next_observations[:, 0].tolist() for t in moved] == [[1, 1], [2, 2], [3, 1], [1, 2]]
    assert [t.rewards.tolist() for t in moved] == [[1, 2], [3, 9], [5, 6], [7, 8]]  # each action was paid
    assert [t.terminated.tolist() for t in moved] == [[False, False], [False, True], [True, False], [False, False]]
    assert not any(t.truncated.any() for t in moved)  # termination wins
    assert [t.episodes for t in moved] == [[], [Episode(11.0, 2)], [Episode(9.0, 3)], []]
    assert envs.observations[:, 0].tolist() == [1, 2]
    assert envs.starts.tolist() == [False, False]
    envs.close()


@pytest.mark.parametrize("name", ["CartPole-v1", "Catch-v0", "Corridor-v0", "GridWorld-v0"])
def test_a_native_vector_of_one_is_the_loop_bit_for_bit(name):
    loop, native = make(name, "loop", 1), make(name, "native", 1)
    assert native.backend == "native"
    assert_same(loop, native, random_actions(loop, 1200))


def test_episodes_of_native_cart_poles_are_those_of_the_loop_and_every_step_is_paid():
    lengths: dict[str, list[int]] = {}
    for backend in ("loop", "native"):
        envs = make("CartPole-v1", backend, 16)
        episodes: list[Episode] = []
        for actions in random_actions(envs, 1500):
            moved = envs.step(actions)
            assert (moved.rewards == 1).all()
            episodes += moved.episodes
        assert all(episode.return_ == episode.length for episode in episodes)
        lengths[backend] = [episode.length for episode in episodes]
    one, other = lengths.values()
    error = np.hypot(np.std(one) / len(one) ** 0.5, np.std(other) / len(other) ** 0.5)
    assert len(one) > 900
    assert abs(np.mean(one) - np.mean(other)) < 4 * error  # about 22 steps each
    assert abs(np.quantile(one, 0.9) - np.quantile(other, 0.9)) < 4


def test_a_limit_cuts_native_episodes_off_with_the_true_last_observation():
    envs = make("CartPole-v1", "native", 3, max_episode_steps=4)
    moved = [envs.step(np.array([1, 0, 1])) for _ in range(8)]
    assert [t.truncated.all() for t in moved] == [False, False, False, True] * 2
    assert not any(t.terminated.any() for t in moved)
    assert (np.abs(moved[3].next_observations[:, 1]) > 0.5).all()  # four pushes to one side
    assert (np.abs(envs.observations) <= 0.05).all()


@pytest.mark.parametrize("name", ["CartPole-v1", "Catch-v0", "GridWorld-v0"])
def test_a_native_vector_goes_on_where_its_state_was_taken(name):
    envs = make(name, "native", 4)
    actions = random_actions(envs, 200)
    for given in actions[:100]:
        envs.step(given)
    assert envs.strategy is not None
    assert envs.strategy.name == "own"
    again = backends.make(open_task(name), "native", 4, np.random.SeedSequence(3))
    again.load_state_dict(envs.state_dict())
    assert again.restarted == 0
    assert_same(envs, again, actions[100:])


@pytest.mark.usefixtures("_registry")
def test_a_native_vector_that_cannot_keep_its_state_begins_again_and_says_so():
    envs = make("Plain-v0", "native", 3)
    envs.step(np.array([1, 2, 3]))
    state = envs.state_dict()
    assert state["strategy"] == "restart"
    envs.load_state_dict(state)
    assert envs.restarted == 3
    assert envs.starts.all()


def test_the_state_of_another_backend_or_number_is_refused():
    state = make("CartPole-v1", "native", 3).state_dict()
    with pytest.raises(UncapturedState, match="of 3 environments, not of 2"):
        make("CartPole-v1", "native", 2).load_state_dict(state)
    with pytest.raises(UncapturedState, match="--env-backend native, not loop"):
        make("CartPole-v1", "loop", 3).load_state_dict(state)


@pytest.mark.usefixtures("_registry")
def test_a_fault_of_a_native_vector_names_it_and_the_step():
    envs = make("Plain-v0", "native", 2, env_kwarg={"fault": "broken"})
    with pytest.raises(RunFailed, match=r"Plain-v0 \(native vector of 2 environments, step 1\) raised ZeroDivision"):
        envs.step(np.array([1, 1]))
    envs = make("Plain-v0", "native", 2, env_kwarg={"fault": "nan"})
    with pytest.raises(RunFailed, match=r"environment 1 of 2, step 1 of its episode\) gave an observation that is not"):
        envs.step(np.array([1, 1]))


# --- which ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_registry")
@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("Pendulum-v1", {}, "there is none for it"),
        ("Next-v0", {}, "NEXT_STEP"),
        ("Other-v0", {}, "other spaces"),
        ("CartPole-v1", {"frame_stack": 4}, "--frame-stack is for single environments"),
        ("Kept-v0", {"env_kwarg": {"fault": "", "speed": 3}}, "cannot be made"),
    ],
)
def test_native_is_refused_where_there_is_no_sound_one(name, options, reason, monkeypatch):
    monkeypatch.setattr(Counter, "__init__", lambda self, fault="", speed=0: setattr(self, "fault", fault))
    with pytest.raises(UsageError, match="--env-backend native") as error:
        open_task(name, env_backend="native", **options)
    assert reason in error.value.message
    assert "--env-backend auto" in str(error.value.hint)
    assert backends.resolve(open_task(name, **options), 1000) == "loop"


def test_gymnasiums_own_vector_of_cart_poles_is_refused_without_ours(monkeypatch):
    monkeypatch.setattr(plugins, "names", lambda groups: [])
    with pytest.raises(UsageError, match="NEXT_STEP"):
        open_task("CartPole-v1", env_backend="native")


@pytest.mark.usefixtures("_registry")
def test_auto_takes_a_native_vector_from_the_number_on_from_which_it_is_faster():
    task = open_task("Kept-v0")
    assert [backends.resolve(task, num_envs) for num_envs in (1, 2, 3, 64)] == ["loop", "loop", "native", "native"]
    assert backends.resolve(open_task("Plain-v0"), 64) == "loop"  # it does not say that it is faster
    assert backends.resolve(task, 64, partly=True) == "loop"
    assert type(task.make(64, np.random.SeedSequence(0))) is NativeEnvs
    assert type(task.make(64, np.random.SeedSequence(0), keep_state=False)) is VectorEnv  # as evaluations do
    assert backends.resolve(open_task("Kept-v0", env_backend="workers"), 64) == "workers"
    assert backends.resolve(open_task("Kept-v0", env_backend="loop"), 64) == "loop"


@pytest.mark.usefixtures("_registry")
def test_what_auto_came_to_is_repeated_whatever_is_measured_later(monkeypatch):
    task = open_task("Kept-v0")
    task.backend = backends.resolve(task, 8)
    monkeypatch.setattr(Kept, "faster_from", 100)
    assert backends.resolve(task, 8) == "native"
    assert backends.resolve(open_task("Kept-v0"), 8) == "loop"


def test_a_method_that_lets_environments_wait_takes_the_loop():
    planned = plan("reinforce", "CartPole-v1", {"num_envs": 64})
    assert backends.resolve(planned.task, 64, partly=planned.algorithm_class.steps_partly) == "loop"
    with pytest.raises(UsageError, match="lets some environments wait"):
        plan("reinforce", "CartPole-v1", {"num_envs": 64, "env_backend": "native"})


def test_a_method_goes_on_bit_for_bit_with_a_native_vector():
    options = {"num_envs": 8, "learning_starts": 40, "batch_size": 16, "env_backend": "native"}
    check_algorithm("dqn", "CartPole-v1", steps=20, preset="none", **options)


# --- workers --------------------------------------------------------------------------------------


def test_workers_do_what_the_loop_does_whatever_their_number():
    task = open_task("CartPole-v1")
    loop = VectorEnv(task, 3, np.random.SeedSequence(1))
    workers = WorkerEnvs(task, 3, np.random.SeedSequence(1), processes=2)
    actions = random_actions(loop, 160)
    try:
        assert not first_difference(loop.reset(), workers.reset())
        assert_same(loop, workers, actions[:60])
        assert_same(loop, workers, actions[60:80], [0, 2])
        assert_same(loop, workers, actions[80:100], [1])
        state = workers.state_dict()
        assert state["strategy"] == loop.state_dict()["strategy"] == "attributes"
        workers.step(actions[100])
        workers.load_state_dict(state)
        assert workers.restarted == 0
        assert_same(loop, workers, actions[100:])
    finally:
        workers.close()


def test_an_error_in_a_worker_is_that_of_the_loop_and_a_dead_one_is_named(caplog):
    errors = []
    for fault in ("broken", "dies"):
        envs = WorkerEnvs(Faulty(fault), 2, np.random.SeedSequence(1), keep_state=False, processes=2)
        try:
            envs.reset()
            envs.step(np.array([1, 1]))
            with pytest.raises(RunFailed) as error:
                envs.step(np.array([1, 1]))
            errors.append(error.value.message)
            processes = [worker.process for worker in envs._workers]
        finally:
            envs.close()
        assert not any(process.is_alive() for process in processes)
    assert errors[0] == "Faulty (environment 0 of 2, step 2 of its episode) raised ZeroDivisionError: broken"
    assert errors[1] == "Faulty (environment 0 of 2, step 2 of each): the worker process died (SIGKILL)"


class Faulty:
    """Makes environments with a fault."""

    name = "Faulty"
    observation_space, action_space = Counter.observation_space, Counter.action_space

    def __init__(self, fault: str):
        self.fault = fault

    def make_one(self):
        return Counter(self.fault)


def test_what_cannot_be_sent_to_a_worker_is_a_usage_error():
    source = Faulty("")
    source.name, source.other = "Local", lambda: None  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="Local cannot be sent to worker processes") as error:
        WorkerEnvs(source, 2, np.random.SeedSequence(1), keep_state=False).reset()
    assert "--env-backend loop" in str(error.value.hint)


def test_one_environment_in_a_worker_is_allowed_with_a_warning(caplog):
    WorkerEnvs(Faulty(""), 1, np.random.SeedSequence(1), keep_state=False)
    assert "it only costs time" in caplog.text


def test_a_method_goes_on_bit_for_bit_with_workers():
    options = {"num_envs": 2, "learning_starts": 20, "batch_size": 16, "env_backend": "workers"}
    check_algorithm("dqn", "CartPole-v1", steps=15, preset="none", **options)


@pytest.mark.slow
@pytest.mark.parametrize("how", [["--num-envs", "16"], ["--num-envs", "2", "--env-backend", "workers"]])
def test_a_run_goes_on_bit_for_bit_in_a_new_process(how, tmp_path):
    options = ["--timesteps", "1200", "--learning-starts", "100", "--eval-episodes", "2", "--logger", "none", *how]
    check_resume_in_new_process(
        "dqn", "CartPole-v1", budget=1200, stop_after=500, options=["--preset", "none", *options], folder=tmp_path
    )


SCRIPT = """
    import os, signal, sys, time
    import numpy as np
    from rllab.backends.workers import WorkerEnvs
    from rllab.environments import EnvironmentConfig, EnvironmentTask

    if __name__ == "__main__":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        task = EnvironmentTask.open("CartPole-v1", EnvironmentConfig(), seed=0)
        envs = WorkerEnvs(task, 2, np.random.SeedSequence(0), keep_state=False, processes=2)
        envs.reset()
        for number in (signal.SIGINT, signal.SIGTERM):
            for worker in envs._workers:
                os.kill(worker.process.pid, number)
        envs.step(np.array([0, 1]))
        print(*[worker.process.pid for worker in envs._workers], flush=True)
        if sys.argv[1] == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if sys.argv[1] == "raises":
            raise ValueError("without closing them")
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
@pytest.mark.parametrize("way", ["killed", "raises"])
def test_workers_leave_signals_to_their_parent_and_end_with_it(way, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    done = subprocess.run([sys.executable, script, way], capture_output=True, text=True, timeout=120, check=False)
    pids = [int(text) for text in done.stdout.split()]
    assert len(pids) == 2, done.stderr
    deadline = time.monotonic() + 30
    while any(map(_is_running, pids)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(_is_running, pids))


def _is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
