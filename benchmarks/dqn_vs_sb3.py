"""Our DQN and stable-baselines3's on CartPole-v1, with the same hyperparameters and one CPU thread each.

It prints the env steps per second of each, the seconds each took to an evaluation of 475, and the ratios.

    python benchmarks/dqn_vs_sb3.py                                  # throughput, some minutes
    python benchmarks/dqn_vs_sb3.py --steps 50000 --settings zoo     # long enough to reach 475, with luck

How it is measured: every run is a process of its own, ours and theirs take turns, and repeat i has seed i for
both. Ours goes through `rllab.run` with its default callbacks and loggers (metrics.jsonl, TensorBoard, progress
lines, checkpoints); theirs through `learn` as a user would call it (its Monitor, verbose=0, no files). The
clock starts when training does, so that neither imports nor the making of networks count, and stands still
during evaluations and while ours writes a checkpoint (theirs writes none). Both are evaluated at the same
steps, on as many deterministic episodes.

The env steps to 475 follow from the seed alone, and are the same on a busy machine.

How to read it: on a busy machine the absolute numbers drift, and only the ratios mean something: each is of
two runs that followed one another. A ratio above 1 says that ours is faster. `not reached` says that no
evaluation came to 475 within the budget; the exploration schedule is a share of the budget, so that a small
one makes another, shorter training of the same kind, not the beginning of a long one.

The settings agree in meaning, not only in name: both libraries learn from the first step after
`learning_starts` on, with Huber's loss, Adam (eps 1e-8) and the gradient clipped to the norm 10; both update
the target by env steps; both count an end by the time limit as no end of value. The one difference: before
`learning_starts` theirs acts at random, while ours follows epsilon, which has fallen a little by then.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stderr
from dataclasses import asdict, dataclass
from io import StringIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
from report import measured_with, spread, summary

ENV = "CartPole-v1"
GOAL = 475.0

SETTINGS: dict[str, dict[str, Any]] = {
    # RL-Baselines3-Zoo, hyperparams/dqn.yml
    "zoo": {
        "hidden": (256, 256),
        "lr": 2.3e-3,
        "batch_size": 64,
        "buffer_size": 100_000,
        "learning_starts": 1_000,
        "gamma": 0.99,
        "target_every": 10,
        "train_every": 256,
        "gradient_steps": 128,
        "exploration_fraction": 0.16,
        "final_epsilon": 0.04,
        "max_grad_norm": 10.0,
    },
    # one update of a small network for every env step
    "small": {
        "hidden": (64, 64),
        "lr": 1e-3,
        "batch_size": 64,
        "buffer_size": 50_000,
        "learning_starts": 1_000,
        "gamma": 0.99,
        "target_every": 500,
        "train_every": 1,
        "gradient_steps": 1,
        "exploration_fraction": 0.16,
        "final_epsilon": 0.04,
        "max_grad_norm": 10.0,
    },
}
"""Hyperparameters by their names in rllab."""


@dataclass(frozen=True)
class Job:
    """A run to measure."""

    setting: str
    seed: int
    steps: int
    eval_every: int
    eval_episodes: int


@dataclass(frozen=True)
class Measured:
    """What came of a run; seconds are of training alone."""

    steps: int
    seconds: float
    evaluations: list[tuple[int, float, float]]
    """Env steps, seconds and mean return of each evaluation."""

    @property
    def speed(self) -> float:
        """Return env steps per second."""
        return self.steps / self.seconds

    @property
    def steps_to_goal(self) -> int | None:
        """Return the env steps to the first evaluation that came to the goal, None if none did."""
        return next((steps for steps, _, score in self.evaluations if score >= GOAL), None)

    @property
    def seconds_to_goal(self) -> float | None:
        """Return the seconds to the first evaluation that came to the goal, None if none did."""
        return next((seconds for _, seconds, score in self.evaluations if score >= GOAL), None)


def run_rllab(job: Job) -> Measured:
    """Train with rllab."""
    import rllab

    with tempfile.TemporaryDirectory() as folder, redirect_stderr(StringIO()):
        run = rllab.run(
            "dqn",
            ENV,
            preset="none",
            timesteps=job.steps,
            seed=job.seed,
            device="cpu",
            eval_every=job.eval_every,
            eval_episodes=job.eval_episodes,
            runs_dir=folder,
            loss="huber",
            **SETTINGS[job.setting],
        )
        assert run.info["device"]["threads"] == 1
        totals, scores = run.info["totals"], run.metrics["eval/return"]
    evaluations = list(zip(scores.step.tolist(), scores.time.tolist(), scores.value.tolist(), strict=True))
    return Measured(totals["steps"], totals["seconds"], evaluations)


def run_sb3(job: Job) -> Measured:
    """Train with stable-baselines3."""
    import torch
    from stable_baselines3 import DQN
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy

    torch.set_num_threads(1)
    values = SETTINGS[job.setting]

    class Evaluate(BaseCallback):
        """Measures like rllab's trainer: at the same steps, with the clock of training stopped."""

        def __init__(self) -> None:
            super().__init__()
            self.envs = make_vec_env(ENV, min(job.eval_episodes, 10), seed=job.seed + 10_000)
            self.evaluations: list[tuple[int, float, float]] = []
            self.began = self.evaluating = 0.0

        def _on_training_start(self) -> None:
            self.began = time.perf_counter()

        @property
        def seconds(self) -> float:
            return time.perf_counter() - self.began - self.evaluating

        def _on_step(self) -> bool:
            if self.num_timesteps % job.eval_every == 0:
                at, start = self.seconds, time.perf_counter()
                score, _ = evaluate_policy(self.model, self.envs, job.eval_episodes, deterministic=True)
                self.evaluations.append((self.num_timesteps, at, float(score)))
                self.evaluating += time.perf_counter() - start
            return True

    model = DQN(
        "MlpPolicy",
        ENV,
        learning_rate=values["lr"],
        buffer_size=values["buffer_size"],
        learning_starts=values["learning_starts"],
        batch_size=values["batch_size"],
        gamma=values["gamma"],
        train_freq=values["train_every"],
        gradient_steps=values["gradient_steps"],
        target_update_interval=values["target_every"],
        exploration_fraction=values["exploration_fraction"],
        exploration_final_eps=values["final_epsilon"],
        max_grad_norm=values["max_grad_norm"],
        policy_kwargs={"net_arch": list(values["hidden"])},
        seed=job.seed,
        device="cpu",
        verbose=0,
    )
    callback = Evaluate()
    model.learn(job.steps, callback)
    return Measured(model.num_timesteps, callback.seconds, callback.evaluations)


