"""Our agents and stable-baselines3's, with the same hyperparameters and one CPU thread each.

It prints the env steps per second of each, the seconds each took to an evaluation that is good enough, and the ratios.

    python benchmarks/agents_vs_sb3.py                                  # throughput of all settings, some minutes
    python benchmarks/agents_vs_sb3.py --settings dqn-zoo --steps 50000 --eval-every 2500     # with luck long enough

How it is measured: every run is a process of its own, ours and theirs take turns, and repeat i has seed i for
both. Ours goes through `rllab.run` with its default callbacks and loggers (metrics.jsonl, TensorBoard, progress
lines, checkpoints); theirs through `learn` as a user would call it (its Monitor, verbose=0, no files). The
clock starts when training does, so that neither imports nor the making of networks count, and stands still
during evaluations and while ours writes a checkpoint (theirs writes none). Both are evaluated at the same
steps, on as many deterministic episodes. It is the processor's clock, which counts every thread; with --wall the one
on the wall.

The env steps to the goal follow from the seed alone, and are the same on a busy machine.

How to read it: on a busy machine the absolute numbers drift, and only the ratios mean something: each is of
two runs that followed one another. A ratio above 1 says that ours is faster. `not reached` says that no
evaluation came to the goal within the budget; schedules are a share of the budget, so that a small one makes another,
shorter training of the same kind, not the beginning of a long one.

The settings agree in meaning, not only in name. What differs: DQN of stable-baselines3 acts at random before
`learning_starts`, while ours follows epsilon, which has fallen a little by then; its TD3 and SAC, too, know their
exploration only after that, as do ours. `--fast false` measures ours without its NumPy path.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stderr
from dataclasses import asdict, dataclass
from io import StringIO
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
from report import measured_with, spread, summary


@dataclass(frozen=True)
class Setting:
    """A method, its hyperparameters by their names in both libraries, and what to measure."""

    method: str
    env: str
    steps: int
    goal: float
    """Mean return of an evaluation that is good enough."""
    ours: dict[str, Any]
    theirs: dict[str, Any]
    """`num_envs` and `linear`, which they are not called, among them: see `theirs_of`."""


DQN = {"learning_starts": 1_000, "batch_size": 64, "gamma": 0.99, "max_grad_norm": 10.0}
PENDULUM = {"batch_size": 256, "tau": 0.005, "gamma": 0.98, "buffer_size": 200_000, "learning_starts": 100}
ROLLOUTS = {"max_grad_norm": 0.5}

SETTINGS = {
    # one update of a small network for every env step
    "dqn-small": Setting(
        "dqn",
        "CartPole-v1",
        10_000,
        475.0,
        {**DQN, "hidden": (64, 64), "lr": 1e-3, "buffer_size": 50_000, "target_every": 500, "train_every": 1}
        | {"gradient_steps": 1, "exploration_fraction": 0.16, "final_epsilon": 0.04, "loss": "huber"},
        {**DQN, "net_arch": [64, 64], "learning_rate": 1e-3, "buffer_size": 50_000, "target_update_interval": 500}
        | {"train_freq": 1, "gradient_steps": 1, "exploration_fraction": 0.16, "exploration_final_eps": 0.04},
    ),
    # RL-Baselines3-Zoo, hyperparams/dqn.yml
    "dqn-zoo": Setting(
        "dqn",
        "CartPole-v1",
        10_000,
        475.0,
        {**DQN, "hidden": (256, 256), "lr": 2.3e-3, "buffer_size": 100_000, "target_every": 10, "train_every": 256}
        | {"gradient_steps": 128, "exploration_fraction": 0.16, "final_epsilon": 0.04, "loss": "huber"},
        {**DQN, "net_arch": [256, 256], "learning_rate": 2.3e-3, "buffer_size": 100_000, "target_update_interval": 10}
        | {"train_freq": 256, "gradient_steps": 128, "exploration_fraction": 0.16, "exploration_final_eps": 0.04},
    ),
    # RL-Baselines3-Zoo, hyperparams/ppo.yml
    "ppo": Setting(
        "ppo",
        "CartPole-v1",
        25_600,
        475.0,
        {**ROLLOUTS, "num_envs": 8, "rollout_steps": 32, "batch_size": 256, "gae_lambda": 0.8, "gamma": 0.98}
        | {"update_epochs": 20, "lr": 1e-3, "schedule": "linear", "clip_range": 0.2, "clip_schedule": "linear"}
        | {"hidden": (64, 64), "activation": "tanh", "entropy_coef": 0.0, "value_coef": 0.5},
        {**ROLLOUTS, "num_envs": 8, "n_steps": 32, "batch_size": 256, "gae_lambda": 0.8, "gamma": 0.98}
        | {"n_epochs": 20, "linear": {"learning_rate": 1e-3, "clip_range": 0.2}, "ent_coef": 0.0, "vf_coef": 0.5},
    ),
    # their defaults, which follow Mnih et al. (2016)
    "a2c": Setting(
        "a2c",
        "CartPole-v1",
        40_000,
        475.0,
        {**ROLLOUTS, "num_envs": 8, "rollout_steps": 5, "gae_lambda": 1.0, "gamma": 0.99, "lr": 7e-4}
        | {"optimizer": "rmsprop", "hidden": (64, 64), "activation": "tanh", "entropy_coef": 0.0, "value_coef": 0.5},
        {**ROLLOUTS, "num_envs": 8, "n_steps": 5, "gae_lambda": 1.0, "gamma": 0.99, "learning_rate": 7e-4}
        | {"ent_coef": 0.0, "vf_coef": 0.5},
    ),
    "sac": Setting(
        "sac",
        "Pendulum-v1",
        2_000,
        -200.0,
        {**PENDULUM, "hidden": (256, 256), "lr": 1e-3, "train_every": 1, "gradient_steps": 1},
        {**PENDULUM, "net_arch": [256, 256], "learning_rate": 1e-3, "train_freq": 1, "gradient_steps": 1},
    ),
    "td3": Setting(
        "td3",
        "Pendulum-v1",
        2_000,
        -200.0,
        {**PENDULUM, "hidden": (256, 256), "lr": 1e-3, "train_every": 1, "gradient_steps": 1, "action_noise": 0.1},
        {**PENDULUM, "net_arch": [256, 256], "learning_rate": 1e-3, "train_freq": 1, "gradient_steps": 1}
        | {"noise": 0.1},
    ),
}


@dataclass(frozen=True)
class Job:
    """A run to measure."""

    setting: str
    seed: int
    steps: int
    eval_every: int
    eval_episodes: int
    wall: bool
    fast: bool

    @property
    def clock(self) -> Callable[[], float]:
        """Return what tells the seconds."""
        return time.perf_counter if self.wall else time.process_time


@dataclass(frozen=True)
class Measured:
    """What came of a run; seconds are of training alone."""

    steps: int
    seconds: float
    evaluations: list[tuple[int, float, float]]
    """Env steps, seconds and mean return of each evaluation."""
    goal: float

    @property
    def speed(self) -> float:
        """Return env steps per second."""
        return self.steps / self.seconds

    @property
    def steps_to_goal(self) -> int | None:
        """Return the env steps to the first evaluation that came to the goal, None if none did."""
        return next((steps for steps, _, score in self.evaluations if score >= self.goal), None)

    @property
    def seconds_to_goal(self) -> float | None:
        """Return the seconds to the first evaluation that came to the goal, None if none did."""
        return next((seconds for _, seconds, score in self.evaluations if score >= self.goal), None)


def run_rllab(job: Job) -> Measured:
    """Train with rllab."""
    import rllab
    from rllab import trainer

    setattr(trainer, "time", SimpleNamespace(perf_counter=job.clock))  # noqa: B010 - what its seconds are of
    setting = SETTINGS[job.setting]
    with tempfile.TemporaryDirectory() as folder, redirect_stderr(StringIO()):
        run = rllab.run(
            setting.method,
            setting.env,
            preset="none",
            timesteps=job.steps,
            seed=job.seed,
            device="cpu",
            eval_every=job.eval_every,
            eval_episodes=job.eval_episodes,
            runs_dir=folder,
            fast=job.fast,
            **setting.ours,
        )
        assert run.info["device"]["threads"] == 1
        totals = run.info["totals"]
        evaluations: list[tuple[int, float, float]] = []
        if job.eval_every:
            scores = run.metrics["eval/return"]
            evaluations = list(zip(scores.step.tolist(), scores.time.tolist(), scores.value.tolist(), strict=True))
    return Measured(totals["steps"], totals["seconds"], evaluations, setting.goal)


def theirs_of(setting: Setting) -> dict[str, Any]:
    """Return their constructor's arguments."""
    import numpy as np
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.noise import NormalActionNoise

    values = dict(setting.theirs)
    if net_arch := values.pop("net_arch", None):
        values["policy_kwargs"] = {"net_arch": net_arch}
    if sigma := values.pop("noise", None):
        values["action_noise"] = NormalActionNoise(np.zeros(1), np.full(1, sigma))
    for name, start in values.pop("linear", {}).items():
        values[name] = _linear(start)
    num_envs = values.pop("num_envs", 1)
    return {**values, "env": setting.env if num_envs == 1 else make_vec_env(setting.env, num_envs)}


