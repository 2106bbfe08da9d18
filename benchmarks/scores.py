"""What every agent reaches, over seeds: trains `rllab run METHOD ENV` with its preset, and measures anew.

    make scores                                              # everything, hours on two cores
    make scores METHODS=dqn,ppo ENVS=CartPole-v1 SEEDS=0-2
    python benchmarks/scores.py --report                     # only write the table again

For each seed the model after the last step plays 100 deterministic episodes that neither training nor its
evaluations saw, and so does the kept best checkpoint. The score is the mean over seeds of the former, with Student's
95 % interval over seeds; the random policy stands beside it.

A run that was stopped goes on where it stopped, and a score that is in scores.json already, for the same
hyperparameters, is not measured again. The file has the date and the versions of each. --beyond adds what takes many
hours on two cores; without it those rows are there with their command and an empty cell.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from report import measured_with

from rllab.folds import t_interval

HERE = Path(__file__).parent
EPISODES = 100


@dataclass(frozen=True)
class Case:
    """A row of the table: what is trained, and what others publish for it."""

    method: str
    env: str
    published: str = ""
    """By RL-Baselines3-Zoo: one run, mean and spread over episodes, and in brackets the steps."""
    options: dict[str, Any] = field(default_factory=dict)
    seeds: int = 5
    beyond: bool = False
    """Whether it takes many hours on two cores."""

    @property
    def name(self) -> str:
        """Return the command without `rllab run`."""
        return " ".join([self.method, self.env, *(f"--{k.replace('_', '-')} {v}" for k, v in self.options.items())])

    @property
    def world(self) -> str:
        """Return what the environment is called beside the random policy's return."""
        return "LunarLander-v3, continuous" if self.options == CONTINUOUS_LANDER else self.env


ZOO = {"preset": "zoo-CartPole-v1"}
"""The Zoo's hyperparameters where our preset has others."""

CONTINUOUS_LANDER = {"preset": "LunarLanderContinuous"}

CASES = (
    Case("dqn", "CartPole-v1", "500 ± 0 (50k)"),
    Case("dqn", "CartPole-v1", "500 ± 0 (50k)", ZOO),
    Case("sb3-dqn", "CartPole-v1", "500 ± 0 (50k)"),
    Case("c51", "CartPole-v1"),
    Case("qr-dqn", "CartPole-v1", "500 (50k)"),
    Case("reinforce", "CartPole-v1"),
    Case("a2c", "CartPole-v1", "500 ± 0 (500k)"),
    Case("sb3-a2c", "CartPole-v1", "500 ± 0 (500k)"),
    Case("ppo", "CartPole-v1", "500 ± 0 (100k)"),
    Case("sb3-ppo", "CartPole-v1", "500 ± 0 (100k)"),
    Case("cem", "CartPole-v1"),
    Case("dqn", "Acrobot-v1", "-76.6 ± 11.8 (100k)"),
    Case("reinforce", "Acrobot-v1"),
    Case("ppo", "Acrobot-v1", "-73.5 ± 18.2 (1M)"),
    Case("dqn", "MountainCar-v0", "-100.8 ± 9.9 (120k)"),
    Case("ppo", "MountainCar-v0", "-110.4 ± 19.5 (1M)"),
    Case("ppo", "Pendulum-v1", "-172.2 ± 104 (100k)"),
    Case("sac", "Pendulum-v1", "-157.0 (20k)"),
    Case("sb3-sac", "Pendulum-v1", "-157.0 (20k)"),
    Case("td3", "Pendulum-v1", "-151.9 (20k)"),
    Case("ddpg", "Pendulum-v1"),
    Case("dqn", "LunarLander-v3", "154.4 ± 79.2 (100k, v2)", seeds=3),
    Case("ppo", "LunarLander-v3", "242.1 ± 31.8 (1M, v2)", seeds=3),
    Case("dqn", "Catch-v0"),
    Case("sac", "LunarLander-v3", "260.4 (500k, v2)", CONTINUOUS_LANDER, seeds=3, beyond=True),
    Case("td3", "LunarLander-v3", "207.5 (300k, v2)", CONTINUOUS_LANDER, seeds=3, beyond=True),
    Case("dqn", "ALE/Pong-v5", seeds=3, beyond=True),
    Case("ppo", "ALE/Pong-v5", seeds=3, beyond=True),
    Case("sac", "HalfCheetah-v5", seeds=3, beyond=True),
    Case("ppo", "HalfCheetah-v5", seeds=3, beyond=True),
)

Row = dict[str, Any]


