from itertools import chain

import numpy as np
import torch

from rllab.minibatches import Minibatches, epoch_order
from rllab.seeding import Streams

CPU = torch.device("cpu")


def test_an_epoch_has_each_item_once_in_an_order_that_follows_from_its_seed():
    first, again, other = (epoch_order(9, np.random.SeedSequence(seed)).tolist() for seed in (1, 1, 2))
    assert sorted(first) == list(range(9))
    assert first == again != other


def test_the_last_minibatch_of_an_epoch_is_smaller_and_the_next_epoch_has_another_order():
    batches = Minibatches(10, 4, Streams(3), CPU)
    epochs = [[batches.rows(10 * epoch + start).tolist() for start in (0, 4, 8)] for epoch in (0, 1)]
    assert [list(map(len, epoch)) for epoch in epochs] == [[4, 4, 2]] * 2
    assert all(sorted(chain.from_iterable(epoch)) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_rows_follow_from_the_count_alone():
    walked, asked = Minibatches(10, 4, Streams(3), CPU), Minibatches(10, 4, Streams(3), CPU)
    for count in (0, 4, 8, 10):
        walked.rows(count)
    assert torch.equal(walked.rows(14), asked.rows(14))