def _linear(start: float) -> Callable[[float], float]:
    return lambda remaining: start * remaining


def run_sb3(job: Job) -> Measured:
    """Train with stable-baselines3."""
    import numpy as np
    import stable_baselines3
    import torch
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy

    torch.set_num_threads(1)
    setting, clock = SETTINGS[job.setting], job.clock

    class Evaluate(BaseCallback):
        """Measures like rllab's trainer: at the same steps, with the clock of training stopped."""

        def __init__(self) -> None:
            super().__init__()
            self.envs = make_vec_env(setting.env, min(job.eval_episodes, 10), seed=job.seed + 10_000)
            self.evaluations: list[tuple[int, float, float]] = []
            self.began = self.evaluating = 0.0

        def _on_training_start(self) -> None:
            self.began = clock()

        @property
        def seconds(self) -> float:
            return clock() - self.began - self.evaluating

        def _on_step(self) -> bool:
            if job.eval_every and self.num_timesteps % job.eval_every == 0:
                at, start = self.seconds, clock()
                score, _ = evaluate_policy(self.model, self.envs, job.eval_episodes, deterministic=True)
                self.evaluations.append((self.num_timesteps, at, float(np.mean(score))))
                self.evaluating += clock() - start
            return True

    model = getattr(stable_baselines3, setting.method.upper())(
        "MlpPolicy", **theirs_of(setting), seed=job.seed, device="cpu", verbose=0
    )
    callback = Evaluate()
    model.learn(job.steps, callback)
    return Measured(model.num_timesteps, callback.seconds, callback.evaluations, setting.goal)


