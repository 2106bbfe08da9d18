"""char-rnn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rllab_generative.char_rnn import CharRNN, CharRNNConfig, Recurrent, in_numpy

from rllab import experiment, planning
from rllab.testing import check_algorithm, check_resume_in_new_process, first_difference

CELLS = ("rnn", "lstm", "gru")
TextFile = Callable[[str | int], str]


def built(target: str, **options: Any) -> CharRNN:
    planned = planning.plan("char-rnn", target, {"preset": "none", "device": "cpu", **options})
    algorithm, _ = experiment.build(planned)
    assert isinstance(algorithm, CharRNN)
    algorithm.setup()
    return algorithm


def finished(algorithm: CharRNN) -> CharRNN:
    while algorithm.count < algorithm.budget:
        algorithm.step()
    return algorithm


@pytest.mark.parametrize("cell", CELLS)
def test_it_keeps_the_contract_in_the_middle_of_an_epoch(cell: str, text_file: TextFile) -> None:
    # 30 streams of 17: an epoch has three steps, the last of a single character
    check_algorithm(
        "char-rnn",
        text_file(570),
        steps=4,
        **{"cell": cell, "hidden": 6, "layers": 2, "embedding": 3, "batch_size": 30, "sequence": 8},
        **{"dropout": 0.2, "ema": 0.9},
    )


def test_it_keeps_the_contract_with_rmsprop_and_a_validation_part(text_file: TextFile) -> None:
    options = {"optimizer": "rmsprop", "max_grad_norm": 0.0, "validation_share": 0.2, "epochs": 0.5}
    check_algorithm("char-rnn", text_file(900), steps=3, hidden=6, sequence=8, **options)


@pytest.mark.parametrize("cell", CELLS)
def test_numpy_reads_as_torch_does(cell: str) -> None:
    torch.manual_seed(0)
    config = CharRNNConfig.parse({"cell": cell, "layers": 3, "hidden": 20, "embedding": 7})
    network = Recurrent(config, 11)
    codes = torch.randint(11, (40, 1))
    read = in_numpy(network)
    ours = np.stack([read(int(code)) for code in codes])
    with torch.no_grad():
        theirs = network(codes, network.blank(1))[0][:, 0].numpy()
    assert np.abs(ours - theirs).max() < 1e-5


def test_streams_go_on_where_the_step_before_ended_and_begin_anew_with_the_epoch(text_file: TextFile) -> None:
    target = text_file(200)  # 180 to learn from: 4 streams of 44, in steps of 20, 20 and 4
    text = Path(target).read_text("utf-8")
    algorithm = built(target, batch_size=4, sequence=20, hidden=4, epochs=2)
    read: list[list[str]] = [[""] * 4]
    blank: list[bool] = []
    forward = algorithm.network.forward

    def watch(codes: torch.Tensor, memory: Any) -> Any:
        blank.append(all(not part.any() for part in memory))
        if blank[-1] and read[0][0]:
            read.append([""] * 4)
        read[-1] = [stream + algorithm.task.decode(column) for stream, column in zip(read[-1], codes.T, strict=True)]
        return forward(codes, memory)

    algorithm.network.forward = watch  # type: ignore[method-assign]
    finished(algorithm)
    assert read == [[text[i * 44 : (i + 1) * 44] for i in range(4)]] * 2
    assert blank == [True, False, False] * 2
    assert algorithm.count == algorithm.budget == 2 * 4 * 44


@pytest.mark.parametrize(
    ("learned", "streams"),
    [
        (11, ["abc", "cde", "efg", "ghi"]),  # two characters are left over, and a stream has as many
        (12, ["abc", "cde", "efg", "ghi"]),
        (13, ["abcd", "defg", "ghij", "jklm"]),
        (14, ["abcd", "defg", "ghij", "jklm"]),
    ],
)
def test_there_are_as_many_streams_as_asked_for_whatever_is_left_over(
    learned: int, streams: list[str], text_file: TextFile
) -> None:
    text = "abcdefghijklmnop"[: learned + 2]
    algorithm = built(text_file(text), batch_size=4, sequence=1, hidden=4, epochs=2, test_share=1.5 / len(text))
    assert len(algorithm.task.text.train) == learned
    assert [algorithm.task.decode(column) for column in algorithm.columns.T] == streams
    finished(algorithm)


def test_no_gradient_goes_back_beyond_the_sequence(text_file: TextFile) -> None:
    algorithm = built(text_file(400), batch_size=4, sequence=10, hidden=4)
    algorithm.step()
    assert all(not part.requires_grad and part.any() for part in algorithm.memory)


def test_the_carried_state_is_that_of_reading_on(text_file: TextFile) -> None:
    algorithm = built(text_file(400), batch_size=1, sequence=10, hidden=4, lr=1e-30)
    for _ in range(3):
        algorithm.step()
    with torch.no_grad():
        _, expected = algorithm.network(algorithm.columns[:30].long(), algorithm.network.blank(1))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(algorithm.memory, expected, strict=True))


def test_a_fraction_of_an_epoch_is_a_budget(text_file: TextFile) -> None:
    algorithm = finished(built(text_file(1000), batch_size=2, sequence=10, hidden=4, epochs=0.25))
    assert algorithm.epoch == 898
    assert algorithm.budget == 224
    assert algorithm.count == 240  # the last step is a whole one


def test_loading_weights_needs_no_setup_and_measures_the_same(text_file: TextFile) -> None:
    target = text_file(400)
    algorithm = built(target, batch_size=4, sequence=10, hidden=4)
    algorithm.step()
    planned = planning.plan("char-rnn", target, {"preset": "none", "device": "cpu", "hidden": 4, "sequence": 10})
    loaded, _ = experiment.build(planned)
    loaded.load_weights(algorithm.weights())
    assert first_difference(loaded.evaluate(), algorithm.evaluate()) is None


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
def test_it_goes_on_in_a_new_process(cell: str, text_file: TextFile, tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    check_resume_in_new_process(
        "char-rnn",
        text_file(3000),
        budget=2 * 2672,
        stop_after=1000,
        options=["--epochs=2", f"--cell={cell}", "--layers=2", "--hidden=8", "--batch-size=16", "--dropout=.1"],
        folder=folder,
    )
