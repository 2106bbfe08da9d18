import enum
import random
import warnings
from collections import Counter, OrderedDict, defaultdict, deque
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from rllab import checkpoint, snapshot


class Thing:
    """Has attributes."""


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Point(NamedTuple):
    x: int
    y: int


def thing(**attributes: Any) -> Any:
    made = Thing()
    vars(made).update(attributes)
    return made


def test_one_object_under_two_names_is_one_again():
    box = Thing()
    box.a = np.arange(4.0)
    box.b, box.tail, box.items, box.circle = box.a, box.a[2:], [box.a], box
    fresh = Thing()
    value, complete = snapshot.read(snapshot.write(box), fresh)
    assert value is fresh
    assert complete
    assert fresh.a is not box.a
    assert fresh.b is fresh.a
    assert fresh.items[0] is fresh.a
    assert fresh.circle is fresh
    fresh.a[3] = 9.0
    assert fresh.tail.tolist() == [2.0, 9.0]


def test_names_that_were_two_objects_are_not_merged_by_a_fresh_one_that_has_one():
    saved, fresh = Thing(), Thing()
    saved.a, saved.b = Thing(), Thing()
    saved.a.at, saved.b.at = 1, 2
    fresh.a = fresh.b = Thing()
    snapshot.read(snapshot.write(saved), fresh)
    assert (fresh.a.at, fresh.b.at) == (1, 2)


@pytest.mark.parametrize(
    "value",
    [
        None,
        -0.0,
        float("inf"),
        b"bytes",
        (1, ("a",)),
        frozenset({1, 2}),
        Point(1, 2),
        Colour.BLUE,
        np.float32(0.1),
        np.str_("text"),
        [1, [2]],
        {1: "a", (2, "b"): None, Colour.RED: 3},
        OrderedDict(a=1),
        Counter("aab"),
        {1, 2},
        deque([1, 2], maxlen=2),
        SimpleNamespace(a=1),
    ],
)
def test_a_value_of_any_plain_kind_comes_back_through_a_file(value, tmp_path):
    fresh = Thing()
    _, complete = snapshot.read(through_a_file(snapshot.write(thing(value=value)), tmp_path), fresh)
    assert complete
    assert type(fresh.value) is type(value)
    assert repr(fresh.value) == repr(value)
    assert getattr(fresh.value, "maxlen", None) == getattr(value, "maxlen", None)


@pytest.mark.parametrize("dtype", ["bool", "uint16", "float16", "int64", "complex128", ">f4", "U3", "M8[s]"])
def test_an_array_of_any_dtype_comes_back_through_a_file_also_a_read_only_one(dtype, tmp_path):
    array = np.arange(6).astype(dtype).reshape(2, 3)
    array.flags.writeable = False
    fresh = Thing()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        snapshot.read(through_a_file(snapshot.write(thing(array=array)), tmp_path), fresh)
        again = checkpoint.load_state(checkpoint_of({"array": array}, tmp_path))["array"]
    for back in (fresh.array, again):
        assert back.dtype == array.dtype
        np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize("kind", [np.random.default_rng, np.random.RandomState, random.Random])
def test_a_generator_is_set_in_place_and_made_where_there_is_none(kind, tmp_path):
    written = through_a_file(snapshot.write(thing(one=kind(1), two=kind(2))), tmp_path)
    fresh = thing(one=kind(3))
    there = fresh.one
    snapshot.read(written, fresh)
    assert fresh.one is there
    assert (fresh.one.random(), fresh.two.random()) == (kind(1).random(), kind(2).random())


def test_a_space_goes_on_drawing_where_it_was():
    space = spaces.Dict(a=spaces.Discrete(100), b=spaces.Box(0, 1))
    space.seed(1)
    written = snapshot.write(thing(space=space))
    fresh = thing(space=spaces.Dict(a=spaces.Discrete(100), b=spaces.Box(0, 1)))
    snapshot.read(written, fresh)
    assert fresh.space.sample() == space.sample()


def test_what_has_no_plain_form_is_that_of_the_fresh_object():
    spec = EnvSpec("Toy-v0")
    written = snapshot.write(thing(call=print, spec=spec, records=np.zeros(2, [("a", int)]), count=1))
    fresh = thing(call=repr, spec=None, records=None, count=0)
    assert snapshot.read(written, fresh) == (fresh, True)
    assert (fresh.call, fresh.spec, fresh.records, fresh.count) == (repr, None, None, 1)


def test_what_a_fresh_object_has_not_and_cannot_be_made_leaves_it_incomplete():
    fresh = thing(calls=[], count=0)
    _, complete = snapshot.read(snapshot.write(thing(calls=[print], count=1)), fresh)
    assert not complete
    assert fresh.count == 1


def test_a_container_of_a_subclass_keeps_what_the_fresh_one_knows():
    fresh = thing(table=defaultdict(list, old=[0]))
    snapshot.read(snapshot.write(thing(table=defaultdict(list, a=[1]))), fresh)
    assert fresh.table == {"a": [1]}
    assert fresh.table["b"] == []


@pytest.mark.parametrize("mark", ["frozen", "object", "enum"])
def test_a_snapshot_makes_no_object_that_was_none_of_its_kind(mark):
    item = {mark: {"object": {}, "frozen": [["true"]], "enum": "__doc__"}[mark], "class": "subprocess:Popen"}
    written = {"root": {"ref": 0}, "nodes": [item]} if mark == "object" else {"root": item, "nodes": []}
    with pytest.raises(LookupError):
        snapshot.read(written, None)


def test_generators_are_found_inside_of_things():
    one, other = np.random.default_rng(0), random.Random(0)
    assert snapshot.generators(thing(a=[one], b=thing(c={"d": other}), e=one)) == [one, other]


def checkpoint_of(state: Any, tmp_path: Any) -> Any:
    checkpoint.save(tmp_path / "step-1", weights={}, state=state, note={})
    return tmp_path / "step-1"


def through_a_file(written: Any, tmp_path: Any) -> Any:
    return checkpoint.load_state(checkpoint_of(written, tmp_path))