LIBRARIES = {"rllab": run_rllab, "sb3": run_sb3}


def measure(library: str, job: Job) -> Measured:
    """Do a run in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(LIBRARIES[library], job).result()


def ratios(goal: float, runs: dict[str, list[Measured]]) -> dict[str, list[float]]:
    """Return how many times as fast ours was, repeat by repeat, where both numbers are there."""
    pairs = list(zip(runs["rllab"], runs["sb3"], strict=True))
    to_goal = [(ours.seconds_to_goal, theirs.seconds_to_goal) for ours, theirs in pairs]
    return {
        "env steps per second": [ours.speed / theirs.speed for ours, theirs in pairs],
        f"seconds to {goal:g}": [theirs / ours for ours, theirs in to_goal if ours and theirs],
    }


def show(name: str, runs: dict[str, list[Measured]]) -> None:
    """Print the table of a setting."""
    goal = SETTINGS[name].goal
    click.echo(f"\n{name}: median (min to max) of {len(runs['rllab'])} repeats")
    for library, measured in runs.items():
        line = f"  {library:6} {spread([m.speed for m in measured], '.0f')} env steps/s"
        if measured[0].evaluations:
            reached = [m.seconds_to_goal for m in measured if m.seconds_to_goal is not None]
            text = f"{spread(reached, '.1f')} s in {len(reached)} of {len(measured)}" if reached else "not reached"
            if steps := [m.steps_to_goal for m in measured if m.steps_to_goal is not None]:
                text += f", {spread(steps, '.0f')} env steps"
            best = spread([max(score for *_, score in m.evaluations) for m in measured], ".0f")
            line += f"   to {goal:g}: {text}   best evaluation: {best}"
        click.echo(line)
    for what, values in ratios(goal, runs).items():
        if values or (what == f"seconds to {goal:g}" and runs["rllab"][0].evaluations):
            text = f"{spread(values)} over {len(values)} pairs" if values else "no pair in which both reached it"
            click.echo(f"  ratio, {what}: {text}")


def as_json(name: str, runs: dict[str, list[Measured]]) -> dict[str, Any]:
    """Return a setting's measurements as plain data."""
    measured = {
        library: [
            {
                **asdict(m),
                "speed": m.speed,
                "seconds_to_goal": m.seconds_to_goal,
                "steps_to_goal": m.steps_to_goal,
            }
            for m in of_library
        ]
        for library, of_library in runs.items()
    }
    found = {what: summary(v) if v else None for what, v in ratios(SETTINGS[name].goal, runs).items()}
    return {"runs": measured, "ratios": found}


