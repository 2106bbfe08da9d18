import enum
import random
from collections import deque
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from rllab import state as states
from rllab.state import UncapturedState, capture, restore


class Thing:
    """Attributes, given by name."""

    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)


class Counter:
    """Something that keeps its own state."""

    def __init__(self, at: int = 0) -> None:
        self.at = at

    def state_dict(self) -> dict[str, Any]:
        return {"at": self.at}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.at = state["at"]


class Phase(enum.Enum):
    WARM_UP = 1
    TRAINING = 2


class Parts(enum.Flag):
    ACTOR = 1
    CRITIC = 2


class Point(NamedTuple):
    x: int
    y: int


def moved(saved: Thing, fresh: Thing) -> Thing:
    """Bring a fresh thing to the state of another."""
    states.restore_into(fresh, states.collect(saved))
    return fresh


# --- what comes back ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [None, True, 3, 2.5, 1j, "text", b"bytes", [1, [2]], (1, "a"), {"a": 1, 2: {"b": []}}, {1, 2}, frozenset({"x"})],
    ids=repr,
)
def test_plain_values_come_back_as_they_are(value: object) -> None:
    again = moved(Thing(value=value), Thing(value=None)).value
    assert again == value
    assert type(again) is type(value)


def test_a_deque_keeps_its_items_and_its_length() -> None:
    again = moved(Thing(last=deque([1, 2], maxlen=2)), Thing(last=deque(maxlen=2))).last
    again.append(3)
    assert again == deque([2, 3], maxlen=2)


def test_a_named_tuple_stays_one() -> None:
    assert moved(Thing(at=Point(1, 2)), Thing(at=Point(0, 0))).at == Point(1, 2)
    assert isinstance(moved(Thing(at=Point(1, 2)), Thing(at=Point(0, 0))).at, Point)


def test_arrays_and_tensors_are_filled_in_place() -> None:
    array, tensor = np.zeros(2), torch.zeros(2)
    fresh = moved(Thing(a=np.array([1.0, 2.0]), t=torch.tensor([3.0, 4.0])), Thing(a=array, t=tensor))
    assert fresh.a is array
    assert fresh.t is tensor
    assert array.tolist() == [1.0, 2.0]
    assert tensor.tolist() == [3.0, 4.0]


def test_an_array_that_has_grown_is_replaced() -> None:
    assert moved(Thing(a=np.arange(3)), Thing(a=np.arange(1))).a.tolist() == [0, 1, 2]


def test_lists_keep_their_identity_and_lose_surplus_items() -> None:
    items = [9, 9, 9]
    assert moved(Thing(items=[1]), Thing(items=items)).items is items
    assert items == [1]


def test_a_dict_loses_keys_that_were_not_saved() -> None:
    assert moved(Thing(d={"a": 1}), Thing(d={"a": 0, "b": 0})).d == {"a": 1}


def test_the_restored_shares_no_memory_with_the_saved() -> None:
    saved = Thing(cache=[torch.zeros(1)], arrays={"a": np.zeros(1)})
    fresh = moved(saved, Thing(cache=None, arrays=None))
    fresh.cache[0] += 1
    fresh.arrays["a"] += 1
    assert saved.cache[0].item() == 0
    assert saved.arrays["a"][0] == 0


@pytest.mark.parametrize(
    ("make", "draw"),
    [
        (lambda: np.random.default_rng(0), lambda g: g.random()),
        (lambda: np.random.RandomState(0), lambda g: g.random()),
        (lambda: random.Random(0), lambda g: g.random()),
        (lambda: torch.Generator().manual_seed(0), lambda g: torch.rand(1, generator=g).item()),
    ],
    ids=["numpy", "numpy-legacy", "python", "torch"],
)
def test_a_generator_goes_on_where_it_was(make: Any, draw: Any) -> None:
    saved = Thing(rng=make())
    draw(saved.rng)
    state = states.collect(saved)
    expected = draw(saved.rng)
    fresh = Thing(rng=make())
    rng = fresh.rng
    states.restore_into(fresh, state)
    assert fresh.rng is rng
    assert draw(rng) == expected


def test_a_space_samples_on_where_it_was() -> None:
    space = spaces.Dict({"a": spaces.Discrete(1000), "b": spaces.Tuple([spaces.Discrete(1000)])})
    space.seed(1)
    space.sample()
    state = capture(space)
    expected = space.sample()
    other = spaces.Dict({"a": spaces.Discrete(1000), "b": spaces.Tuple([spaces.Discrete(1000)])})
    assert restore(other, state).sample() == expected