LIBRARIES = {"rllab": run_rllab, "sb3": run_sb3}


def measure(library: str, job: Job) -> Measured:
    """Do a run in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(LIBRARIES[library], job).result()


def ratios(runs: dict[str, list[Measured]]) -> dict[str, list[float]]:
    """Return how many times as fast ours was, repeat by repeat, where both numbers are there."""
    pairs = list(zip(runs["rllab"], runs["sb3"], strict=True))
    to_goal = [(ours.seconds_to_goal, theirs.seconds_to_goal) for ours, theirs in pairs]
    return {
        "env steps per second": [ours.speed / theirs.speed for ours, theirs in pairs],
        f"seconds to {GOAL:g}": [theirs / ours for ours, theirs in to_goal if ours and theirs],
    }


def show(setting: str, runs: dict[str, list[Measured]]) -> None:
    """Print the table of a setting."""
    click.echo(f"\n{setting}: median (min to max) of {len(runs['rllab'])} repeats")
    for library, measured in runs.items():
        reached = [m.seconds_to_goal for m in measured if m.seconds_to_goal is not None]
        text = f"{spread(reached, '.1f')} s in {len(reached)} of {len(measured)}" if reached else "not reached"
        if steps := [m.steps_to_goal for m in measured if m.steps_to_goal is not None]:
            text += f", {spread(steps, '.0f')} env steps"
        speeds = spread([m.speed for m in measured], ".0f")
        best = spread([max((score for *_, score in m.evaluations), default=float("nan")) for m in measured], ".0f")
        click.echo(f"  {library:6} {speeds} env steps/s   to {GOAL:g}: {text}   best evaluation: {best}")
    for name, values in ratios(runs).items():
        text = f"{spread(values)} over {len(values)} pairs" if values else "no pair in which both reached it"
        click.echo(f"  ratio, {name}: {text}")


def as_json(runs: dict[str, list[Measured]]) -> dict[str, Any]:
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
    return {"runs": measured, "ratios": {name: summary(v) if v else None for name, v in ratios(runs).items()}}


@click.command(help="Measure our DQN against stable-baselines3's on CartPole-v1; the module's docstring says how.")
@click.option("--steps", default=10_000, show_default=True, help="Env steps of each run.")
@click.option("--settings", default="zoo,small", show_default=True, help="Which settings, separated by commas.")
@click.option("--repeats", default=3, show_default=True, help="Runs of each library and setting.")
@click.option("--eval-every", default=1_000, show_default=True, help="Env steps between two evaluations.")
@click.option("--eval-episodes", default=10, show_default=True, help="Deterministic episodes of an evaluation.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write all numbers here.")
def main(steps: int, settings: str, repeats: int, eval_every: int, eval_episodes: int, json_file: Path | None) -> None:
    chosen = settings.split(",")
    if unknown := set(chosen) - set(SETTINGS):
        raise click.BadParameter(f"there is no {', '.join(unknown)}; there are {', '.join(SETTINGS)}")
    # for the processes that are started: numerical libraries read it when they are imported
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
    versions = measured_with("rllab", "stable-baselines3", "torch", "gymnasium", "numpy")
    click.echo(", ".join(f"{name} {value}" for name, value in versions.items()))
    runs: dict[str, dict[str, list[Measured]]] = {s: {library: [] for library in LIBRARIES} for s in chosen}
    for repeat in range(repeats):
        for setting in chosen:
            for library in LIBRARIES if repeat % 2 == 0 else reversed(LIBRARIES):
                job = Job(setting, repeat, steps, eval_every, eval_episodes)
                measured = measure(library, job)
                runs[setting][library].append(measured)
                reached = f", {GOAL:g} after {measured.steps_to_goal} steps" if measured.steps_to_goal else ""
                click.echo(f"{setting} {library} seed {repeat}: {measured.speed:.0f} env steps/s{reached}", err=True)
    for setting in chosen:
        show(setting, runs[setting])
    if json_file is not None:
        results = {"versions": versions, "steps": steps, "settings": {s: as_json(runs[s]) for s in chosen}}
        json_file.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
