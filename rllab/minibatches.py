"""Which items of a dataset are learned from next.

Every epoch goes through all of them in a new order, which follows from the seed and the epoch alone: nothing has to
be kept to go on in the middle of one.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rllab.seeding import Streams


class Minibatches:
    """The rows of minibatches; a function of how many examples were learned from, with the order of an epoch at hand.

    Args:
        number: of items.
        size: items in a minibatch; the last one of an epoch may be smaller.
        streams: the run's random streams, of which "order" is used.
        device: where the rows are used.
    """

    def __init__(self, number: int, size: int, streams: Streams, device: torch.device) -> None:
        self.number = number
        self.size = size
        self._streams = streams
        self._device = device
        self._order = torch.empty(0)
        self._epoch = -1

    def rows(self, count: int) -> Tensor:
        """Return which items come next after `count` examples, (B,)."""
        epoch, position = divmod(count, self.number)
        if self._epoch != epoch:
            self._order = epoch_order(self.number, self._streams.sequence("order", epoch)).to(self._device)
            self._epoch = epoch
        return self._order[position : position + self.size]


def epoch_order(number: int, seeds: np.random.SeedSequence) -> Tensor:
    """Return the order of `number` items in an epoch; it follows from the seed alone."""
    return torch.from_numpy(np.random.default_rng(seeds).permutation(number))
