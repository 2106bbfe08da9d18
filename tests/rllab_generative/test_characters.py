"""What the models of characters share."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rllab_generative import char_rnn, characters
from rllab_generative.characters import CharacterModel, Reader, choose
from torch import Tensor

from rllab import experiment, planning
from rllab.errors import CheckpointError, UsageError
from rllab.planning import Plan
from rllab.testing import first_difference

SMALL: dict[str, dict[str, Any]] = {
    "char-rnn": {"hidden": 8, "embedding": 4, "layers": 2, "batch_size": 3, "sequence": 10},
    "char-transformer": {"width": 8, "heads": 2, "layers": 2, "batch_size": 3, "sequence": 10},
}
METHODS = sorted(SMALL)


def written(length: int = 600, letters: str = "abc \n") -> str:
    """Return a text without sense, the same every time."""
    return "".join(np.random.default_rng(5).choice(list(letters), length))


def planned(method: str, folder: Path, text: str | None = None, **options: Any) -> Plan:
    file = folder / "text.txt"
    file.write_text(written() if text is None else text, encoding="utf-8")
    return planning.plan(method, str(file), {"preset": "none", "device": "cpu", **SMALL[method], **options})


def built(method: str, folder: Path, text: str | None = None, **options: Any) -> CharacterModel[Any]:
    algorithm, _ = experiment.build(planned(method, folder, text, **options))
    assert isinstance(algorithm, CharacterModel)
    return algorithm


def trained(method: str, folder: Path, steps: int = 5, **options: Any) -> CharacterModel[Any]:
    algorithm = built(method, folder, **options)
    algorithm.setup()
    for _ in range(steps):
        algorithm.step()
    return algorithm


# --- measuring ------------------------------------------------------------------------------------


def surprise_of(reader: Reader, before: Tensor, counted: Tensor) -> float:
    """Return the sum of -ln p of characters that follow others, read one by one."""
    codes = [*before.tolist(), *counted.tolist()]
    total = 0.0
    for i, code in enumerate(codes[:-1]):
        logits = reader(code).astype(np.float64)
        if i + 1 >= len(before):
            total += float(np.logaddexp.reduce(logits) - logits[codes[i + 1]])
    return total


def test_the_rnn_carries_its_state_through_the_part(tmp_path: Path) -> None:
    algorithm = trained("char-rnn", tmp_path)
    codes, start = algorithm.place("test")
    expected = surprise_of(algorithm.reader(), codes[max(start - 512, 0) : start], codes[start:]) / (len(codes) - start)
    assert algorithm.measure("test")["eval/nats_per_character"] == pytest.approx(expected, rel=1e-5)


def test_the_rnn_reads_pieces_side_by_side_each_from_before_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"_PIECES": 4, "_PIECE": 7, "_BEFORE": 6, "_AT_ONCE": 5}.items():
        monkeypatch.setattr(char_rnn, name, value)
    algorithm = trained("char-rnn", tmp_path)
    codes, start = algorithm.place("test")
    end = len(codes)
    assert end - start == 60
    expected = sum(
        surprise_of(algorithm.reader(), codes[first - 6 : first], codes[first : min(first + 15, end - 1)])
        for first in range(start, end - 1, 15)
    )
    with algorithm.undisturbed():
        total = algorithm.surprise(codes[: end - 1], start)
    assert total == pytest.approx(expected, rel=1e-5)  # of 59 characters: the last piece is shorter


def test_the_windows_of_the_transformer_overlap_by_half(tmp_path: Path) -> None:
    algorithm = trained("char-transformer", tmp_path)
    codes, start = algorithm.place("test")
    codes = codes[:-2]  # 58 characters: eleven windows of which 5 count, and 3 more
    ends = [*range(start + 5, start + 56, 5), start + 58]
    expected, counted = 0.0, start
    for last in ends:
        window = codes[last - 11 : last]
        expected += surprise_of(algorithm.reader(), window[: 11 - (last - counted)], window[11 - (last - counted) :])
        counted = last
    with algorithm.undisturbed():
        assert algorithm.surprise(codes, start) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_before_training_every_character_takes_about_the_logarithm_of_the_vocabulary(
    method: str, tmp_path: Path
) -> None:
    measured = built(method, tmp_path).evaluate()
    assert measured["eval/nats_per_character"] == pytest.approx(math.log(5), abs=0.2)
    assert measured["eval/bits_per_character"] == pytest.approx(measured["eval/nats_per_character"] / math.log(2))
    assert measured["eval/unigram_nats"] == pytest.approx(math.log(5), abs=0.05)
    assert {"eval/bigram_nats", "eval/gzip_nats"} <= set(measured)


@pytest.mark.parametrize("method", METHODS)
def test_a_validation_part_is_measured_on_the_way_and_the_test_part_in_the_end(method: str, tmp_path: Path) -> None:
    algorithm = trained(method, tmp_path, validation_share=0.2)
    selection = type(algorithm).selection(algorithm.task)
    assert selection is not None
    assert selection.metric == "validation/nats_per_character"
    assert set(algorithm.validate()) == {"validation/nats_per_character", "validation/bits_per_character"}
    assert {"validation/nats_per_character", "eval/nats_per_character"} <= set(algorithm.evaluate())
    assert type(algorithm).selection(built(method, tmp_path).task) is None


def test_what_comes_before_the_test_part_is_the_validation_part(tmp_path: Path) -> None:
    algorithm = built("char-rnn", tmp_path, validation_share=0.2)
    codes, start = algorithm.place("test")
    assert algorithm.task.decode(codes) == written()
    assert start == 540
    codes, start = algorithm.place("validation")
    assert algorithm.task.decode(codes) == written()[:540]
    assert start == 432
    codes, start = algorithm.place("validation", 7)
    assert algorithm.task.decode(codes) == written()[:439]
    assert start == 432


@pytest.mark.parametrize("method", METHODS)
def test_of_a_long_part_the_beginning_is_measured_on_the_way_and_in_the_end(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = trained(method, tmp_path, validation_share=0.2)
    everything = short.evaluate()
    monkeypatch.setattr(characters, "_MEASURED", 40)
    algorithm = trained(method, tmp_path, validation_share=0.2)
    measured = algorithm.evaluate()
    assert algorithm.validate() == {name: value for name, value in measured.items() if name.startswith("validation/")}
    for unit in ("nats", "bits"):
        for part in ("eval", "validation"):
            assert measured[f"{part}/{unit}_per_character"] != everything[f"{part}/{unit}_per_character"]
        assert measured[f"eval/whole_{unit}_per_character"] == everything[f"eval/{unit}_per_character"]
    assert measured["eval/bigram_nats"] != everything["eval/bigram_nats"]
    without = trained(method, tmp_path)
    assert without.validate().items() <= without.evaluate().items()
    assert "eval/nats_per_character" in without.validate()


@pytest.mark.parametrize("method", METHODS)
def test_a_caption_says_of_what_part_a_number_is_and_from_how_much_text_before(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = {
        "char-rnn": "each from a state carried on over at least 512 characters",
        "char-transformer": "each from the 6 to 10 characters before it",
    }[method]
    algorithm = built(method, tmp_path)
    assert algorithm.captions["eval/nats_per_character"] == f"nats a character, test part, {how}"
    measured = {name for name in algorithm.evaluate() if name in algorithm.captions}
    assert measured == set(algorithm.captions) - {"train/loss"} == set(algorithm.evaluate())
    monkeypatch.setattr(characters, "_MEASURED", 59)
    algorithm = built(method, tmp_path, validation_share=0.1)
    part = "first 59 characters of the test part"
    assert algorithm.captions["eval/bits_per_character"].startswith(f"bits a character, {part}, each from ")
    assert algorithm.captions["eval/gzip_nats"] == f"nats a character, {part}, 32 KiB back"
    assert set(algorithm.captions) - {"train/loss"} == set(algorithm.evaluate())


# --- refusing -------------------------------------------------------------------------------------


def test_too_many_streams_for_a_text_are_refused_with_numbers(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"540 characters.*60 streams .*10 characters each.*601"):
        planned("char-rnn", tmp_path, batch_size=60)
    planned("char-rnn", tmp_path, batch_size=53)


def test_a_text_shorter_than_a_sequence_is_refused_with_numbers(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"training part has 54 characters.*sequence of 54.*55"):
        planned("char-transformer", tmp_path, written(60), sequence=54)


@pytest.mark.parametrize("method", METHODS)
def test_a_held_out_part_shorter_than_a_sequence_is_refused_with_numbers(method: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"test part has 9 characters, fewer than --sequence 10"):
        planned(method, tmp_path, written(90))


# --- writing --------------------------------------------------------------------------------------

WRONG: dict[str, tuple[Callable[[CharacterModel[Any]], object], str]] = {
    "below 0": (lambda a: a.sample(1, temperature=-1, rng=np.random.default_rng()), "temperature of -1"),
    "no number": (lambda a: a.sample(1, temperature=math.nan, rng=np.random.default_rng()), "temperature of nan"),
    "a top-k below 0": (lambda a: a.sample(1, top_k=-2, rng=np.random.default_rng()), "top-k of -2"),
    "an unknown character": (lambda a: a.sample(1, "axbz", rng=np.random.default_rng()), "lacks 'x', 'z'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_written_is_a_clear_error(name: str, tmp_path: Path) -> None:
    call, said = WRONG[name]
    with pytest.raises(UsageError, match=said):
        call(built("char-rnn", tmp_path))


def test_a_stream_raises_when_it_is_asked_for_and_not_at_its_first_character(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        built("char-rnn", tmp_path).stream("?", rng=np.random.default_rng())


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_writes_the_same_and_a_longer_sample_begins_like_a_shorter_one(
    method: str, tmp_path: Path
) -> None:
    algorithm = trained(method, tmp_path)
    long = algorithm.sample(50, "ab", rng=np.random.default_rng(1))
    assert algorithm.sample(20, "ab", rng=np.random.default_rng(1)) == long[:20]
    assert "".join(islice(algorithm.stream("ab", rng=np.random.default_rng(1)), 50)) == long
    assert algorithm.sample(50, "ab", rng=np.random.default_rng(2)) != long


@pytest.mark.parametrize("method", METHODS)
def test_writing_disturbs_nothing(method: str, tmp_path: Path) -> None:
    algorithm = trained(method, tmp_path, dropout=0.3)
    straight = [algorithm.step() for _ in range(3)]
    algorithm = trained(method, tmp_path, dropout=0.3)
    next(algorithm.stream(rng=np.random.default_rng(0)))
    algorithm.pictures(final=False)
    algorithm.evaluate()
    assert first_difference(straight, [algorithm.step() for _ in range(3)]) is None


@pytest.mark.parametrize("method", METHODS)
def test_a_stream_goes_on_with_the_weights_it_began_with(method: str, tmp_path: Path) -> None:
    algorithm = trained(method, tmp_path, lr=0.05)
    expected = algorithm.sample(30, rng=np.random.default_rng(0))
    stream = algorithm.stream(rng=np.random.default_rng(0))
    first = next(stream)
    for _ in range(5):
        algorithm.step()
    assert first + "".join(islice(stream, 29)) == expected
    assert algorithm.sample(30, rng=np.random.default_rng(0)) != expected


@pytest.mark.parametrize("method", METHODS)
def test_samples_at_three_temperatures_are_shown(method: str, tmp_path: Path) -> None:
    shown = trained(method, tmp_path).pictures(final=False)
    assert list(shown) == ["sample-0.5", "sample-0.8", "sample-1.0"]
    assert [len(text) for text in shown.values()] == [400] * 3


@pytest.mark.parametrize("method", METHODS)
def test_an_empty_prime_is_a_new_line(method: str, tmp_path: Path) -> None:
    algorithm = trained(method, tmp_path)
    nothing, line = (algorithm.sample(30, prime, rng=np.random.default_rng(1)) for prime in ("", "\n"))
    assert nothing == line


def test_without_new_lines_an_empty_prime_is_what_the_text_begins_with(tmp_path: Path) -> None:
    text = "b" + written(letters="ab")
    algorithm = built("char-rnn", tmp_path, text)
    assert algorithm.task.vocabulary[algorithm.beginning()] == "b"


def test_a_temperature_of_0_takes_the_most_probable_character() -> None:
    assert choose(np.array([0.0, 3.0, 2.9]), 0, 0, np.random.default_rng()) == 1


def test_characters_are_drawn_as_often_as_the_softmax_says() -> None:
    rng, logits = np.random.default_rng(0), np.log([0.1, 0.2, 0.7])
    drawn = np.bincount([choose(logits, 1.0, 0, rng) for _ in range(20_000)]) / 20_000
    assert drawn == pytest.approx([0.1, 0.2, 0.7], abs=0.015)
    cold = np.bincount([choose(logits, 0.5, 0, rng) for _ in range(20_000)]) / 20_000
    assert cold == pytest.approx(np.array([1, 4, 49]) / 54, abs=0.015)


def test_the_smallest_temperatures_take_the_most_probable_character() -> None:
    for temperature in (1e-300, 1e-308, 5e-324):
        for logits in (np.array([0.0, 3.0, 2.9]), np.array([-3e38, 3e38, 0], np.float32)):
            assert choose(logits, temperature, 0, np.random.default_rng(0)) == 1
            assert choose(logits, temperature, 2, np.random.default_rng(0)) == 1


def test_top_k_draws_among_the_k_most_probable_as_often_as_their_share() -> None:
    rng, logits = np.random.default_rng(0), np.log([0.3, 0.1, 0.5, 0.1])
    drawn = np.bincount([choose(logits, 1.0, 2, rng) for _ in range(20_000)], minlength=4) / 20_000
    assert drawn == pytest.approx([3 / 8, 0, 5 / 8, 0], abs=0.015)
    assert choose(logits, 1.0, 1, rng) == 2
    assert choose(logits, 1.0, 99, rng) in range(4)


def test_logits_of_any_size_can_be_drawn_from() -> None:
    assert choose(np.array([1e4, -1e4], np.float32), 1e-3, 0, np.random.default_rng(0)) == 0


# --- the vocabulary -------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_weights_of_a_text_with_other_characters_are_refused(method: str, tmp_path: Path) -> None:
    saved = trained(method, tmp_path).state_dict()
    changed = built(method, tmp_path, written(letters="abcX\n"))
    changed.setup()
    for load in (lambda: changed.load_weights(saved["weights"]), lambda: changed.load_state_dict(saved)):
        with pytest.raises(CheckpointError, match=r"new are 'X'; gone are ' '.*\n.*train anew"):
            load()


@pytest.mark.parametrize("method", METHODS)
def test_a_loaded_model_writes_what_the_trained_one_does(method: str, tmp_path: Path) -> None:
    algorithm = trained(method, tmp_path, ema=0.5)
    loaded = built(method, tmp_path, ema=0.5)
    loaded.load_weights({name: tensor.clone() for name, tensor in algorithm.weights().items()})
    samples = [model.sample(40, "a", rng=np.random.default_rng(3)) for model in (algorithm, loaded)]
    assert samples[0] == samples[1]


def test_the_average_is_what_is_measured(tmp_path: Path) -> None:
    algorithm = trained("char-rnn", tmp_path, ema=0.9, lr=0.05)
    averaged = algorithm.measure("test")
    with torch.no_grad():
        for parameter in algorithm.network.parameters():
            parameter.fill_(math.nan)
    assert algorithm.measure("test") == averaged
