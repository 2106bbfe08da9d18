"""Does DQN balance the pole, on every seed? Trains `rllab run dqn CartPole-v1` with its preset, and measures anew.

    python benchmarks/dqn_cartpole.py --seeds 0-9 --jobs 2

For each seed the kept best checkpoint and the model after the last step play 100 deterministic episodes that
neither training nor its evaluations saw. Intervals are over seeds (bootstrap, 95 %); the random policy stands
beside them. Seeds that are finished in --runs-dir are not trained again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0-9", help="such as 0-4 or 0,3,7")
    parser.add_argument("--jobs", type=int, default=2, help="processes, one thread each")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--runs-dir", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--json", type=Path, help="write the rows to this file too")
    arguments = parser.parse_args()

    seeds = _seeds(arguments.seeds)
    with ProcessPoolExecutor(arguments.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        jobs = [pool.submit(_one, seed, arguments.runs_dir, arguments.episodes) for seed in seeds]
        rows = []
        print("seed  best checkpoint  after the last step  minutes")
        for job in jobs:
            row = job.result()
            rows.append(row)
            print(f"{row['seed']:4d}  {row['best']:15.1f}  {row['last']:19.1f}  {row['seconds'] / 60:7.1f}", flush=True)
    for name, title in (("best", "best checkpoint"), ("last", "after the last step")):
        values = np.array([row[name] for row in rows])
        low, high = _interval(values)
        print(f"{title}: mean {values.mean():.1f} [{low:.1f}, {high:.1f}], lowest {values.min():.1f}")
    random = _random_return(arguments.episodes)
    print(f"random policy: {random:.1f}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"seeds": rows, "random": random}, indent=1) + "\n", encoding="utf-8")


def _one(seed: int, runs_dir: Path, episodes: int) -> dict[str, Any]:
    import rllab

    folder = runs_dir / "CartPole-v1" / "dqn" / f"seed{seed}"
    run = rllab.run("dqn", "CartPole-v1", seed=seed, run_dir=folder, resume="auto", progress=False)
    scores = {which: run.evaluate(which, episodes=episodes)["eval/return"] for which in ("best", "last")}
    return {"seed": seed, **scores, "seconds": run.info["totals"]["seconds"]}


def _seeds(text: str) -> list[int]:
    parts = [part.split("-") for part in text.split(",")]
    return [seed for part in parts for seed in range(int(part[0]), int(part[-1]) + 1)]


def _interval(values: np.ndarray) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of the mean."""
    resampled = np.random.default_rng(0).choice(values, (10_000, len(values))).mean(1)
    low, high = np.percentile(resampled, [2.5, 97.5])
    return float(low), float(high)


def _random_return(episodes: int) -> float:
    env = gymnasium.make("CartPole-v1")
    env.action_space.seed(0)
    total = 0.0
    for episode in range(episodes):
        env.reset(seed=episode)
        ended = False
        while not ended:
            _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            total += float(reward)
            ended = terminated or truncated
    return total / episodes


if __name__ == "__main__":
    main()
