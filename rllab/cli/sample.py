"""`rllab sample RUN`: draw something new from a trained model."""

from __future__ import annotations

import math
import secrets
import sys
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rllab.errors import EXIT_DONE, RunFailed, UsageError

if TYPE_CHECKING:
    from rllab.generative import ImageModel, TextModel

_IMAGES = 64
_CHARACTERS = 400
_MOST = 10_000
"""Images that a picture holds."""
_ONLY = {
    "label": "images",
    "prime": "texts",
    "temperature": "texts",
    "top_k": "texts",
}
"""Options that are for one kind of model only."""


@click.command("sample")
@click.argument("run")
@click.option("-n", "number", type=click.IntRange(min=1), show_default="64 images, 400 characters", help="How many.")
@click.option("--label", help="Of this class (images, from a model trained with --conditional).")
@click.option("--prime", default="", help="What the text goes on from; not repeated.")
@click.option(
    "--temperature",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Below 1: the probable becomes more so; 0: always the most probable character.",
)
@click.option(
    "--top-k", type=click.IntRange(min=0), default=0, show_default=True, help="Of the K most probable; 0: of all."
)
@click.option("--seed", type=click.IntRange(min=0), show_default="a new one each time", help="The same gives the same.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="File: a picture, .npy, or a text."
)
@click.option("--checkpoint", "which", default="last", show_default=True, help="last, best, or a step.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--runs-dir", envvar="RLLAB_OPTION_RUNS_DIR", default="runs", show_default=True, help="Where runs are.")
@click.option("--debug", is_flag=True, hidden=True, help="Show the traceback of an error.")
@click.pass_context
def sample_command(
    context: click.Context,
    /,
    run: str,
    number: int | None,
    label: str | None,
    prime: str,
    temperature: float,
    top_k: int,
    seed: int | None,
    output: Path | None,
    which: str,
    device: str,
    runs_dir: str,
    debug: bool,
) -> int:
    """Draw from the trained model of RUN: images into a file, or a text onto the screen as it is written.

    RUN is a folder, a path below the runs folder, or `last`. Images go to -o (samples.png): a picture, or with the
    ending .npy the numbers, (n, channels, height, width) from 0 to 1. Of a text, only the sample goes to stdout.
    """
    from rllab import results
    from rllab.generative import GenerativeModel, ImageModel, TextModel
    from rllab.options import given

    model = results.load(run, runs_dir=runs_dir).load(which, device=device)
    if not isinstance(model, GenerativeModel):
        raise UsageError(f"{run} is a run of {type(model).__name__}, which draws nothing new")
    if model.refuses_sampling is not None:
        raise UsageError(model.refuses_sampling)
    kind = "images" if isinstance(model, ImageModel) else "texts"
    for option in given(context):
        if _ONLY.get(option, kind) != kind:
            raise UsageError(f"--{option.replace('_', '-')} is for models of {_ONLY[option]}; {run} draws {kind}")
    if isinstance(model, TextModel):
        _write_text(model, number or _CHARACTERS, prime, temperature, top_k, seed, output)
    else:
        assert isinstance(model, ImageModel)
        click.echo(_draw_images(model, number or _IMAGES, label, seed, output or Path("samples.png")))
    return EXIT_DONE


def _told(seed: int | None) -> int:
    """Return the seed, or without one a new one, which is told so that the sample can be drawn again."""
    if seed is None:
        seed = secrets.randbelow(2**31)
        click.echo(f"--seed {seed}", err=True)
    return seed


def _draw_images(model: ImageModel, number: int, label: str | None, seed: int | None, path: Path) -> Path:
    """Write images into a file, and return it."""
    import numpy as np
    import torch
    from PIL import Image

    from rllab.parts.walls import wall

    as_numbers = path.suffix == ".npy"
    if not as_numbers and path.suffix.lower() not in Image.registered_extensions():
        raise UsageError(f"-o {path}: no picture has that ending", "Such as samples.png, or samples.npy for numbers.")
    if number > _MOST and not as_numbers:
        raise UsageError(f"-n {number} are too many for a picture, which holds {_MOST:,}", "Write -o samples.npy.")
    if label is not None and not model.conditional:
        raise UsageError(f"--label {label}: this model was not trained by class", "Train one with --conditional.")
    labels = None if label is None else torch.full((number,), model.label(label))
    images = model.sample(number, labels=labels, seed=_told(seed))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if as_numbers:
            np.save(path, images.numpy())
        else:
            wall(images, math.ceil(math.sqrt(number))).save(path)
    except OSError as error:
        raise RunFailed(f"-o {path}: {error.strerror or error}") from None
    return path


def _write_text(
    model: TextModel, number: int, prime: str, temperature: float, top_k: int, seed: int | None, output: Path | None
) -> None:
    """Write characters to a file, or to stdout: on a terminal each when it comes, elsewhere each line."""
    import numpy as np
    from PIL import Image

    if output is not None and output.suffix.lower() in {".npy", *Image.registered_extensions()}:
        raise UsageError(f"-o {output} has the ending of a picture, and this model writes texts", "Such as sample.txt.")
    rng = np.random.default_rng()
    stream = model.stream(prime, temperature=temperature, top_k=top_k, rng=rng)  # it says what is wrong at once
    rng.bit_generator.state = np.random.default_rng(_told(seed)).bit_generator.state
    characters = islice(stream, number)
    if output is not None:
        text = "".join(characters)
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
            output.write_text(text, encoding="utf-8", newline="")
        except OSError as error:
            raise RunFailed(f"-o {output}: {error.strerror or error}") from None
        return
    live = sys.stdout.isatty()
    if not live and isinstance(sys.stdout, TextIOWrapper):
        # in a file it is like the text that was learned from; and who reads a pipe sees it grow
        sys.stdout.reconfigure(encoding="utf-8", newline="", line_buffering=True)
    try:
        for character in characters:
            sys.stdout.write(character)
            if live:
                sys.stdout.flush()
        sys.stdout.write("\n" if live else "")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise RunFailed(f"the sample cannot be written: {error.strerror or error}") from None
