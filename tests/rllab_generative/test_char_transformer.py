"""char-transformer."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rllab_generative.char_transformer import CharTransformer, CharTransformerConfig, InNumpy, Transformer

from rllab import experiment, planning
from rllab.errors import UsageError
from rllab.testing import check_algorithm, check_resume_in_new_process

TextFile = Callable[[str | int], str]
SMALL: dict[str, Any] = {"layers": 2, "heads": 2, "width": 8, "sequence": 8, "batch_size": 3}


def built(target: str, **options: Any) -> CharTransformer:
    planned = planning.plan("char-transformer", target, {"preset": "none", "device": "cpu", **SMALL, **options})
    algorithm, _ = experiment.build(planned)
    assert isinstance(algorithm, CharTransformer)
    algorithm.setup()
    return algorithm


def network(characters: int = 9, **options: Any) -> Transformer:
    torch.manual_seed(0)
    made = Transformer(CharTransformerConfig.parse({**SMALL, **options}), characters)
    for parameter in made.parameters():  # so that it says something
        torch.nn.init.normal_(parameter, std=0.5)
    return made


def test_it_keeps_the_contract(text_file: TextFile) -> None:
    text = text_file(400)
    check_algorithm("char-transformer", text, steps=4, **SMALL, dropout=0.2, ema=0.9)


def test_it_keeps_the_contract_with_a_validation_part(text_file: TextFile) -> None:
    text = text_file(400)
    check_algorithm("char-transformer", text, steps=3, **SMALL, validation_share=0.2, optimizer="rmsprop")


def test_it_looks_at_no_later_character() -> None:
    made = network()
    codes = torch.randint(9, (1, 8))
    changed = codes.clone()
    changed[0, 5] = (codes[0, 5] + 1) % 9
    with torch.no_grad():
        before, after = made(codes)[0], made(changed)[0]
    assert torch.equal(before[:5], after[:5])
    assert (before[5:] - after[5:]).abs().amax(1).min() > 1e-3  # and at all earlier ones


def test_attention_is_the_softmax_of_the_products_of_queries_and_keys() -> None:
    block = network().blocks[0]
    x = torch.randn(1, 5, 8)
    with torch.no_grad():
        got = block.attention(x)[0]
        q, k, v = (part.view(5, 2, 4) for part in block.attend(x)[0].split(8, 1))  # (T, heads, d) each
        for head in range(2):
            for t in range(5):
                scores = torch.stack([q[t, head] @ k[s, head] / math.sqrt(4) for s in range(t + 1)])
                expected = sum(p * v[s, head] for s, p in enumerate(scores.softmax(0)))
                assert torch.allclose(got[t, 4 * head : 4 * head + 4], expected, atol=1e-5)


def test_keys_and_values_at_hand_change_nothing() -> None:
    made = network()
    codes = [1, 4, 2, 8, 5, 7, 0, 3]
    read = InNumpy(made)
    ours = np.stack([read(code) for code in codes])
    with torch.no_grad():
        theirs = made(torch.tensor([codes]))[0].numpy()
    assert np.abs(ours - theirs).max() < 1e-4


@pytest.mark.parametrize("sequence", [1, 2, 5, 8])
def test_when_all_places_are_taken_the_later_half_is_read_anew(sequence: int) -> None:
    made = network(sequence=sequence)
    codes = np.random.default_rng(0).integers(0, 9, 40).tolist()
    read, seen = InNumpy(made), []
    for code in codes:
        seen = [*seen, code] if len(seen) < sequence else [*seen[len(seen) - sequence // 2 :], code]
        with torch.no_grad():
            expected = made(torch.tensor([seen]))[0, -1].numpy()
        assert np.abs(read(code) - expected).max() < 1e-4
        assert len(seen) <= sequence


def test_the_outputs_share_the_weights_of_the_embedding_and_what_adds_up_begins_smaller() -> None:
    config = CharTransformerConfig()
    torch.manual_seed(0)
    made = Transformer(config, 65)
    # nanoGPT's count for these sizes is 0.80 million: 4 x (12 x 128 x 128 + 2 x 128) + 65 x 128 + 64 x 128 + 128
    assert sum(parameter.numel() for parameter in made.parameters()) == 804_096
    assert float(made.blocks[0].attend.weight.detach().std()) == pytest.approx(0.02, rel=0.02)
    assert float(made.blocks[3].narrow.weight.detach().std()) == pytest.approx(0.02 / math.sqrt(8), rel=0.02)


def test_heads_that_do_not_divide_the_width_are_refused(text_file: TextFile) -> None:
    with pytest.raises(UsageError, match="width 8 cannot be divided among 3 heads"):
        built(text_file(400), heads=3)


def test_crops_follow_from_the_seed_and_the_count_alone(text_file: TextFile) -> None:
    target = text_file(400)

    def crop(algorithm: CharTransformer) -> str:
        seen = []
        forward = algorithm.network.forward
        algorithm.network.forward = lambda codes: seen.append(codes) or forward(codes)  # type: ignore
        algorithm.step()
        return algorithm.task.decode(seen[0].flatten())

    one, other = built(target), built(target)
    one.step()
    other.count = one.count
    assert crop(one) == crop(other)
    assert crop(built(target)) != crop(other)


def test_crops_come_from_everywhere_in_the_training_part_and_from_nowhere_else(text_file: TextFile) -> None:
    algorithm = built(text_file(40), sequence=4, batch_size=200)  # 36 characters: 32 beginnings
    places = torch.arange(36, dtype=torch.int32)
    algorithm.codes, seen = places, []
    algorithm.network.forward = lambda codes: seen.append(codes) or algorithm.network.characters(codes % 5)[..., :5]  # type: ignore
    algorithm.descend = lambda logits, codes: {"next": codes}  # type: ignore
    following = algorithm.step()["next"]
    assert set(seen[0][:, 0].tolist()) == set(range(32))
    assert torch.equal(following, seen[0] + 1)  # type: ignore[arg-type]
    assert int(following.max()) == 35  # type: ignore[union-attr]


@pytest.mark.slow
def test_it_goes_on_in_a_new_process(text_file: TextFile, tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    check_resume_in_new_process(
        "char-transformer",
        text_file(3000),
        budget=2 * 2700,
        stop_after=1000,
        options=[
            "--epochs=2",
            "--layers=2",
            "--heads=2",
            "--width=8",
            "--batch-size=4",
            "--sequence=16",
            "--dropout=.1",
        ],
        folder=folder,
    )
