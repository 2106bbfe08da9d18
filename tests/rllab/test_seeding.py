import random

import numpy as np
import pytest
import torch

from rllab.seeding import Streams, generator_of, global_state, preserved_globals, set_global_state


def draws() -> tuple[float, float, float]:
    """Draw from each of the global generators."""
    return random.random(), float(np.random.random()), torch.rand(1).item()


def test_the_same_seed_and_name_give_the_same_numbers() -> None:
    assert Streams(7).numpy("replay").random() == Streams(7).numpy("replay").random()
    one, other = (torch.rand(3, generator=Streams(7).torch("weights")) for _ in range(2))
    assert torch.equal(one, other)


def test_other_names_and_other_seeds_give_other_numbers() -> None:
    drawn = {Streams(seed).numpy(name).random() for seed in (0, 1, 2) for name in ("environments", "replay", "data")}
    assert len(drawn) == 9


def test_two_users_of_a_name_draw_one_after_the_other() -> None:
    streams, alone = Streams(0), Streams(0).numpy("exploration")
    assert streams.numpy("exploration").random() == alone.random()
    assert streams.numpy("exploration").random() == alone.random()


def test_asking_for_a_sequence_draws_nothing() -> None:
    streams = Streams(0)
    first, again, later = (int(streams.sequence("evaluation", at).generate_state(1)[0]) for at in (100, 100, 200))
    assert first == again != later


def test_a_sequence_begins_the_same_generator_each_time() -> None:
    sequence = Streams(3).sequence("pictures")
    first, again = (torch.rand(3, generator=generator_of(sequence)) for _ in range(2))
    assert torch.equal(first, again)
    expected = torch.rand(3, generator=torch.Generator().manual_seed(int(sequence.generate_state(1)[0])))
    assert torch.equal(first, expected)
    assert not torch.equal(first, torch.rand(3, generator=generator_of(Streams(4).sequence("pictures"))))


def test_streams_go_on_where_they_were_in_place() -> None:
    streams = Streams(0)
    streams.numpy("a").random(5)
    torch.rand(5, generator=streams.torch("b"))
    state = streams.state_dict()
    expected = streams.numpy("a").random(), torch.rand(1, generator=streams.torch("b"))
    other = Streams(0)
    generator = other.numpy("a")
    other.load_state_dict(state)
    assert (generator.random(), torch.rand(1, generator=other.torch("b"))) == expected


def test_a_stream_first_used_after_the_state_was_taken_begins_anew() -> None:
    streams = Streams(0)
    state = streams.state_dict()
    first = streams.numpy("late").random(), torch.rand(1, generator=streams.torch("late"))
    streams.load_state_dict(state)
    assert (streams.numpy("late").random(), torch.rand(1, generator=streams.torch("late"))) == first


def test_seeding_the_globals_makes_all_three_repeat() -> None:
    Streams(5).seed_globals()
    first = draws()
    Streams(5).seed_globals()
    assert draws() == first
    Streams(6).seed_globals()
    assert set(draws()).isdisjoint(first)


def test_global_states_can_be_kept_and_set() -> None:
    state = global_state()
    first = draws()
    set_global_state(state)
    assert draws() == first


def test_states_of_gpus_that_are_not_there_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    set_on: dict[int, torch.Tensor] = {}
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: set_on.update({device: state}))
    states = [torch.full((16,), i, dtype=torch.uint8) for i in range(8)]
    set_global_state({**global_state(), "cuda": states})
    assert list(set_on) == [0]
    assert torch.equal(set_on[0], states[0])


def test_a_preserved_block_leaves_the_globals_as_they_were_also_after_an_error() -> None:
    state = global_state()
    expected = draws()
    set_global_state(state)
    try:
        with preserved_globals():
            draws()
            raise KeyError
    except KeyError:
        assert draws() == expected
