"""Signs that the game between generator and discriminator goes wrong, said in words.

In: what was measured. Out: sentences. A GAN has no loss that falls as it gets better; what one can see is whether one
player wins, and what samples lack (Goodfellow, "NIPS 2016 tutorial: generative adversarial networks", 2016, 5.1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rllab_generative.quality import COVERED

TELLS_APART = 0.98
"""Accuracy on real and on drawn images from which on the discriminator tells all apart."""
GUESSES = 0.55
"""Accuracy on both up to which, and down to 1 - GUESSES, it guesses."""
ALIKE = 0.7
"""Samples are alike if they differ less than so many times as much as real images do."""
_BACK = 4
_RISEN = 1.1
_NAMED = 10


class Sign(NamedTuple):
    """What can be seen of the state of the game.

    Attributes:
        name: short and fixed.
        text: sentences, with the numbers.
        bad: whether something should be done about it.
    """

    name: str
    text: str
    bad: bool


class Stretch(NamedTuple):
    """Means over a stretch of training."""

    loss_discriminator: float
    loss_generator: float
    accuracy_real: float
    accuracy_fake: float


def signs(
    course: Sequence[Stretch],
    diversity: float,
    shares: Mapping[str, float],
    real_shares: Mapping[str, float],
) -> list[Sign]:
    """Return the signs that are there.

    Args:
        course: the stretches of training so far, in order; may be empty.
        diversity: of `diversity`.
        shares: the share of each class among drawn images, by name.
        real_shares: the same among real ones.
    """
    found = _balance(course)
    if diversity < ALIKE:
        text = (
            f"Samples are alike: two of them differ {diversity:.2f} times as much as two real images. This is mode"
            " collapse, unless training has only begun. A smaller --lr, or more --dropout, may help."
        )
        found.append(Sign("alike", text, bad=True))
    missing = [name for name, share in real_shares.items() if share > 0 and shares.get(name, 0.0) < COVERED * share]
    if missing:
        named = ", ".join(missing[:_NAMED]) + (", ..." if len(missing) > _NAMED else "")
        text = (
            f"{len(missing)} of {len(real_shares)} classes are missing among the samples, or nearly: {named}."
            " --conditional asks for each."
        )
        found.append(Sign("missing", text, bad=True))
    return found


def _balance(course: Sequence[Stretch]) -> list[Sign]:
    """Return what the two players' accuracies say."""
    if not course:
        return []
    last, before = course[-1], course[max(len(course) - 1 - _BACK, 0)]
    low, high = sorted((last.accuracy_real, last.accuracy_fake))
    sides = f"right about {last.accuracy_real:.0%} of real and {last.accuracy_fake:.0%} of drawn images"
    if low > TELLS_APART and last.loss_generator > _RISEN * before.loss_generator:
        text = (
            f"The discriminator tells all apart: it is {sides}, and the loss of the generator rose from"
            f" {before.loss_generator:.2f} to {last.loss_generator:.2f}. There is little left to learn from it."
            " A smaller --lr, --smoothing 0.1 or more --dropout keep it from winning."
        )
        return [Sign("tells apart", text, bad=True)]
    if low >= 1 - GUESSES and high <= GUESSES:
        text = f"The discriminator guesses: it is {sides}. That is balance, and fine if the samples look real."
        return [Sign("guesses", text, bad=False)]
    return []


def report(found: Sequence[Sign], course: Sequence[Stretch], diversity: float) -> str:
    """Return the signs as a text, or that there are no bad ones."""
    lines = [sign.text for sign in found]
    if not any(sign.bad for sign in found):
        lines.insert(0, "No sign of collapse.")
    if course:
        last = course[-1]
        lines.append(
            f"Lately: losses {last.loss_discriminator:.3f} (discriminator) and {last.loss_generator:.3f} (generator);"
            f" right about {last.accuracy_real:.1%} of real and {last.accuracy_fake:.1%} of drawn images."
        )
    lines.append(f"Two samples differ {diversity:.2f} times as much as two real images, pixel by pixel.")
    return "\n".join(lines) + "\n"


# --- diversity ------------------------------------------------------------------------------------


def diversity(drawn: Tensor, real: Tensor, classes: tuple[Tensor, Tensor] | None = None) -> float:
    """Return how much drawn images differ from each other, in units of how much real ones do.

    That is the mean Euclidean distance of two of them: 0 if all are the same, near 1 as it should be.

    Args:
        drawn: (n, ...), at least two.
        real: (m, ...), at least two.
        classes: of the drawn (n,) and of the real ones (m,), to compare within classes only, as what was asked for
            is no merit of the model.
    """
    ours, theirs = classes if classes is not None else (None, None)
    return _spread(drawn, ours) / max(_spread(real, theirs), 1e-12)


def _spread(items: Tensor, classes: Tensor | None) -> float:
    """Return the mean distance of two items, of one class if classes (n,) are given; 0 if there are no two."""
    flat = items.flatten(1)
    pairs = torch.ones(len(flat), len(flat), dtype=torch.bool, device=flat.device).fill_diagonal_(False)
    if classes is not None:
        pairs &= classes[:, None] == classes[None]
    distances = torch.cdist(flat, flat)[pairs]
    return float(distances.double().mean()) if len(distances) else 0.0
