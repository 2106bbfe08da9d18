"""Is a method of ours worse than stable-baselines3's at the same hyperparameters? Reads what scores.py measured.

    make scores METHODS=ppo,sb3-ppo ENVS=CartPole-v1      # and so on, see PAIRS
    python benchmarks/parity.py

For each pair: the difference of the mean scores over seeds (after the last step, 100 deterministic episodes each) with
Welch's 95 % interval, and the p-value of an exact two-sided permutation test on that difference. Holm's correction
(1979) is over the pairs, at 5 %. A pair is only compared if the hyperparameters that both have are equal.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
from scipy import stats
from scores import CASES, HERE, Case, Scores

LEVEL = 0.05

PAIRS = (
    ("ppo CartPole-v1", "sb3-ppo CartPole-v1"),
    ("a2c CartPole-v1", "sb3-a2c CartPole-v1"),
    ("dqn CartPole-v1 --preset zoo-CartPole-v1", "sb3-dqn CartPole-v1"),
    ("sac Pendulum-v1", "sb3-sac Pendulum-v1"),
)


class Comparison(NamedTuple):
    """Two samples of scores, compared."""

    difference: float
    low: float
    high: float
    p: float


def compare(ours: list[float], theirs: list[float]) -> Comparison:
    """Return the difference of two means with Welch's interval, and the p-value of an exact permutation test."""
    difference = float(np.mean(ours) - np.mean(theirs))
    if np.ptp(ours) == np.ptp(theirs) == 0:
        return Comparison(difference, difference, difference, 1.0 if difference == 0 else _permuted(ours, theirs))
    interval = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(1 - LEVEL)
    return Comparison(difference, float(interval.low), float(interval.high), _permuted(ours, theirs))


def _permuted(ours: list[float], theirs: list[float]) -> float:
    def statistic(x: Any, y: Any, axis: int = -1) -> Any:
        return np.mean(x, axis=axis) - np.mean(y, axis=axis)

    # more resamples than there are permutations: all are taken
    result = stats.permutation_test((ours, theirs), statistic, n_resamples=100_000, vectorized=True, rng=0)
    return float(result.pvalue)


def holm(p_values: list[float]) -> list[float]:
    """Return p-values adjusted by Holm's step-down procedure (1979), in the same order."""
    order = np.argsort(p_values, kind="stable")
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def differing(ours: Case, theirs: Case) -> list[str]:
    """Return hyperparameters that both have and that are not the same, as `name: ours, theirs`."""
    from rllab import planning
    from rllab.config import plain

    one, other = (plain(planning.plan(c.method, c.env, dict(c.options)).config) for c in (ours, theirs))
    return [f"{name}: {one[name]}, {other[name]}" for name in one if name in other and one[name] != other[name]]


@click.command(help=__doc__)
@click.option("--file", type=click.Path(path_type=Path), default=HERE / "scores.json", help="What scores.py wrote.")
def main(file: Path) -> None:
    scores = Scores(file)
    by_name = {case.name: case for case in CASES}
    compared: list[tuple[str, str, int, Comparison]] = []
    for ours, theirs in PAIRS:
        if unlike := differing(by_name[ours], by_name[theirs]):
            click.echo(f"{ours} and {theirs} have other hyperparameters: {'; '.join(unlike)}", err=True)
            continue
        rows = [scores.of(by_name[name]) for name in (ours, theirs)]
        seeds = sorted({row["seed"] for row in rows[0]} & {row["seed"] for row in rows[1]})
        if len(seeds) < 3:
            click.echo(f"{ours} and {theirs}: {len(seeds)} seeds of both are measured, too few", err=True)
            continue
        samples = [[row["last"] for row in found if row["seed"] in seeds] for found in rows]
        compared.append((ours, theirs, len(seeds), compare(*samples)))
    adjusted = holm([row[3].p for row in compared])
    click.echo("| ours | theirs | seeds | difference | p | p, Holm | |\n|---|---|---|---|---|---|---|")
    for (ours, theirs, seeds_, found), p in zip(compared, adjusted, strict=True):
        verdict = "not worse" if p >= LEVEL or found.difference >= 0 else "worse"
        text = f"{found.difference:+.1f} [{found.low:+.1f}, {found.high:+.1f}]"
        click.echo(f"| `{ours}` | `{theirs}` | {seeds_} | {text} | {found.p:.3f} | {p:.3f} | {verdict} |")


if __name__ == "__main__":
    main()