@click.command(help="Measure our agents against stable-baselines3's; the module's docstring says how.")
@click.option("--steps", default=0, help="Env steps of each run; by default a few thousand, as the setting has it.")
@click.option("--settings", default=",".join(SETTINGS), show_default=True, help="Which settings, separated by commas.")
@click.option("--repeats", default=3, show_default=True, help="Runs of each library and setting.")
@click.option("--eval-every", default=0, show_default=True, help="Env steps between two evaluations; 0: none.")
@click.option("--eval-episodes", default=10, show_default=True, help="Deterministic episodes of an evaluation.")
@click.option("--wall", is_flag=True, help="Measure by the clock on the wall instead of the processor's.")
@click.option("--fast", default=True, show_default=True, help="Whether ours may use NumPy; false: torch alone.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write all numbers here.")
def main(
    steps: int,
    settings: str,
    repeats: int,
    eval_every: int,
    eval_episodes: int,
    wall: bool,
    fast: bool,
    json_file: Path | None,
) -> None:
    chosen = settings.split(",")
    if unknown := set(chosen) - set(SETTINGS):
        raise click.BadParameter(f"there is no {', '.join(unknown)}; there are {', '.join(SETTINGS)}")
    # for the processes that are started: numerical libraries read it when they are imported
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
    versions = measured_with("rllab", "stable-baselines3", "torch", "gymnasium", "numpy")
    click.echo(", ".join(f"{name} {value}" for name, value in versions.items()))
    runs: dict[str, dict[str, list[Measured]]] = {s: {library: [] for library in LIBRARIES} for s in chosen}
    for repeat in range(repeats):
        for name in chosen:
            for library in LIBRARIES if repeat % 2 == 0 else reversed(LIBRARIES):
                length = steps or SETTINGS[name].steps
                measured = measure(library, Job(name, repeat, length, eval_every, eval_episodes, wall, fast))
                runs[name][library].append(measured)
                reached = f", the goal after {measured.steps_to_goal} steps" if measured.steps_to_goal else ""
                click.echo(f"{name} {library} seed {repeat}: {measured.speed:.0f} env steps/s{reached}", err=True)
    for name in chosen:
        show(name, runs[name])
    if json_file is not None:
        found = {name: as_json(name, runs[name]) for name in chosen}
        clock = "wall" if wall else "processor"
        results = {"versions": versions, "clock": clock, "fast": fast, "settings": found}
        json_file.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