# --- one score ------------------------------------------------------------------------------------


def digest(case: Case) -> tuple[str, int]:
    """Return a hash of the hyperparameters of a case that are not the defaults, and its env steps.

    An option that a later version adds, with a default under which nothing changes, leaves the hash as it is.
    """
    from rllab import planning
    from rllab.config import plain

    planned = planning.plan(case.method, case.env, dict(case.options))
    chosen = [
        {name: value for name, value in plain(config).items() if value != plain(type(config).parse({})).get(name)}
        for config in (planned.config, planned.task.config)
    ]
    values = json.dumps(chosen, sort_keys=True, default=str)
    return hashlib.sha256(values.encode()).hexdigest()[:12], planned.config.timesteps  # type: ignore[attr-defined]


def measure(case: Case, seed: int, runs_dir: Path) -> Row:
    """Train one seed, or go on with it, and measure it; to be called in a process of its own."""
    import rllab
    from rllab.provenance import git_state

    name, timesteps = digest(case)
    folder = runs_dir / f"{case.name}-{name}".replace("/", "-").replace(" ", "_") / f"seed{seed}"
    how: dict[str, Any] = {"pictures_every": 0, "device": "cpu"}
    run = rllab.run(
        case.method, case.env, seed=seed, run_dir=folder, resume="auto", progress=False, **case.options, **how
    )
    scores = {which: run.evaluate(which, episodes=EPISODES)["eval/return"] for which in ("last", "best")}
    return {
        "case": case.name,
        "seed": seed,
        "hyperparameters": name,
        "timesteps": timesteps,
        **{which: round(score, 3) for which, score in scores.items()},
        "seconds": round(run.info["totals"]["seconds"], 1),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": (git_state(HERE) or {}).get("commit"),
        "versions": measured_with("rllab", "torch", "gymnasium", "numpy", "stable-baselines3"),
    }


def random_return(case: Case) -> float:
    """Return the mean return of the random policy over 100 episodes of the case's environment."""
    from rllab import experiment, planning
    from rllab.config import plain
    from rllab.seeding import Streams

    task = planning.plan(case.method, case.env, dict(case.options)).task
    agent, _ = experiment.build(planning.plan("random", case.env, plain(task.config)))
    return float(agent.evaluate(EPISODES, seeds=Streams(0).sequence("evaluation anew"))["eval/return"])  # type: ignore[call-arg]


# --- the file and the table -----------------------------------------------------------------------


class Scores:
    """What was measured, kept as a file that is written after each score."""

    def __init__(self, file: Path) -> None:
        self.file = file
        known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"scores": [], "random": {}}
        self.rows: list[Row] = known["scores"]
        self.random: dict[str, float] = known["random"]

    def of(self, case: Case) -> list[Row]:
        """Return the rows of a case, by seed."""
        return sorted((row for row in self.rows if row["case"] == case.name), key=lambda row: row["seed"])

    def has(self, case: Case, seed: int, name: str) -> bool:
        """Return whether a seed was measured with the same hyperparameters."""
        return any(row["seed"] == seed and row["hyperparameters"] == name for row in self.of(case))

    def add(self, row: Row) -> None:
        """Take a row in; those of other hyperparameters are out of date."""
        self.rows = [
            other
            for other in self.rows
            if other["case"] != row["case"]
            or (other["hyperparameters"] == row["hyperparameters"] and other["seed"] != row["seed"])
        ]
        self.rows.append(row)
        self.write()

    def write(self) -> None:
        """Write the file, in an order that does not depend on which process was first."""
        self.rows.sort(key=lambda row: (row["case"], row["seed"]))
        lines = ",\n".join("  " + json.dumps(row, sort_keys=True) for row in self.rows)
        random = json.dumps(self.random, sort_keys=True)
        text = f'{{"random": {random},\n "scores": [\n{lines}\n]}}\n'
        partial = self.file.with_suffix(".tmp")
        partial.write_text(text, encoding="utf-8")
        partial.replace(self.file)


