"""Models of texts learn what there is to learn, and no more."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rllab_generative.characters import CharacterModel

from rllab import experiment, planning

TextFile = Callable[[str | int], str]

PERIODIC: list[tuple[str, dict[str, Any]]] = [
    *(
        ("char-rnn", {"cell": cell, "hidden": 48, "batch_size": 4, "sequence": 30, "epochs": 15, "lr": 1e-2})
        for cell in ("rnn", "lstm", "gru")
    ),
    (
        "char-transformer",
        {"width": 32, "heads": 2, "layers": 2, "sequence": 32, "batch_size": 8, "epochs": 80, "lr": 4e-3},
    ),
]
MARKOV: dict[str, dict[str, Any]] = {
    "char-rnn": {"cell": "gru", "hidden": 16, "batch_size": 16, "sequence": 20, "epochs": 4, "lr": 2e-2},
    "char-transformer": {
        **{"width": 16, "heads": 2, "layers": 2, "sequence": 8, "batch_size": 16, "epochs": 4, "lr": 1e-2},
    },
}


def learned(method: str, target: str, **options: Any) -> CharacterModel[Any]:
    """Train a model until its budget is used up."""
    planned = planning.plan(method, target, {"device": "cpu", **options})
    algorithm, _ = experiment.build(planned, threads=1)
    assert isinstance(algorithm, CharacterModel)
    algorithm.setup()
    while algorithm.count < algorithm.budget:
        algorithm.step()
    return algorithm


@pytest.mark.parametrize(("method", "options"), PERIODIC)
def test_a_periodic_text_is_memorised(method: str, options: dict[str, Any], text_file: TextFile) -> None:
    period = "the cat sat on the mat, the rat ate that.\n"
    algorithm = learned(method, text_file(period * 40), preset="none", **options)
    assert algorithm.evaluate()["eval/nats_per_character"] < 0.05  # its entropy is 0
    assert algorithm.sample(84, period, temperature=0, rng=np.random.default_rng(0)) == 2 * period


@pytest.mark.parametrize("method", MARKOV)
def test_a_markov_chain_is_learned_up_to_its_entropy_and_not_beyond(method: str, text_file: TextFile) -> None:
    p = np.array([[0.8, 0.2, 0.0], [0.1, 0.3, 0.6], [0.5, 0.0, 0.5]])
    rng, state, states = np.random.default_rng(0), 0, []
    for _ in range(20_000):
        state = int(rng.choice(3, p=p[state]))
        states.append(state)
    algorithm = learned(method, text_file("".join("abc"[state] for state in states)), preset="none", **MARKOV[method])
    least = -np.mean([np.log(p[states[i - 1], states[i]]) for i in range(18_000, 20_000)])  # of those very characters
    assert least - 0.003 < algorithm.evaluate()["eval/nats_per_character"] < least + 0.02


@pytest.fixture
def tinyshakespeare() -> str:
    if not (Path(os.environ.get("RLLAB_DATA", "")) / "tinyshakespeare" / "input.txt").is_file():
        pytest.skip("Tiny Shakespeare is not in $RLLAB_DATA/tinyshakespeare")
    return "tinyshakespeare"


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_char_rnn_is_far_below_the_bigram_after_an_epoch_of_tiny_shakespeare(tinyshakespeare: str, seed: int) -> None:
    measured = learned("char-rnn", tinyshakespeare, epochs=1, seed=seed).evaluate()
    assert measured["eval/nats_per_character"] < 1.85
    assert 2.4 < measured["eval/bigram_nats"] < 2.55


@pytest.mark.slow
def test_char_transformer_is_below_the_bigram_after_a_third_of_an_epoch_of_tiny_shakespeare(
    tinyshakespeare: str,
) -> None:
    measured = learned("char-transformer", tinyshakespeare, epochs=0.33).evaluate()
    assert measured["eval/nats_per_character"] < measured["eval/bigram_nats"] - 0.1
