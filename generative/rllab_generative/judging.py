"""`rllab judge RUN...`: how good the images are that trained models draw, beside images of known quality."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import click

from rllab.errors import EXIT_DONE, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rllab.generative import ImageModel
    from rllab_generative.judge import Judge
    from rllab_generative.measures import Drawn

    Rows: TypeAlias = dict[str, dict[str, float]]

_NUMBER = "Images in each row.  [default: 2000, or as many as the training part has without its first class]"


@click.command("judge")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("-n", "number", type=click.IntRange(min=1), default=None, help=_NUMBER)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of what is drawn.")
@click.option("--no-train-on-samples", is_flag=True, help="Train no classifiers on samples, which takes longest.")
@click.option("--checkpoint", "which", default="last", show_default=True, help="last, best, or a step.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--runs-dir", envvar="RLLAB_OPTION_RUNS_DIR", default="runs", show_default=True, help="Where runs are.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def judge_command(
    runs: tuple[str, ...],
    number: int | None,
    seed: int,
    no_train_on_samples: bool,
    which: str,
    device: str,
    as_json: bool,
    runs_dir: str,
    debug: bool,
) -> int:
    """Measure how good the images are that the trained model of each RUN draws.

    RUN is a folder, a path below the runs folder, or `last`. A small classifier, trained here on the dataset and kept
    for the next time, compares the drawn images with the test part. Below the models stand reference rows, of images
    whose quality is known: real ones, blurred, noisy, without one class, copied. Runs of different datasets, or of
    different splits of one, get a table each.
    """
    groups = _by_dataset(_load(run, runs_dir, which, device) for run in dict.fromkeys(runs))
    verdicts = [_verdict(group, number, seed, not no_train_on_samples) for group in groups]
    if as_json:
        click.echo(json.dumps([verdict.as_json(seed) for verdict in verdicts]))
    else:
        click.echo("\n".join(verdict.as_table() for verdict in verdicts), nl=False)
    return EXIT_DONE


class _Verdict(NamedTuple):
    """What a judge says of the models of one dataset, and of the reference rows."""

    judge: Judge
    n: int
    runs: Rows
    references: Rows

    def as_table(self) -> str:
        from rllab_generative.measures import table

        return table(self.judge, [*self.runs.items(), *self.references.items()], self.n)

    def as_json(self, seed: int) -> dict[str, Any]:
        judge = self.judge
        kinds = {"run": self.runs, "reference": self.references}
        rows = [{"row": name, "kind": kind, **row} for kind, rows in kinds.items() for name, row in rows.items()]
        return {
            "dataset": judge.task.name,
            "judge": {"hash": judge.hash, "accuracy": judge.accuracy},
            "against": {"part": "test", "items": len(judge.test_features)},
            "n": self.n,
            "seed": seed,
            "rows": rows,
        }


def _verdict(group: list[_Loaded], number: int | None, seed: int, training: bool) -> _Verdict:
    """Judge models of one dataset, telling on stderr how far it is."""
    from rllab_generative import measures
    from rllab_generative.judge import Judge

    task, device = group[0].model.task, group[0].model.device
    n = number or min(measures.DRAWN, measures.most(task))
    measures.check_number(task, n)
    _say(f"the judge of {task.name}: from the cache, or trained now")
    judge = Judge.of(task, device)
    rows = {}
    for name, model in group:
        _say(f"{name}: drawing {n} images, and judging them")
        rows[name] = measures.judged(judge, *_drawn(model, n, seed), training=training)
    references = measures.reference_rows(
        judge, n, seed, training=training, tell=lambda row: _say(f"reference row: {row}")
    )
    return _Verdict(judge, n, rows, references)


class _Loaded(NamedTuple):
    name: str
    model: ImageModel


def _load(run: str, runs_dir: str, which: str, device: str) -> _Loaded:
    """Return the trained model of a run, and what to call it."""
    from pathlib import Path

    from rllab import results
    from rllab.generative import ImageModel
    from rllab_generative.judge import check_judged

    found = results.load(run, runs_dir=runs_dir)
    model = found.load(which, device=device)
    if not isinstance(model, ImageModel):
        raise UsageError(f"{run} is a run of {found.info['method']}, which draws no images")
    if model.refuses_sampling is not None:
        raise UsageError(f"{run} cannot be judged: {model.refuses_sampling}")
    check_judged(model.task)
    path, root = found.path.resolve(), Path(runs_dir).resolve()
    return _Loaded(path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path), model)


def _by_dataset(loaded: Iterable[_Loaded]) -> list[list[_Loaded]]:
    """Return models in groups that one judge can compare: trained and tested on the same images."""
    from rllab_generative.judge import content_key

    groups: dict[str, list[_Loaded]] = {}
    for item in loaded:
        groups.setdefault(content_key(item.model.task, "test"), []).append(item)
    return list(groups.values())


def _drawn(model: ImageModel, n: int, seed: int) -> Drawn:
    """Return images drawn from a model; by class, if it can, as often as each class occurs."""
    import torch

    from rllab_generative.measures import Drawn

    generator = torch.Generator().manual_seed(seed)
    labels = None
    if model.conditional:
        targets = model.task.data.train.targets
        labels = targets[torch.randint(len(targets), (n,), generator=generator)]
    return Drawn(model.sample(n, labels=labels, generator=generator), labels)


def _say(text: str) -> None:
    click.echo(text, err=True)
