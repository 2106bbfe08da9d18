import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rllab.errors import RunFailed, UsageError
from rllab.parts.losses import squared
from rllab.parts.networks import mlp
from rllab.parts.optim import GradientSteps, OptimizerConfig
from rllab.state import capture, load_weights, restore, weights
from rllab.testing import first_difference

X, Y = torch.linspace(-1, 1, 24).reshape(8, 3), torch.linspace(0, 2, 8)[:, None]

THEIRS: dict[str, Any] = {
    "adam": lambda p, decay: torch.optim.Adam(p, lr=0.01, weight_decay=decay),
    "adamw": lambda p, decay: torch.optim.AdamW(p, lr=0.01, weight_decay=decay),
    "rmsprop": lambda p, decay: torch.optim.RMSprop(p, lr=0.01, weight_decay=decay),
    "sgd": lambda p, decay: torch.optim.SGD(p, lr=0.01, weight_decay=decay),
    "momentum": lambda p, decay: torch.optim.SGD(p, lr=0.01, momentum=0.9, weight_decay=decay),
    "adagrad": lambda p, decay: torch.optim.Adagrad(p, lr=0.01, weight_decay=decay, eps=1e-8),
}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))


def loss_of(model: nn.Module) -> Tensor:
    return ((model(X) - Y) ** 2).mean() * 20


@pytest.mark.parametrize("name", THEIRS)
@pytest.mark.parametrize("clip", [0.0, 0.5, 1e9])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_steps_on_the_flat_tensor_equal_torchs_on_the_separate_ones(name: Any, clip: float, decay: float) -> None:
    ours, theirs = network(), network()
    step = GradientSteps(ours, optimizer=name, lr=0.01, max_grad_norm=clip, weight_decay=decay)
    optimizer = THEIRS[name](theirs.parameters(), decay)
    for _ in range(20):
        norm = step(loss_of(ours))
        optimizer.zero_grad()
        loss_of(theirs).backward()
        expected = nn.utils.clip_grad_norm_(theirs.parameters(), clip or math.inf)
        optimizer.step()
        torch.testing.assert_close(torch.as_tensor(norm, dtype=torch.float32), expected, rtol=1e-4, atol=1e-6)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adam_forgets_as_fast_as_its_betas_say(name: Any) -> None:
    ours, theirs = network(), network()
    step = GradientSteps(ours, optimizer=name, lr=0.01, betas=(0.7, 0.9), weight_decay=0.1)
    kind = torch.optim.Adam if name == "adam" else torch.optim.AdamW
    optimizer = kind(theirs.parameters(), lr=0.01, betas=(0.7, 0.9), weight_decay=0.1)
    for _ in range(20):
        step(loss_of(ours))
        optimizer.zero_grad()
        loss_of(theirs).backward()
        optimizer.step()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", sorted(set(THEIRS) - {"adam", "adamw"}))
@pytest.mark.parametrize("source", ["option", "command line"])
def test_betas_typed_beside_an_optimiser_that_has_none_are_refused(name: str, source: str) -> None:
    values = {"optimizer": name, "betas": "0.5,0.9"}
    with pytest.raises(UsageError, match=rf"--betas is Adam's, and --optimizer {name} has none\n.*--optimizer adam"):
        OptimizerConfig.parse(values, dict.fromkeys(values, source))
    preset = {"optimizer": source, "betas": "preset mnist"}
    assert OptimizerConfig.parse(values, preset).optimizer == name, "those of a preset may stay"


def test_betas_of_adam_and_the_ones_by_default_are_taken() -> None:
    for values in ({"optimizer": "adamw", "betas": "0.5,0.9"}, {"optimizer": "sgd", "betas": "0.9,0.999"}):
        assert OptimizerConfig.parse(values, dict.fromkeys(values, "option")).optimizer == values["optimizer"]


def test_a_step_of_plain_gradient_descent_by_hand() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 3.0)
    norm = GradientSteps(model, optimizer="sgd", lr=0.1)(model.weight.square().sum())  # gradient 2 * 3
    assert norm == pytest.approx(6.0)
    assert model.weight.item() == pytest.approx(3.0 - 0.1 * 6.0)


