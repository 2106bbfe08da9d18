"""Random numbers: one seed becomes independent streams, and the states of all of them can be kept.

`seed + i` for environment i would make the runs of seeds 1 and 2 share environments. A NumPy `SeedSequence`
keyed by the stream's name does not: streams of different names, and of different seeds, are independent.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from rllab.state import generator_state, set_generator_state


class Streams:
    """The independent random streams of one run.

    The same name gives the same generator each time, so that two users of "exploration" draw one after the
    other and never the same numbers twice. The streams a method usually needs are "environments",
    "exploration", "replay", "data", "weights" and "evaluation"; any other name is a stream of its own.

    Args:
        seed: the run's seed, at least 0.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._numpy: dict[str, np.random.Generator] = {}
        self._torch: dict[str, torch.Generator] = {}

    def sequence(self, name: str, *key: int) -> np.random.SeedSequence:
        """Return the seed sequence of a stream; `key` (such as a step count) selects a part of it. Draws nothing."""
        return np.random.SeedSequence(self.seed, spawn_key=(zlib.crc32(name.encode()), *key))

    def numpy(self, name: str) -> np.random.Generator:
        """Return the NumPy generator of a stream."""
        if name not in self._numpy:
            self._numpy[name] = np.random.default_rng(self.sequence(name))
        return self._numpy[name]

    def torch(self, name: str, device: torch.device | str = "cpu") -> torch.Generator:
        """Return the torch generator of a stream, on `device`."""
        key = f"{name}@{torch.device(device).type}"
        if key not in self._torch:
            generator = torch.Generator(device)
            generator.manual_seed(int(self.sequence(name).generate_state(1, np.uint64)[0] >> np.uint64(1)))
            self._torch[key] = generator
        return self._torch[key]

    def seed_globals(self) -> None:
        """Seed the global generators of Python, NumPy and torch, which initialise the weights among other things."""
        python, numpy, torch_seed = (int(word) for word in self.sequence("weights").generate_state(3))
        random.seed(python)
        np.random.seed(numpy)
        torch.manual_seed(torch_seed)

    def state_dict(self) -> dict[str, Any]:
        """Return the states of all generators handed out so far."""
        return {
            "numpy": {name: generator_state(generator) for name, generator in self._numpy.items()},
            "torch": {name: generator_state(generator) for name, generator in self._torch.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Bring the generators back, in place for those already handed out; later ones are forgotten."""
        self._numpy = {name: made for name, made in self._numpy.items() if name in state["numpy"]}
        self._torch = {name: made for name, made in self._torch.items() if name in state["torch"]}
        for name, saved in state["numpy"].items():
            set_generator_state(self.numpy(name), saved)
        for name, saved in state["torch"].items():
            stream, _, device = name.rpartition("@")
            set_generator_state(self.torch(stream, device), saved)


def generator_of(sequence: np.random.SeedSequence) -> torch.Generator:
    """Return a torch generator on the CPU that a seed sequence begins: the same one for the same sequence."""
    return torch.Generator().manual_seed(int(sequence.generate_state(1)[0]))


def global_state() -> dict[str, Any]:
    """Return the states of the global generators of Python, NumPy and torch (CPU and CUDA)."""
    cuda = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(legacy=False),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if cuda else [],
    }


def set_global_state(state: dict[str, Any]) -> None:
    """Bring the global generators back to `state`; states of GPUs that this machine has not are left out."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    for device, saved in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(saved, device)


@contextmanager
def preserved_globals() -> Iterator[None]:
    """Leave the global generators as they were, whatever the block draws."""
    before = global_state()
    try:
        yield
    finally:
        set_global_state(before)
