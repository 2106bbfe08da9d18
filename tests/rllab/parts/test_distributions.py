import math
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rllab.parts.distributions import Distribution, Gaussian, distribution_for, refusal

DISCRETE = spaces.Discrete(3, start=5)
SEVERAL = spaces.MultiDiscrete(np.array([[2, 3], [4, 2]]), start=np.array([[0, 1], [2, 3]]))
SWITCHES = spaces.MultiBinary([2, 2])
BOX = spaces.Box(np.array([-1, 0], np.float32), np.array([1, 0.5], np.float32))
SPACES = [DISCRETE, SEVERAL, SWITCHES, BOX]
FINITE = [DISCRETE, SEVERAL, SWITCHES]


def every_action(space: spaces.Space[Any]) -> np.ndarray:
    """Return all actions of a finite space, as they are stored."""
    match space:
        case spaces.Discrete():
            return np.arange(int(space.n))
        case spaces.MultiDiscrete():
            return np.array(list(product(*(range(n) for n in space.nvec.flatten()))))
    return np.array(list(product([0, 1], repeat=4)), np.int8)


def log_probs_of(distribution: Distribution, outputs: torch.Tensor, actions: np.ndarray) -> np.ndarray:
    """Return log pi of each action at one row of outputs."""
    rows = outputs.expand(len(actions), -1)
    return distribution.evaluate(rows, torch.from_numpy(actions))[0].numpy()


@pytest.mark.parametrize("space", FINITE, ids=str)
def test_probabilities_of_all_actions_sum_to_one_and_give_the_entropy(space: spaces.Space[Any]) -> None:
    distribution = distribution_for(space)
    outputs = torch.randn(1, distribution.outputs, generator=torch.Generator().manual_seed(0))
    log_p = log_probs_of(distribution, outputs, every_action(space)).astype(np.float64)
    assert np.exp(log_p).sum() == pytest.approx(1, abs=1e-6)
    _, entropy = distribution.evaluate(outputs, torch.from_numpy(every_action(space)[:1]))
    assert entropy.item() == pytest.approx(-(np.exp(log_p) * log_p).sum(), rel=1e-5)


@pytest.mark.parametrize("space", FINITE, ids=str)
def test_actions_are_drawn_as_often_as_they_are_probable(space: spaces.Space[Any]) -> None:
    distribution = distribution_for(space)
    outputs = torch.randn(1, distribution.outputs, generator=torch.Generator().manual_seed(1))
    actions = every_action(space)
    p = np.exp(log_probs_of(distribution, outputs, actions))
    drawn = distribution.sample(np.repeat(outputs.numpy(), 20_000, 0), np.random.default_rng(0))
    assert drawn.dtype == distribution.action_dtype
    assert drawn.shape == (20_000, *distribution.action_shape)
    same = (drawn[:, None] == actions[None]).reshape(20_000, len(actions), -1).all(2)
    deviation = np.sqrt(p * (1 - p) / 20_000)
    assert (np.abs(same.mean(0) - p) < 4.5 * deviation).all()


@pytest.mark.parametrize("space", FINITE, ids=str)
def test_the_mode_is_the_most_probable_action(space: spaces.Space[Any]) -> None:
    distribution = distribution_for(space)
    for seed in range(5):
        outputs = torch.randn(1, distribution.outputs, generator=torch.Generator().manual_seed(seed))
        actions = every_action(space)
        best = actions[log_probs_of(distribution, outputs, actions).argmax()]
        assert np.array_equal(distribution.mode(outputs.numpy())[0], best)


def test_a_gaussian_by_hand() -> None:
    # mean 1 and -1, deviation 2 and 1/2
    outputs = torch.tensor([[1.0, -1.0, math.log(2), math.log(0.5)]])
    log_prob, entropy = distribution_for(BOX).evaluate(outputs, torch.tensor([[3.0, -1.0]]))
    densities = [math.exp(-0.5) / (2 * math.sqrt(2 * math.pi)), 1 / (0.5 * math.sqrt(2 * math.pi))]
    assert log_prob.item() == pytest.approx(sum(map(math.log, densities)), rel=1e-6)
    assert entropy.item() == pytest.approx(sum(0.5 * math.log(2 * math.pi * math.e * s**2) for s in (2, 0.5)), rel=1e-6)


def test_gaussian_actions_are_drawn_around_the_mean_and_not_clipped() -> None:
    outputs = np.tile(np.array([[1, -1, math.log(2), math.log(0.5)]], np.float32), (20_000, 1))
    gaussian = Gaussian(BOX)
    drawn = gaussian.sample(outputs, np.random.default_rng(0))
    assert drawn.dtype == np.float32
    assert np.allclose(drawn.mean(0), [1, -1], atol=0.05)
    assert np.allclose(drawn.std(0), [2, 0.5], rtol=0.03)
    assert drawn[:, 0].max() > BOX.high[0]
    assert np.array_equal(gaussian.mode(outputs)[0], np.array([1, -1], np.float32))


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_log_probabilities_are_one_number_for_a_row(space: spaces.Space[Any]) -> None:
    distribution = distribution_for(space)
    outputs = np.zeros((7, distribution.outputs), np.float32)
    actions = distribution.sample(outputs, np.random.default_rng(0))
    log_prob, entropy = distribution.evaluate(torch.from_numpy(outputs), torch.from_numpy(actions))
    assert log_prob.shape == entropy.shape == (7,)


@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize("by_entropy", [0.0, -0.3])
def test_the_gradient_is_that_of_autograd(space: spaces.Space[Any], by_entropy: float) -> None:
    distribution = distribution_for(space)
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(6, distribution.outputs, generator=generator, dtype=torch.float64, requires_grad=True)
    actions = torch.from_numpy(distribution.sample(outputs.detach().float().numpy(), np.random.default_rng(0)))
    slope = torch.randn(6, generator=generator, dtype=torch.float64)
    log_prob, entropy = distribution.evaluate(outputs, actions)
    (expected,) = torch.autograd.grad((slope * log_prob + by_entropy * entropy).sum(), outputs)
    found = distribution.gradient(outputs.detach(), actions, slope, by_entropy)
    assert torch.allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_the_environment_gets_actions_of_its_space(space: spaces.Space[Any]) -> None:
    distribution = distribution_for(space)
    outputs = 3 * np.random.default_rng(0).standard_normal((50, distribution.outputs), np.float32)
    for action in distribution.to_environment(distribution.sample(outputs, np.random.default_rng(0))):
        assert space.contains(action), action


def test_bounds_that_float32_has_not_are_kept_to() -> None:
    space = spaces.Box(0.0, 0.1, (1,), np.float64)
    action = Gaussian(space).to_environment(np.array([[7.0]], np.float32))
    assert action.dtype == np.float64
    assert action[0, 0] == 0.1


@pytest.mark.parametrize("space", [spaces.Box(0, 9, (2,), np.int64), spaces.Text(5), spaces.Tuple([DISCRETE])], ids=str)
def test_spaces_without_a_distribution_are_refused(space: spaces.Space[Any]) -> None:
    assert "it takes Discrete, MultiDiscrete, MultiBinary and real Box actions" in (refusal(space) or "")
    with pytest.raises(ValueError, match="it takes Discrete"):
        distribution_for(space)
