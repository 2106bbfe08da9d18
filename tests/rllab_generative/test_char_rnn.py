"""char-rnn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rllab_generative.char_rnn import CharRNN, CharRNNConfig, Recurrent, in_numpy

from rllab import experiment, planning
from rllab.testing import check_algorithm, check_resume_in_new_process, first_difference

CELLS = ("rnn", "lstm", "gru")


def text_file(folder: Path, text: str) -> str:
    file = folder / "text.txt"
    file.write_text(text, encoding="utf-8")
    return str(file)


def nonsense(length: int, letters: str = "abcd\n") -> str:
    return "".join(np.random.default_rng(1).choice(list(letters), length))


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
def test_it_keeps_the_contract_in_the_middle_of_an_epoch(cell: str, tmp_path: Path) -> None:
    # 30 streams of 17: an epoch has three steps, the last of a single character
    check_algorithm(
        "char-rnn",
        text_file(tmp_path, nonsense(570)),
        steps=4,
        **{"cell": cell, "hidden": 6, "layers": 2, "embedding": 3, "batch_size": 30, "sequence": 8},
        **{"dropout": 0.2, "ema": 0.9},
    )


def test_it_keeps_the_contract_with_rmsprop_and_a_validation_part(tmp_path: Path) -> None:
    options = {"optimizer": "rmsprop", "max_grad_norm": 0.0, "validation_share": 0.2, "epochs": 0.5}
    check_algorithm("char-rnn", text_file(tmp_path, nonsense(900)), steps=3, hidden=6, sequence=8, **options)


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


def test_streams_go_on_where_the_step_before_ended_and_begin_anew_with_the_epoch(tmp_path: Path) -> None:
    text = nonsense(200)  # 180 to learn from: 4 streams of 44, in steps of 20, 20 and 4
    algorithm = built(text_file(tmp_path, text), batch_size=4, sequence=20, hidden=4, epochs=2)
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


def test_no_gradient_goes_back_beyond_the_sequence(tmp_path: Path) -> None:
    algorithm = built(text_file(tmp_path, nonsense(400)), batch_size=4, sequence=10, hidden=4)
    algorithm.step()
    assert all(not part.requires_grad and part.any() for part in algorithm.memory)


def test_the_carried_state_is_that_of_reading_on(tmp_path: Path) -> None:
    algorithm = built(text_file(tmp_path, nonsense(400)), batch_size=1, sequence=10, hidden=4, lr=1e-30)
    for _ in range(3):
        algorithm.step()
    with torch.no_grad():
        _, expected = algorithm.network(algorithm.columns[:30].long(), algorithm.network.blank(1))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(algorithm.memory, expected, strict=True))


def test_a_fraction_of_an_epoch_is_a_budget(tmp_path: Path) -> None:
    algorithm = finished(built(text_file(tmp_path, nonsense(1000)), batch_size=2, sequence=10, hidden=4, epochs=0.25))
    assert algorithm.epoch == 898
    assert algorithm.budget == 224
    assert algorithm.count == 240  # the last step is a whole one


@pytest.mark.parametrize("cell", CELLS)
def test_a_periodic_text_is_memorised(cell: str, tmp_path: Path) -> None:
    period = "the cat sat on the mat, the rat ate that.\n"
    algorithm = finished(
        built(
            text_file(tmp_path, period * 60),
            **{"cell": cell, "hidden": 48, "batch_size": 4, "sequence": 30, "epochs": 10, "lr": 1e-2},
        )
    )
    assert algorithm.evaluate()["eval/nats_per_character"] < 0.05  # its entropy is 0
    assert algorithm.sample(84, period, temperature=0, rng=np.random.default_rng(0)) == 2 * period


def test_a_markov_chain_is_learned_up_to_its_entropy_and_not_beyond(tmp_path: Path) -> None:
    p = np.array([[0.8, 0.2, 0.0], [0.1, 0.3, 0.6], [0.5, 0.0, 0.5]])
    rng, state, states = np.random.default_rng(0), 0, []
    for _ in range(20_000):
        state = int(rng.choice(3, p=p[state]))
        states.append(state)
    target = text_file(tmp_path, "".join("abc"[state] for state in states))
    options = {"cell": "gru", "hidden": 16, "batch_size": 16, "sequence": 20, "epochs": 4, "lr": 2e-2}
    algorithm = finished(built(target, **options))
    least = -np.mean([np.log(p[states[i - 1], states[i]]) for i in range(18_000, 20_000)])  # of those very characters
    assert least - 0.003 < algorithm.evaluate()["eval/nats_per_character"] < least + 0.02


def test_loading_weights_needs_no_setup_and_measures_the_same(tmp_path: Path) -> None:
    target = text_file(tmp_path, nonsense(400))
    algorithm = built(target, batch_size=4, sequence=10, hidden=4)
    algorithm.step()
    planned = planning.plan("char-rnn", target, {"preset": "none", "device": "cpu", "hidden": 4, "sequence": 10})
    loaded, _ = experiment.build(planned)
    loaded.load_weights(algorithm.weights())
    assert first_difference(loaded.evaluate(), algorithm.evaluate()) is None


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
def test_it_goes_on_in_a_new_process(cell: str, tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    check_resume_in_new_process(
        "char-rnn",
        text_file(tmp_path, nonsense(3000)),
        budget=2 * 2672,
        stop_after=1000,
        options=["--epochs=2", f"--cell={cell}", "--layers=2", "--hidden=8", "--batch-size=16", "--dropout=.1"],
        folder=folder,
    )