def test_objects_with_a_state_dict_keep_their_own_state_also_inside_containers() -> None:
    fresh = moved(Thing(one=Counter(5), more={"a": [Counter(6)]}), Thing(one=Counter(), more={"a": [Counter()]}))
    assert fresh.one.at == 5
    assert fresh.more["a"][0].at == 6


def test_members_of_enums_come_back() -> None:
    saved = Thing(phase=Phase.TRAINING, parts=Parts.ACTOR | Parts.CRITIC)
    fresh = moved(saved, Thing(phase=Phase.WARM_UP, parts=Parts.ACTOR))
    assert fresh.phase is Phase.TRAINING
    assert fresh.parts == Parts.ACTOR | Parts.CRITIC


def test_what_cannot_change_is_left_alone() -> None:
    constants = Thing(
        f=len, g=pytest.raises, c=dict, d=torch.device("cpu"), t=torch.float32, p=Path("x"), n=np.dtype("f4")
    )
    before = dict(vars(constants))
    assert vars(moved(constants, constants)) == before


# --- what is refused ----------------------------------------------------------------------------------------


def test_an_attribute_that_cannot_be_kept_is_named_with_the_way_to_it() -> None:
    with pytest.raises(
        UncapturedState, match=r"^sockets\['a'\]\[1\] is a builtins\.object, whose state cannot be kept"
    ):
        states.collect(Thing(sockets={"a": [1, object()]}))


@pytest.mark.parametrize(
    "value",
    [
        (i for i in [1]),
        Thing().__init__,
        (lambda counter: lambda: counter)([0]),
        np.array([object()]),
        np.zeros(1, [("a", "i4")]),
        {Phase.WARM_UP},
        {nn.Linear(1, 1)},
    ],
    ids=["iterator", "bound method", "closure", "objects", "records", "set of enums", "set of modules"],
)
def test_what_may_hide_state_is_refused_by_name(value: object) -> None:
    with pytest.raises(UncapturedState, match=r"^thing is a"):
        states.collect(Thing(thing=value))


def test_an_attribute_that_the_state_lacks_is_an_error() -> None:
    with pytest.raises(UncapturedState, match=r"the saved state has no counter"):
        states.restore_into(Thing(counter=1), states.collect(Thing()))


@pytest.mark.parametrize("value", [Counter(1), [Counter(1)], {"a": (Counter(1),)}], ids=["itself", "list", "dict"])
def test_the_state_of_an_object_needs_an_object_to_load_it_into(value: object) -> None:
    with pytest.raises(UncapturedState, match=r"thing.* has a saved state, but there is no object to load it into"):
        moved(Thing(thing=value), Thing(thing=None))


def test_skipped_attributes_are_neither_collected_nor_restored() -> None:
    state = states.collect(Thing(a=1, cache=object()), skip=["cache"])
    fresh = Thing(a=0, cache="mine")
    states.restore_into(fresh, state, skip=["cache"])
    assert vars(fresh) == {"a": 1, "cache": "mine"}


# --- modules ------------------------------------------------------------------------------------------------


def test_modules_are_found_inside_containers() -> None:
    layers = [nn.Linear(1, 1) for _ in range(4)]
    owner = Thing(q=layers[0], heads=[layers[1]], named={"a": (layers[2],)}, league=deque([layers[3]]))
    assert list(states.modules(owner)) == ["q", "heads.0", "named.a.0", "league.0"]
    assert len(states.weights(owner)) == 8


def test_weights_hold_buffers_also_those_that_torch_leaves_out() -> None:
    norm = nn.BatchNorm1d(2)
    norm.register_buffer("temporary", torch.ones(1), persistent=False)
    assert {"norm.running_mean", "norm.num_batches_tracked", "norm.temporary"} <= set(states.weights(Thing(norm=norm)))


