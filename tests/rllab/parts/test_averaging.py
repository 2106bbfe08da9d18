import pytest
import torch
from torch import nn

from rllab.parts.averaging import WeightAverage, average_of, averaged


def constant(value: float) -> nn.Linear:
    made = nn.Linear(1, 1)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.fill_(value)
    return made


def test_the_average_follows_its_formula():
    network = constant(0.0)
    average = WeightAverage(network, decay=0.25)
    expected = 0.0
    for step, value in enumerate((1.0, 4.0, 2.0), start=1):
        network.load_state_dict(constant(value).state_dict())
        average.update(network)
        decay = min(0.25, (1 + step) / (10 + step))  # 2/11, then 3/12 = .25, then .25
        expected = decay * expected + (1 - decay) * value
        assert [p.item() for p in average.copy.parameters()] == pytest.approx([expected, expected])


def test_the_first_steps_do_not_hang_on_to_the_beginning():
    network = constant(0.0)
    average = WeightAverage(network, decay=0.9999)
    network.load_state_dict(constant(1.0).state_dict())
    average.update(network)
    assert average.copy.weight.item() == pytest.approx(9 / 11)


def test_statistics_of_batch_normalisation_are_copied():
    network = nn.Sequential(nn.BatchNorm1d(1))
    average = WeightAverage(network, decay=0.9)
    network(torch.tensor([[1.0], [3.0]]))
    average.update(network)
    assert average.copy[0].running_mean.item() == network[0].running_mean.item() == pytest.approx(0.2)


def test_its_weights_are_not_trained_and_those_of_the_network_are():
    network = constant(0.0)
    average = WeightAverage(network, decay=0.9)
    assert not any(parameter.requires_grad for parameter in average.parameters())
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_without_a_decay_the_network_itself_is_measured():
    network = constant(0.0)
    assert average_of(network, 0.0) is None
    assert averaged(network, None) is network
    average = average_of(network, 0.5)
    assert average is not None
    assert averaged(network, average) is average.copy