def table(scores: Scores, cases: Iterable[Case]) -> str:
    """Return the scores as Markdown."""
    lines = [
        "| `rllab run` | env steps | after the last step | by seed | best checkpoint | random | published | minutes |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for case in cases:
        rows = scores.of(case)
        random = scores.random.get(case.world)
        cells = [f"`{case.name}`", "", "", "", "", "" if random is None else f"{random:.1f}", case.published, ""]
        if rows:
            last, best = ([row[which] for row in rows] for which in ("last", "best"))
            cells[1] = f"{rows[0]['timesteps']:,}"
            cells[2], cells[4] = _interval(last), _interval(best)
            cells[3] = ", ".join(f"{value:.0f}" for value in last)
            cells[7] = f"{sum(row['seconds'] for row in rows) / len(rows) / 60:.1f}"
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _interval(values: list[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.1f}"
    interval = t_interval(values)
    return f"{interval.mean:.1f} [{interval.low:.1f}, {interval.high:.1f}]"


# --- the command ----------------------------------------------------------------------------------


def chosen(names: Iterable[str], option: str, known: Iterable[str]) -> set[str]:
    """Return the names, or without any all that are known.

    Raises:
        UsageError: for a name that no row has.
    """
    everything = set(known)
    wanted = {name.strip() for name in names if name.strip()} or everything
    if unknown := sorted(wanted - everything):
        there = ", ".join(sorted(everything))
        raise click.UsageError(f"{option} {', '.join(unknown)}: no row has that; there are {there}")
    return wanted


def seed_numbers(text: str) -> list[int] | None:
    """Return the seeds in a text such as 0-4 or 0,3,7; None for an empty one."""
    try:
        parts = [[int(end) for end in part.split("-")] for part in text.split(",") if part.strip()]
    except ValueError:
        raise click.UsageError(f"--seeds {text}: write 0-4 or 0,3,7") from None
    return [seed for part in parts for seed in range(part[0], part[-1] + 1)] or None


@click.command(help=__doc__)
@click.option("--methods", default="", help="Such as dqn,ppo; all by default.")
@click.option("--envs", default="", help="Such as CartPole-v1; all by default.")
@click.option("--row", "names", multiple=True, help="One row of the table, such as 'dqn CartPole-v1'; may be repeated.")
@click.option("--seeds", default="", help="Such as 0-4 or 0,3,7; by default 5 of them, or 3 where a run is long.")
@click.option("--jobs", type=click.IntRange(min=1), default=2, show_default=True, help="Processes, one thread each.")
@click.option("--beyond", is_flag=True, help="Also what takes many hours on two cores.")
@click.option("--report", is_flag=True, help="Train nothing; only write the table.")
@click.option("--runs-dir", type=click.Path(path_type=Path), default=Path("runs/scores"), show_default=True)
@click.option("--file", type=click.Path(path_type=Path), default=HERE / "scores.json", help="Where results are kept.")
def main(
    methods: str,
    envs: str,
    names: tuple[str, ...],
    seeds: str,
    jobs: int,
    beyond: bool,
    report: bool,
    runs_dir: Path,
    file: Path,
) -> None:
    wanted = chosen(methods.split(","), "--methods", (case.method for case in CASES))
    where = chosen(envs.split(","), "--envs", (case.env for case in CASES))
    rows = chosen(names, "--row", (case.name for case in CASES))
    cases = [case for case in CASES if case.method in wanted and case.env in where and case.name in rows]
    scores = Scores(file)
    if not report:
        os.environ["OMP_NUM_THREADS"] = "1"
        _run_all([case for case in cases if beyond or not case.beyond], seed_numbers(seeds), jobs, runs_dir, scores)
    click.echo(table(scores, cases))


def _run_all(cases: list[Case], seeds: list[int] | None, jobs: int, runs_dir: Path, scores: Scores) -> None:
    """Measure what is missing, the first seed of every case first."""
    for case in cases:
        if case.world not in scores.random:
            scores.random[case.world] = round(random_return(case), 2)
            scores.write()
    names = {case.name: digest(case)[0] for case in cases}
    missing = [
        (order, case, seed)
        for case in cases
        for order, seed in enumerate(seeds or range(case.seeds))
        if not scores.has(case, seed, names[case.name])
    ]
    missing.sort(key=lambda job: job[0])
    click.echo(f"{len(missing)} runs to do", err=True)
    failed = 0
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"), max_tasks_per_child=1) as pool:
        started = {pool.submit(measure, case, seed, runs_dir): (case, seed) for _, case, seed in missing}
        for job in as_completed(started):
            case, seed = started[job]
            try:
                row = job.result()
            except Exception as error:  # noqa: BLE001 - the others go on
                click.echo(f"{case.name} seed {seed} failed: {error}", err=True)
                failed += 1
                continue
            scores.add(row)
            click.echo(f"{case.name} seed {seed}: {row['last']:.1f}, best {row['best']:.1f}, {row['seconds']:.0f} s")
    if failed:
        raise click.ClickException(f"{failed} runs failed; the same command tries them again")


if __name__ == "__main__":
    main()