def test_the_gradient_is_clipped_to_the_norm_over_all_parameters() -> None:
    model = nn.Linear(2, 1, bias=False)
    nn.init.zeros_(model.weight)
    step = GradientSteps(model, optimizer="sgd", lr=1.0, max_grad_norm=1.0)
    norm = step((model.weight * torch.tensor([3.0, 4.0])).sum())  # gradient (3, 4) of norm 5
    assert norm == 5.0
    assert model.weight.tolist()[0] == pytest.approx([-0.6, -0.8])


def test_the_step_size_can_be_given_with_each_step() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    step = GradientSteps(model, optimizer="sgd", lr=1.0)
    for lr in (0.5, 0.25):
        step(model.weight.sum(), lr=lr)
    step(model.weight.sum())
    assert model.weight.item() == -1.0  # the last one holds until another is given


def test_parameters_that_are_frozen_or_of_other_modules_stay() -> None:
    trained, frozen, other = nn.Linear(1, 1), nn.Linear(1, 1).requires_grad_(False), nn.Linear(1, 1)
    before = copy.deepcopy([frozen, other])
    GradientSteps([trained, frozen], lr=1.0)(sum(m(torch.ones(1, 1)).sum() for m in (trained, frozen, other)))
    for one, was in zip([frozen, other], before, strict=True):
        assert torch.equal(one.weight, was.weight)


def test_gradients_of_an_earlier_loss_do_not_leak_into_a_step() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    step = GradientSteps(model, optimizer="sgd", lr=1.0)
    (100 * model.weight.sum()).backward()
    step(model.weight.sum())
    assert model.weight.item() == -1.0


def test_nothing_to_train_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"there are no parameters to train"):
        GradientSteps(nn.Linear(1, 1).requires_grad_(False), lr=1.0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_raises_and_changes_no_weight(value: float) -> None:
    model = network()
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(RunFailed, match=rf"the loss became {value}\nTry a smaller --lr"):
        GradientSteps(model, lr=0.1)(loss_of(model) * value)
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), before, strict=True))


# --- down a gradient by the outputs -------------------------------------------------------------------------


def in_between(kind: str) -> nn.Module:
    """Return a network: an MLP whose gradient is written out, or one that is left to autograd."""
    torch.manual_seed(0)
    if kind == "sequential":
        return nn.Sequential(nn.Linear(3, 5), nn.Softplus(), nn.Linear(5, 1))
    if kind == "partly frozen":
        model = mlp(3, (5, 4), 1)
        model[0].requires_grad_(False)
        return model
    return mlp(3, (5, 4), 1, kind)  # type: ignore[arg-type]


def follow(step: GradientSteps, lr: float | None = None, factor: float = 1.0) -> float | Tensor:
    """Take a step down the mean of the squared error times `factor`, by its slopes."""
    loss, slopes = squared((step.forward(X) - Y).squeeze(1))
    return step.descend(factor * loss, factor * slopes[:, None], lr=lr)


KINDS = ["relu", "tanh", "sigmoid", "linear", "softplus", "elu", "sequential", "partly frozen"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["adam", "momentum"])
@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_both_ways_down_lead_to_the_same_weights(kind: str, name: Any, clip: float) -> None:
    models = in_between(kind), in_between(kind)
    one, other = (GradientSteps(model, optimizer=name, lr=0.01, max_grad_norm=clip) for model in models)
    for i in range(20):
        lr = 0.01 / (i + 1)
        expected = one((models[0](X) - Y).square().mean() * 20, lr=lr)
        assert float(follow(other, lr, 20.0)) == pytest.approx(float(expected), rel=1e-4, abs=1e-6)
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["relu", "sequential"])
def test_the_outputs_are_the_networks_and_carry_no_graph(kind: str) -> None:
    model = in_between(kind)
    step = GradientSteps(model, lr=0.1)
    outputs = step.forward(X)
    torch.testing.assert_close(outputs, model(X).detach())
    assert not outputs.requires_grad


