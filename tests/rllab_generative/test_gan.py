"""GAN: its losses and steps by hand, the contract, and what it draws."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rllab_generative.gan import GAN, GANConfig, discriminator_loss, generator_loss
from torch import nn

from rllab import experiment, planning
from rllab.algorithm import Metrics
from rllab.errors import RunFailed, UsageError
from rllab.testing import check_algorithm, check_resume_in_new_process, first_difference

SMALL: dict[str, Any] = {"latent": 5, "batch_size": 100}
SIZES: dict[str, dict[str, str]] = {"mlp": {"hidden": "8"}, "cnn": {"channels": "3,4"}}


def built(target: str = "digits", **options: Any) -> GAN:
    size = SIZES[options.get("network", "mlp")]
    planned = planning.plan("gan", target, {"preset": "none", "device": "cpu", **size, **options})
    algorithm, _ = experiment.build(planned)
    assert isinstance(algorithm, GAN)
    algorithm.setup()
    return algorithm


def finish(model: GAN) -> None:
    while model.count < model.budget:
        model.step()


# --- the contract -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    "options",
    [
        {"network": "mlp"},
        {"network": "cnn", "schedule": "cosine", "max_grad_norm": 0.1, "ema": 0.9},
        {"network": "mlp", "conditional": True, "smoothing": 0.1, "optimizer": "rmsprop"},
        {"network": "cnn", "conditional": True, "dropout": 0.0, "ema": 0.5, "validation_share": 0.3},
    ],
    ids=str,
)
def test_it_keeps_the_contract(options: dict[str, Any]) -> None:
    check_algorithm("gan", "digits", steps=3, epochs=2, **SMALL, **SIZES[options.get("network", "mlp")], **options)


@pytest.mark.slow
@pytest.mark.parametrize("network", ["mlp", "cnn"])
def test_a_run_stopped_in_the_middle_of_an_epoch_goes_on_in_a_new_process(network: str, tmp_path: Path) -> None:
    options = ["--batch-size=100", "--epochs=4", "--ema=0.9", "--preset=none", "--device=cpu", "--pictures-every=0"]
    options += [f"--network={network}", {"mlp": "--hidden=8", "cnn": "--channels=3,4"}[network]]
    check_resume_in_new_process(
        "gan", "digits", budget=4 * 1437, stop_after=2 * 1437 + 200, options=options, folder=tmp_path
    )


# --- losses -------------------------------------------------------------------------------------------------


def test_losses_where_the_discriminator_guesses_are_those_of_the_paper() -> None:
    zeros = torch.zeros(4)
    assert float(discriminator_loss(zeros, zeros)) == pytest.approx(2 * math.log(2))
    assert float(discriminator_loss(zeros, zeros, 0.3)) == pytest.approx(2 * math.log(2))
    assert float(generator_loss(zeros)) == pytest.approx(math.log(2))


def test_losses_are_cross_entropies_of_probabilities() -> None:
    real, fake = torch.tensor([0.3, -2.0, 5.0]), torch.tensor([-1.0, 0.5])
    p, q = torch.sigmoid(real), torch.sigmoid(fake)
    by_hand = -(0.9 * p.log() + 0.1 * (1 - p).log()).mean() - (1 - q).log().mean()
    torch.testing.assert_close(discriminator_loss(real, fake, 0.1), by_hand)
    torch.testing.assert_close(generator_loss(fake), -q.log().mean())


def test_only_real_labels_are_smoothed() -> None:
    real, fake = torch.randn(5, requires_grad=True), torch.randn(5, requires_grad=True)
    plain = torch.autograd.grad(discriminator_loss(real, fake), (real, fake))
    smooth = torch.autograd.grad(discriminator_loss(real, fake, 0.2), (real, fake))
    assert torch.equal(plain[1], smooth[1])
    torch.testing.assert_close(smooth[0] - plain[0], torch.full((5,), 0.2 / 5))
    best = torch.full((1,), math.log(0.8 / 0.2), requires_grad=True)  # where D says .8 of a real image
    (slope,) = torch.autograd.grad(discriminator_loss(best, fake.detach(), 0.2), best)
    assert float(slope) == pytest.approx(0, abs=1e-6)


def test_losses_of_extreme_logits_are_finite() -> None:
    far = torch.tensor([1e4, -1e4])
    assert bool(torch.isfinite(discriminator_loss(far, far, 0.1)))
    assert bool(torch.isfinite(generator_loss(far)))


# --- the two steps ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["mlp", "cnn"])
@pytest.mark.parametrize("conditional", [False, True])
def test_a_step_is_that_of_a_loop_written_in_plain_torch(network: str, conditional: bool) -> None:
    options = {**SMALL, "network": network, "conditional": conditional, "dropout": 0.0, "optimizer": "sgd", "lr": 0.1}
    model, twin = built(smoothing=0.1, **options), built(smoothing=0.1, **options)
    players = twin.generator, twin.discriminator
    of_generator, of_discriminator = (torch.optim.SGD(player.parameters(), lr=0.1) for player in players)
    bce = nn.functional.binary_cross_entropy_with_logits
    for _ in range(3):
        images, labels = twin.batch()
        metrics = model.step()
        hot = nn.functional.one_hot(labels, 10).float()

        def said(x: torch.Tensor, hot: torch.Tensor = hot) -> torch.Tensor:
            logits: torch.Tensor = twin.discriminator(x)
            return (logits * hot).sum(1) if conditional else logits[:, 0]

        noise = torch.randn(len(images), 5, generator=twin.streams.torch("noise"))
        noise = torch.cat([noise, hot], 1) if conditional else noise
        with torch.no_grad():  # batch normalisation takes a mean of each forward pass: only this one counts
            drawn = twin.generator(noise)
        # images and drawings apart, and the drawings without any path to the generator
        real, fake = said(images * 2 - 1), said(drawn)
        loss = bce(real, torch.full_like(real, 0.9)) + bce(fake, torch.zeros_like(fake))
        of_discriminator.zero_grad()
        loss.backward()
        of_discriminator.step()
        torch.testing.assert_close(metrics["train/loss_discriminator"], loss.detach())

        momenta = {name: buffer.clone() for name, buffer in twin.generator.named_buffers()}
        fake = said(twin.generator(noise))
        loss = bce(fake, torch.ones_like(fake))
        of_generator.zero_grad()
        loss.backward()
        of_generator.step()
        for name, buffer in twin.generator.named_buffers():
            buffer.copy_(momenta[name])
        torch.testing.assert_close(metrics["train/loss_generator"], loss.detach())
        twin.count += len(images)
        torch.testing.assert_close(model.generator.state_dict(), twin.generator.state_dict(), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(
            model.discriminator.state_dict(), twin.discriminator.state_dict(), rtol=1e-4, atol=1e-6
        )


@pytest.mark.parametrize("network", ["mlp", "cnn"])
def test_neither_player_is_moved_by_the_loss_of_the_other(network: str) -> None:
    model = built(**SMALL, network=network)
    moved: list[tuple[bool, bool]] = []

    def watched(steps: Any) -> Any:
        def step(loss: torch.Tensor, **options: Any) -> torch.Tensor:
            before = [[p.detach().clone() for p in x.parameters()] for x in (model.generator, model.discriminator)]
            norm: torch.Tensor = steps(loss, **options)
            after = [list(x.parameters()) for x in (model.generator, model.discriminator)]
            changed = [
                any(not torch.equal(*pair) for pair in zip(*x, strict=True)) for x in zip(before, after, strict=True)
            ]
            moved.append((changed[0], changed[1]))
            return norm

        return step

    model.discriminator_steps = watched(model.discriminator_steps)
    model.generator_steps = watched(model.generator_steps)
    model.step()
    assert moved == [(False, True), (True, False)]  # (generator, discriminator)


def test_both_optimisers_follow_one_count_and_one_schedule() -> None:
    model = built(**SMALL, schedule="linear", epochs=1, lr=0.5, optimizer="sgd")
    rates = []
    while model.count < model.budget:
        before = model.count
        metrics = model.step()
        rates.append(float(metrics["train/lr"]))
        assert rates[-1] == pytest.approx(0.5 * (1 - before / 1437))
        for steps in (model.generator_steps, model.discriminator_steps):
            assert steps._optimizer.param_groups[0]["lr"] == rates[-1]
    assert len(rates) == 15


@pytest.mark.parametrize("network", ["mlp", "cnn"])
def test_a_last_minibatch_of_one_image_is_no_trouble(network: str) -> None:
    model = built(**{**SMALL, "batch_size": 359}, network=network, epochs=1)  # 1437 = 4 * 359 + 1
    metrics: Metrics = {}
    for size in [359] * 4 + [1]:
        before = model.count
        metrics = model.step()
        assert model.count - before == size
    assert all(math.isfinite(value) for value in metrics.values())


def test_a_loss_that_is_not_finite_ends_the_run() -> None:
    model = built(**SMALL, lr=1e20, optimizer="sgd", epochs=5)
    with pytest.raises(RunFailed, match="the loss became"):
        finish(model)


def test_accuracies_are_the_shares_that_are_told_apart() -> None:
    model = built(**SMALL, network="mlp", dropout=0.0)
    with torch.no_grad():
        for parameter in model.discriminator.parameters():
            parameter.zero_()
        model.discriminator[-1].bias.fill_(1.0)  # type: ignore[union-attr,operator]
    metrics = model.step()
    assert (float(metrics["train/accuracy_real"]), float(metrics["train/accuracy_fake"])) == (1.0, 0.0)


def test_the_course_has_the_mean_of_each_twentieth_of_training() -> None:
    model = built(**{**SMALL, "batch_size": 10}, epochs=1, network="mlp")
    losses: list[tuple[float, int]] = []
    while not model.course:
        before = model.count
        loss = float(model.step()["train/loss_generator"])
        losses.append((loss, model.count - before))
    assert model.count == 80  # a twentieth is 71.85
    assert model.stretches[0].loss_generator == pytest.approx(sum(loss * n for loss, n in losses) / 80, rel=1e-5)
    finish(model)
    assert len(model.course) == 20


def test_after_the_budget_was_raised_longer_stretches_follow() -> None:
    options = {**SMALL, "batch_size": 10, "network": "mlp"}
    short, raised = built(**options, epochs=1), built(**options, epochs=2)
    finish(short)
    raised.load_state_dict(short.state_dict())
    losses: list[tuple[float, int]] = []
    while len(raised.course) < 21:
        before = raised.count
        loss = float(raised.step()["train/loss_generator"])
        losses.append((loss, raised.count - before))
    assert raised.course[:20] == short.course
    assert raised.count == 1437 + 150  # 11 twentieths of two epochs are 1580.7
    assert raised.stretches[-1].loss_generator == pytest.approx(sum(loss * n for loss, n in losses) / 150, rel=1e-5)
    finish(raised)
    assert len(raised.course) == 20 + 10


def test_a_step_that_is_longer_than_a_twentieth_is_a_stretch() -> None:
    model = built(**{**SMALL, "batch_size": 359}, epochs=1, network="mlp")  # the last step is a single image
    finish(model)
    assert len(model.course) == 5


# --- drawing ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["mlp", "cnn"])
@pytest.mark.parametrize("conditional", [False, True])
def test_samples_are_images_and_follow_from_the_generator_alone(network: str, conditional: bool) -> None:
    model = built(**SMALL, network=network, conditional=conditional)
    model.step()
    one, other = (model.sample(7, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert one.shape == (7, 1, 8, 8)
    assert torch.equal(one, other)
    assert float(one.min()) >= 0
    assert float(one.max()) <= 1


def test_a_class_is_asked_for_by_its_label() -> None:
    model = built(**SMALL, conditional=True, network="mlp")
    model.step()
    zero, four = (
        model.sample(5, labels=torch.full((5,), label), generator=torch.Generator().manual_seed(3)) for label in (0, 4)
    )
    assert not torch.allclose(zero, four)
    with pytest.raises(UsageError, match="not trained by class"):
        built(**SMALL).sample(5, labels=torch.zeros(5, dtype=torch.long), generator=torch.Generator())


def test_samples_come_from_the_averaged_weights_if_there_are_any() -> None:
    model = built(**SMALL, ema=0.9, network="mlp", lr=0.1)
    for _ in range(3):
        model.step()
    assert model.average is not None
    drawn = model.sample(4, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(drawn, (model.average.copy(noise) + 1) / 2)
        assert not torch.allclose(drawn, (model.generator(noise) + 1) / 2)


def test_what_is_measured_is_on_the_same_noise_whatever_the_count_and_another_for_another_seed() -> None:
    model = built(**SMALL, conditional=True)
    first, labels = model.fixed(50, "evaluation")
    streams = model.streams.state_dict()
    second, again = model.fixed(50, "evaluation")
    assert torch.equal(first, second)
    assert labels is not None
    assert again is not None
    assert torch.equal(labels, again)
    assert first_difference(streams, model.streams.state_dict()) is None
    assert not torch.equal(first, model.fixed(50, "wall")[0])
    other = built(**SMALL, conditional=True, seed=1)
    assert not torch.equal(first, other.fixed(50, "evaluation")[0])


# --- what does not fit --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "options", "said"),
    [
        ("digits", {"latent": 0}, "latent"),
        ("digits", {"smoothing": 0.5}, "smoothing"),
        ("digits", {"smoothing": -0.1}, "smoothing"),
        ("digits", {"dropout": 1.0}, "dropout"),
        ("digits", {"ema": 1.0}, "ema"),
        ("digits", {"network": "rnn"}, "network"),
        ("digits", {"channels": "none"}, "at least one convolution"),
        ("digits", {"channels": "8"}, "--channels 8 is for --network cnn, and auto takes the mlp.*write --network cnn"),
        ("digits", {"network": "cnn", "hidden": "8"}, "--hidden 8 is for --network mlp, and --network cnn has no use"),
        ("digits", {"scale": "standard"}, "minmax"),
        ("digits", {"test_share": 0.1}, "too few.*320.*; write --test-share 0.2, or take a larger dataset"),
        (
            "digits",
            {"validation_share": 0.1},
            "validation items of digits are too few.*; write --validation-share 0.25, or",
        ),
        ("crescents", {}, "images"),
        ("diabetes", {"conditional": True}, "images"),
        ("stdlib", {}, "text"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(target: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        planning.plan("gan", target, {"preset": "none", **options})
    assert refused.value.exit_code == 2


def test_a_dataset_that_no_share_makes_large_enough_asks_for_a_larger_one() -> None:
    task = planning.plan("gan", "digits", {"preset": "none"}).task
    parts = {"train": task.data.train[:30], "test": task.data.parts["test"][:310]}  # type: ignore[attr-defined]
    task.data = replace(task.data, **parts)  # type: ignore[attr-defined]
    reason = GAN.refusal(GANConfig(), task)  # type: ignore[arg-type]
    assert reason is not None
    assert reason.endswith("; take a larger dataset")  # 320 of 340 would be .95


@pytest.mark.parametrize("preset", ["digits", "mnist", "mnist-mlp", "mnist-cnn"])
@pytest.mark.parametrize("network", ["auto", "mlp", "cnn"])
def test_another_network_may_be_typed_over_a_preset(preset: str, network: str) -> None:
    assert planning.plan("gan", "digits", {"preset": preset, "network": network}).config is not None


def test_it_knows_which_datasets_it_takes() -> None:
    names = GAN.alternatives(GANConfig())
    assert {"digits", "mnist"} <= set(names)
    assert not {"crescents", "diabetes"} & set(names)