def test_loaded_weights_are_copied_into_the_parameters_there() -> None:
    saved, fresh = nn.Linear(2, 1), nn.Linear(2, 1)
    weight = fresh.weight
    states.load_weights(Thing(q=fresh), states.weights(Thing(q=saved)))
    assert fresh.weight is weight
    assert torch.equal(weight, saved.weight)
    assert weight.data_ptr() != saved.weight.data_ptr()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("q.bias"), "the saved weights have no q.bias"),
        (lambda w: w.update(extra=torch.ones(1)), "the saved weights have extra that the model has not"),
        (lambda w: w.update({"q.bias": torch.ones(7)}), r"q.bias has shape \(7,\), the model's is \(1,\)"),
    ],
    ids=["missing", "surplus", "shape"],
)
def test_weights_that_do_not_fit_are_named(change: Any, message: str) -> None:
    owner = Thing(q=nn.Linear(2, 1))
    saved = states.weights(owner)
    change(saved)
    with pytest.raises(ValueError, match=message):
        states.load_weights(owner, saved)


def test_train_and_eval_mode_of_every_part_comes_back() -> None:
    saved = Thing(q=nn.Sequential(nn.Dropout(), nn.Dropout()))
    saved.q[1].eval()
    fresh = moved(saved, Thing(q=nn.Sequential(nn.Dropout(), nn.Dropout()).eval()))
    assert [part.training for part in fresh.q.modules()] == [True, True, False]


# --- what modules hold besides weights ----------------------------------------------------------------------


class Part(nn.Module):
    """A module with attributes that are neither parameters nor buffers."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__()
        for name, value in attributes.items():
            setattr(self, name, value)


class Declared(nn.Module):
    """A module that says itself what its state is."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.clock = Counter(at)

    def get_extra_state(self) -> Any:
        return {"at": self.clock.at}

    def set_extra_state(self, state: Any) -> None:
        self.clock.at = state["at"] + 100


def test_numbers_arrays_and_generators_on_modules_come_back() -> None:
    saved = Part(n=5, seen=np.arange(3), rng=np.random.default_rng(1), _hidden=[1.5], f=torch.relu, kind=torch.float32)
    fresh = Part(n=0, seen=np.zeros(3, int), rng=np.random.default_rng(2), _hidden=[], f=torch.relu, kind=torch.float32)
    moved(Thing(net=nn.Sequential(saved)), Thing(net=nn.Sequential(fresh)))
    assert (fresh.n, fresh.seen.tolist(), fresh._hidden, fresh.f) == (5, [0, 1, 2], [1.5], torch.relu)
    assert fresh.rng.random() == saved.rng.random()


def test_the_extra_state_of_a_module_goes_through_its_own_methods() -> None:
    assert moved(Thing(net=Declared(7)), Thing(net=Declared(0))).net.clock.at == 107


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"socket": object()}, r"^net\.0\.socket is a builtins\.object, whose state cannot be kept"),
        ({"hidden": [nn.Linear(1, 1)]}, r"^net\.0\.hidden has modules that torch does not know of"),
    ],
)
def test_what_cannot_be_kept_of_a_module_is_named(attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(UncapturedState, match=message):
        states.collect(Thing(net=nn.Sequential(Part(**attributes))))


def test_what_a_skipped_module_holds_is_left_alone() -> None:
    state = states.collect(Thing(cache=Part(socket=object(), n=1)), skip=["cache"])
    fresh = Thing(cache=Part(n=2))
    states.restore_into(fresh, state, skip=["cache"])
    assert fresh.cache.n == 2


class Counting(nn.LSTM):
    """A recurrent network with a private number of its own."""

    _calls = 0


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.LSTM(2, 3, num_layers=2),
        lambda: Counting(2, 3),
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3, padding="same"), nn.BatchNorm2d(2), nn.Flatten(), nn.LazyLinear(2)),
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2), 1, enable_nested_tensor=False),
        lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(2, 2)),
        lambda: torch.compile(nn.Linear(2, 2), backend="eager"),
    ],
    ids=["lstm", "own lstm", "convolutions", "transformer", "spectral norm", "compiled"],
)
def test_modules_of_torch_are_kept_and_restored(make: Any) -> None:
    saved, fresh = Thing(net=make()), Thing(net=make())
    state = states.collect(saved)
    states.restore_into(fresh, state)
    assert states.collect(fresh) == state


def test_a_private_number_on_a_module_of_ones_own_comes_back_and_torchs_views_do_not() -> None:
    saved = Thing(net=Counting(2, 3))
    saved.net._calls = 4
    assert moved(saved, Thing(net=Counting(2, 3))).net._calls == 4
    assert not [name for name in states.collect(saved)["__parts__"]["net"] if name.startswith("_flat")]