@pytest.mark.parametrize("kind", ["relu", "sequential"])
def test_it_descends_where_gradients_are_switched_off(kind: str) -> None:
    model = in_between(kind)
    step = GradientSteps(model, lr=0.01)
    before = loss_of(model).item()
    with torch.no_grad():
        for _ in range(20):
            follow(step)
    assert loss_of(model).item() < before


def test_both_ways_can_be_taken_in_turn() -> None:
    model = in_between("relu")
    step = GradientSteps(model, optimizer="sgd", lr=0.1)
    step.forward(X)  # and changes its mind
    step(loss_of(model))
    before = [p.clone() for p in model.parameters()]
    gradients = torch.autograd.grad((model(X) - Y).square().mean(), list(model.parameters()))
    follow(step)
    for parameter, was, gradient in zip(model.parameters(), before, gradients, strict=True):
        torch.testing.assert_close(parameter.detach(), was - 0.1 * gradient)


def test_with_several_modules_the_loss_itself_is_asked_for() -> None:
    with pytest.raises(ValueError, match=r"several modules are trained: call the optimiser with the loss"):
        GradientSteps([network(), network()], lr=0.1).forward(X)


def test_one_module_in_a_list_is_one_module() -> None:
    model = in_between("relu")
    torch.testing.assert_close(GradientSteps([model], lr=0.1).forward(X), model(X).detach())


@pytest.mark.parametrize("kind", ["relu", "sequential"])
def test_a_step_without_outputs_to_follow_is_caught(kind: str) -> None:
    step = GradientSteps(in_between(kind), lr=0.1)
    follow(step)
    with pytest.raises(AssertionError, match="`forward` comes first"):
        step.descend(torch.tensor(1.0), torch.ones(8, 1))


@pytest.mark.parametrize("kind", ["relu", "sequential"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_no_step_is_taken_down_a_loss_that_is_not_finite(kind: str, value: float) -> None:
    model = in_between(kind)
    step = GradientSteps(model, lr=0.1)
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(RunFailed, match=rf"the loss became {value}\nTry a smaller --lr"):
        follow(step, factor=value)
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), before, strict=True))
    follow(step)  # and nothing is left of it
    assert all(bool(torch.isfinite(p).all()) for p in model.parameters())


# --- state --------------------------------------------------------------------------------------------------


class Learner:
    def __init__(self, optimizer: Any) -> None:
        self.model = network()
        self.step = GradientSteps(self.model, optimizer=optimizer, lr=0.01, max_grad_norm=1.0)

    def train(self, steps: int) -> None:
        for i in range(steps):
            self.step(loss_of(self.model), lr=0.01 / (i + 1))


class Follower(Learner):
    """Learns down the gradient by the outputs, in an MLP."""

    def __init__(self, optimizer: Any) -> None:
        self.model = mlp(3, (5,), 1)
        self.step = GradientSteps(self.model, optimizer=optimizer, lr=0.01, max_grad_norm=1.0)

    def train(self, steps: int) -> None:
        for i in range(steps):
            follow(self.step, lr=0.01 / (i + 1))


@pytest.mark.parametrize("name", THEIRS)
@pytest.mark.parametrize("kind", [Learner, Follower])
def test_a_restored_optimiser_goes_on_to_the_last_bit_and_shares_nothing(kind: type[Learner], name: str) -> None:
    one, other = kind(name), kind(name)
    one.train(5)
    load_weights(other, weights(one))
    restore(other.step, capture(one.step))
    kept = copy.deepcopy(capture(one.step)), copy.deepcopy(weights(one))
    other.train(5)
    assert first_difference(kept, (capture(one.step), weights(one))) is None
    one.train(5)
    assert first_difference((capture(one.step), weights(one)), (capture(other.step), weights(other))) is None


def test_parameters_remain_views_of_the_flat_tensor_after_weights_are_loaded() -> None:
    one, other = Learner("adam"), Learner("adam")
    one.train(3)
    load_weights(other, weights(one))
    flat = other.step._flat
    assert all(
        parameter.untyped_storage().data_ptr() == flat.untyped_storage().data_ptr()
        for parameter in other.model.parameters()
    )
    assert torch.equal(flat, torch.cat([p.flatten() for p in one.model.parameters()]))
    before = loss_of(other.model)
    other.train(3)
    assert loss_of(other.model) < before
