"""Pictures of latent spaces: the same places each time, and nothing is changed by them."""

import copy
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from rllab_generative.latents import grid, plane
from torch.distributions import Normal

from rllab import experiment, planning
from rllab.testing import first_difference

SMALL: dict[str, Any] = {"hidden": "8", "latent": 3, "iwae": 3, "epochs": 2}


def built(target: str = "digits", **options: Any) -> Any:
    planned = planning.plan("vae", target, {"preset": "none", "device": "cpu", **SMALL, **options})
    algorithm, _ = experiment.build(planned)
    algorithm.setup()
    return algorithm


@pytest.mark.parametrize(
    ("options", "more"),
    [
        ({"latent": 2}, {"manifold"}),
        ({"latent": 1, "conditional": True, "binarise": "static"}, set()),
        ({"latent": 12, "network": "cnn", "channels": "2", "likelihood": "gaussian"}, set()),
    ],
    ids=str,
)
def test_pictures_are_drawn_in_the_same_size_each_time(options: dict[str, Any], more: set[str]) -> None:
    model = built(**options)
    first: Mapping[str, Any] = model.pictures(final=False)
    while model.count < model.epoch:
        model.step()
    second = model.pictures()
    assert set(first) == {"samples", "reconstructions", "latents", "traversals", "interpolations"} | more
    assert {name: picture.size for name, picture in first.items()} == {
        name: picture.size for name, picture in second.items()
    }


def test_pictures_change_nothing() -> None:
    model = built(latent=2, binarise="dynamic")
    model.step()
    before = copy.deepcopy(model.state_dict())
    model.pictures()
    assert first_difference(before, model.state_dict()) is None


def test_the_manifold_is_at_equal_steps_of_probability_from_the_top_left() -> None:
    places = grid(4)
    assert places.shape == (16, 2)
    shares = Normal(0.0, 1.0).cdf(places)
    assert torch.allclose(shares[:4, 0], torch.tensor([0.125, 0.375, 0.625, 0.875]))
    assert torch.allclose(shares[:4, 1], torch.full((4,), 0.875)), "up is at the top"
    assert torch.allclose(shares[-1], torch.tensor([0.875, 0.125]))


def test_more_than_two_latents_are_shown_by_their_principal_components() -> None:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(500, 4, generator=generator) * torch.tensor([0.1, 5.0, 0.1, 1.0]) + 7
    points, names, share = plane(latents)
    centred = latents - latents.mean(0)
    assert torch.allclose(points[:, 0].abs(), centred[:, 1].abs(), atol=0.2)
    assert float(points[:, 0] @ centred[:, 1]) > 0, "the largest weight is positive"
    assert names[0] == "first principal component"
    assert 0.99 < share < 1
