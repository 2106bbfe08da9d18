from collections import deque
from typing import Any

import numpy as np
import pytest
import torch

from rllab.parts.experience import make_replay
from rllab.parts.frames import FramePool, FrameReplay, stacking_axis
from rllab.parts.prioritised import PrioritisedReplay
from rllab.parts.replay import Batch, ReplayBuffer

SIDE = 36
"""The smallest that counts as an image."""


class Player:
    """Several environments that stack frames of random numbers; their episodes are short."""

    def __init__(self, num_envs: int, shape: str = "first", *, seed: int = 0, padding: str = "reset") -> None:
        self.rng = np.random.default_rng(seed)
        self.shape, self.padding = shape, padding
        self.stacks = [self.begin() for _ in range(num_envs)]
        self.left = self.rng.integers(1, 12, num_envs)

    def frame(self) -> np.ndarray:
        size = (SIDE, SIDE, 1) if self.shape == "colour axis" else (SIDE, SIDE)
        return self.rng.integers(0, 256, size, dtype=np.uint8)

    def begin(self) -> deque[np.ndarray]:
        first = self.frame()
        padding = first if self.padding == "reset" else np.zeros_like(first)
        return deque([padding] * 3 + [first], 4)

    def look(self) -> np.ndarray:
        axis = -1 if self.shape == "last" else 1
        if self.shape == "single":
            return np.stack([stack[-1] for stack in self.stacks])
        return np.stack([np.stack(stack, axis - 1 if axis > 0 else axis) for stack in self.stacks])

    def step(self) -> tuple[np.ndarray, ...]:
        """Return a transition of each environment."""
        before = self.look()
        for stack in self.stacks:
            stack.append(self.frame())
        after = self.look()
        self.left -= 1
        ended = self.left == 0
        terminated = ended & (self.rng.random(len(ended)) < 0.5)
        for i in np.flatnonzero(ended):
            self.stacks[i] = self.begin()
            self.left[i] = self.rng.integers(1, 12)
        n = len(ended)
        rewards = self.rng.normal(size=n).astype(np.float32)
        return before, self.rng.integers(5, size=n), rewards, after, terminated, ended & ~terminated


SHAPES = {
    "first": (4, SIDE, SIDE),
    "last": (SIDE, SIDE, 4),
    "colour axis": (4, SIDE, SIDE, 1),
    "single": (SIDE, SIDE),
}


