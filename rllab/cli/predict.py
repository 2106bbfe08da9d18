"""`rllab predict RUN INPUT...`: what a trained model says of something new."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from rllab.errors import EXIT_DONE, UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from rllab.supervised import SupervisedModel


# an input may begin with a minus
@click.command("predict", context_settings={"ignore_unknown_options": True})
@click.argument("run")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("--top", type=click.IntRange(min=1), default=1, show_default=True, help="The K most probable classes.")
@click.option("--resize", is_flag=True, help="Resize pictures to the size that the model takes.")
@click.option("--checkpoint", "which", default="last", show_default=True, help="last, best, or a step.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--runs-dir", envvar="RLLAB_OPTION_RUNS_DIR", default="runs", show_default=True, help="Where runs are.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def predict_command(
    run: str,
    inputs: tuple[str, ...],
    top: int,
    resize: bool,
    which: str,
    device: str,
    as_json: bool,
    runs_dir: str,
    debug: bool,
) -> int:
    """Print what the trained model of RUN says of each INPUT: a class and its probability, or a number.

    RUN is a folder, a path below the runs folder, or `last`. An INPUT is a picture, a CSV file (each row; columns go
    by the header if there is one), numbers with commas between them, or for models of texts a text or its file.
    """
    from rllab import results
    from rllab.inputs import read
    from rllab.supervised import SupervisedModel

    for written in inputs:
        if written.startswith("--"):
            raise click.UsageError(f"there is no option {written}")
    model = results.load(run, runs_dir=runs_dir).load(which, device=device)
    if not isinstance(model, SupervisedModel):
        raise UsageError(f"{run} is a run of {type(model).__name__}, which predicts no targets of inputs")
    if top > 1 and not (model.classes and model.probabilistic):
        what = "gives no probabilities" if model.classes else "predicts numbers"
        raise UsageError(f"--top {top}: this model {what}")
    items = [item for written in inputs for item in read(written, model.task.data, resize=resize)]
    rows = []
    for item, output in zip(items, _predict(model, [item.inputs for item in items]), strict=True):
        rows.append({"input": item.name, **_answer(model, output, top)})
    if as_json:
        click.echo(json.dumps(rows))
        return EXIT_DONE
    width = max(len(row["input"]) for row in rows)
    for row in rows:
        click.echo(f"{row['input']:{width}s}  {_line(row)}")
    return EXIT_DONE


def _predict(model: SupervisedModel, inputs: list[Tensor]) -> Tensor:
    """Return the outputs for inputs (*shape), on the CPU: (n, classes) or (n,)."""
    import torch

    from rllab.data import Part

    return model.outputs(Part(torch.stack(inputs), torch.zeros(len(inputs))))


def _answer(model: SupervisedModel, output: Tensor, top: int) -> dict[str, Any]:
    """Return what the output for one input says."""
    if not model.classes:
        return {"value": float(output), "target": model.task.data.target}
    if not model.probabilistic:
        return {"class": model.classes[int(output.argmax())]}
    probabilities, numbers = output.topk(min(top, len(model.classes)))
    likely = [
        {"class": model.classes[number], "probability": probability}
        for number, probability in zip(numbers.tolist(), probabilities.tolist(), strict=True)
    ]
    return {**likely[0], **({"top": likely} if top > 1 else {})}


def _line(row: dict[str, Any]) -> str:
    if "value" in row:
        return f"{row['value']:.6g}  {row['target']}"
    if "probability" not in row:
        return str(row["class"])
    return "  ".join(f"{entry['class']} {entry['probability']:.4f}" for entry in row.get("top", [row]))