def same(one: Batch, other: Batch) -> bool:
    return all((a is None and b is None) or torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_batch_is_that_of_a_buffer_that_stores_all_observations_whole(
    shape: str, num_envs: int, n_step: int
) -> None:
    """Across starts of episodes, both kinds of ends, and several times around a ring that 3 does not divide."""
    arguments: dict[str, Any] = {"n_step": n_step, "gamma": 0.9}
    frames = FrameReplay(23, SHAPES[shape], np.uint8, num_envs, **arguments)
    whole = ReplayBuffer(23, SHAPES[shape], np.uint8, **arguments)
    player = Player(num_envs, shape)
    for step in range(80):
        transition = player.step()
        frames.add(*transition)
        whole.add(*transition)
        if step % 7 == 0 or step < 10:
            everything = np.arange(len(whole))
            assert same(frames.take(everything), whole.take(everything))
            drawn = [replay.sample(16, np.random.default_rng(step)) for replay in (frames, whole)]
            assert same(*drawn)
    assert len(frames) == len(whole) == 23


def test_stacks_that_begin_with_black_frames_are_kept_as_well() -> None:
    frames, whole = FrameReplay(9, (4, SIDE, SIDE), np.uint8, 1), ReplayBuffer(9, (4, SIDE, SIDE), np.uint8)
    player = Player(1, padding="zero")
    for _ in range(40):
        transition = player.step()
        frames.add(*transition)
        whole.add(*transition)
        assert same(frames.take(np.arange(len(whole))), whole.take(np.arange(len(whole))))


def test_observations_that_share_no_frames_are_kept_as_they_are() -> None:
    rng = np.random.default_rng(0)
    frames, whole = FrameReplay(5, (3, SIDE, SIDE), np.uint8, 1), ReplayBuffer(5, (3, SIDE, SIDE), np.uint8)
    for _ in range(20):
        before, after = rng.integers(0, 256, (2, 1, 3, SIDE, SIDE), dtype=np.uint8)
        for replay in (frames, whole):
            replay.add(before, np.zeros(1), np.zeros(1), after, np.zeros(1))
        assert same(frames.take(np.arange(len(whole))), whole.take(np.arange(len(whole))))
    assert len(frames._pool) == 5 * 6


def test_each_frame_is_stored_once_and_those_of_overwritten_transitions_make_room() -> None:
    """A transition adds a frame, an episode its first one; the oldest transition has three frames from before."""
    replay, player = FrameReplay(50, (4, SIDE, SIDE), np.uint8, 2), Player(2)
    most = 0
    ends: deque[int] = deque(maxlen=25)
    for _ in range(300):
        transition = player.step()
        replay.add(*transition)
        ends.append(int((transition[4] | transition[5]).sum()))
        assert len(replay._pool) <= len(replay) + sum(ends) + 2 * 4
        most = max(most, len(replay._pool))
    assert replay._pool._used <= most + 2  # places are used again; the two new frames come before the old ones go


@pytest.mark.parametrize("padding", ["reset", "zero"])
def test_no_frame_is_given_back_that_is_still_needed_and_none_is_lost(padding: str) -> None:
    replay, player = FrameReplay(11, (4, SIDE, SIDE), np.uint8, 3), Player(3, padding=padding)
    for _ in range(60):
        replay.add(*player.step())
        state = replay.state_dict()
        used = set(state["observations"].ravel()) | set(state["next_observations"].ravel())
        assert len(used) == len(replay._pool)
        assert not used & set(state["pool"]["free"].tolist())


def test_the_buffer_does_not_change_with_the_arrays_it_was_given() -> None:
    replay = FrameReplay(4, (4, SIDE, SIDE), np.uint8, 1)
    observations = np.ones((1, 4, SIDE, SIDE), np.uint8)
    replay.add(observations, np.zeros(1), np.zeros(1), observations, np.zeros(1))
    observations[:] = 9
    replay.add(observations, np.zeros(1), np.zeros(1), observations, np.zeros(1))
    assert replay.take(np.array([0, 1])).observations[:, 0, 0, 0].tolist() == [1, 9]


@pytest.mark.parametrize("steps", [0, 3, 30])
def test_only_what_is_filled_is_saved_and_it_goes_on_from_there(steps: int) -> None:
    arguments: Any = (20, (4, SIDE, SIDE), np.uint8, 2)
    straight, resumed = FrameReplay(*arguments, n_step=2, gamma=0.5), FrameReplay(*arguments, n_step=2, gamma=0.5)
    player = Player(2)
    for _ in range(steps):
        straight.add(*player.step())
    state = straight.state_dict()
    assert sum(chunk.nbytes for chunk in state["pool"]["chunks"]) == straight._pool._used * SIDE**2
    resumed.load_state_dict(state)
    for _ in range(15):
        transition = player.step()
        straight.add(*transition)
        resumed.add(*transition)
        everything = np.arange(len(straight))
        assert same(straight.take(everything), resumed.take(everything))
    assert resumed._pool._used == straight._pool._used


def test_a_pool_of_several_chunks_keeps_frames_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rllab.parts.frames._CHUNK", 8)
    pool = FramePool((2, 2), np.uint8)  # two frames in a chunk
    places = [pool.store(np.full((2, 2), n)) for n in range(5)]
    assert places == [0, 1, 2, 3, 4]
    pool.release({1, 3})
    assert (len(pool), pool.store(np.full((2, 2), 7)), pool.store(np.full((2, 2), 8))) == (3, 3, 1)
    assert pool.take(np.array([[0, 1], [3, 4]]))[..., 0, 0].tolist() == [[0, 8], [7, 4]]
    other = FramePool((2, 2), np.uint8)
    other.load_state_dict(pool.state_dict())
    assert other.take(np.arange(5))[:, 0, 0].tolist() == [0, 8, 2, 7, 4]
    assert (other.store(np.zeros((2, 2))), len(other)) == (5, 6)


@pytest.mark.parametrize(
    ("shape", "axis"),
    [((84, 84), None), ((4, 84, 84), 0), ((84, 84, 4), 2), ((4, 84, 84, 3), 0), ((4, 3, 84, 84), 0)],
)
def test_the_axis_of_stacked_frames(shape: tuple[int, ...], axis: int | None) -> None:
    assert stacking_axis(shape) == axis


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="no frames"):
        FrameReplay(10, (4, 8, 8), np.uint8, 1)
    with pytest.raises(ValueError, match="10 transitions are less than two for each of 6"):
        FrameReplay(10, (4, 84, 84), np.uint8, 6)
    replay = FrameReplay(10, (SIDE, SIDE), np.uint8, 2)
    one = np.zeros((1, SIDE, SIDE), np.uint8)
    with pytest.raises(ValueError, match="1 transitions are added, not one of each of 2"):
        replay.add(one, np.zeros(1), np.zeros(1), one, np.zeros(1))


def test_the_buffer_that_observations_get() -> None:
    from gymnasium.spaces import Box, Discrete

    stack, small = Box(0, 255, (4, 84, 84), np.uint8), Box(0, 255, (10, 10), np.uint8)
    assert type(make_replay(stack, 10, 1)) is FrameReplay
    assert type(make_replay(small, 10, 1)) is type(make_replay(Discrete(3), 10, 1)) is ReplayBuffer
    assert type(make_replay(Box(0, 1, (4, 84, 84)), 10, 1)) is ReplayBuffer
    prioritised = make_replay(stack, 10, 1, alpha=0.5)
    assert isinstance(prioritised, PrioritisedReplay)
    assert isinstance(prioritised.replay, FrameReplay)
