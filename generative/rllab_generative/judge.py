"""The judge: a small frozen classifier in whose features drawn images are compared with real ones.

It is trained here, on the training part of the dataset that the models learned from; nothing is fetched. Two
convolutions and a dense layer of 64 units, Adam with a step size that rises and falls (Smith & Topin, 2019):

    image -> conv 5x5, 24 -> pool -> conv 3x3, 32 -> pool -> dense, 64 = features -> dense = logits of the classes

Its weights follow from the images, their labels and the recipe, and are kept in a cache under a name made of these
three. With another number of threads, or on another machine, they may come out a little otherwise: results are to be
compared under one judge only, whose hash stands beside each.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import platformdirs
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from rllab import stopping
from rllab.data import DatasetTask, Part
from rllab.errors import UsageError, one_line
from rllab.generative import Pixels
from rllab.minibatches import epoch_order
from rllab.parts.losses import cross_entropy
from rllab.parts.networks import Convolution, convolutions
from rllab.parts.optim import GradientSteps
from rllab.parts.schedules import scheduled
from rllab.seeding import preserved_globals
from rllab.supervised import refuses_shape
from rllab_generative.imagenets import channels_last
from rllab_generative.quality import check_enough, class_shares, nearest

FEATURES = 64
"""Dimensions of the features."""

_RECIPE = "1"
"""To be raised with any change of the network or its training: judges of another recipe are made anew."""
_SEED = 20
_LR = 1e-2
_BETAS = 0.7, 0.9
_EXAMPLES = 20_000
"""Examples to learn from at least, in whole epochs."""
_NEAREST = 2000
"""Images of the test part, at most, that say how near to a training image a new one is."""
_CHUNK = 500

_log = logging.getLogger("rllab")


class Judge:
    """A trained classifier of the images of a dataset, which stays as it is.

    Args:
        network: from images (n, *shape) in [0, 1] to logits (n, classes); the last layer reads the features.
        task: the dataset it was trained on.
        device: where it is, and computes.

    Attributes:
        hash: the first 12 digits of the SHA-256 of its weights.
        pixels: brings the dataset's inputs to [0, 1].
    """

    def __init__(self, network: nn.Sequential, task: DatasetTask, device: torch.device) -> None:
        self.network = network.to(device).eval().requires_grad_(False)
        self.task = task
        self.device = device
        self.hash = weights_hash(network)[:12]
        self.pixels = Pixels(task.data.train.inputs)

    @classmethod
    def of(cls, task: DatasetTask, device: torch.device | str = "cpu") -> Judge:
        """Return the judge of a dataset, from the cache or trained now; no random stream is disturbed.

        Raises:
            UsageError: if the dataset has no classes, no images, or too few of them to test on.
            StopRequested: after a signal, if it has to be trained.
        """
        check_judged(task)
        device = torch.device(device)
        path = cache_folder() / "judges" / f"{content_key(task)}.safetensors"
        with preserved_globals():
            network = build(task.shape, len(task.classes))
        if not _read(path, network):
            pixels = Pixels(task.data.train.inputs).to(device)
            network = fit(task.data.train.to(device), pixels, len(task.classes), seed=_SEED)
            _write(path, network)
        return cls(network, task, device)

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Return the features (n, 64) of images (n, *shape) in [0, 1], on the CPU."""
        found = []
        for chunk in torch.split(images, _CHUNK):
            stopping.check()
            found.append(self.network[:-1](channels_last(chunk.to(self.device).float())).cpu())
        return torch.cat(found)

    @torch.no_grad()
    def classify_features(self, features: Tensor) -> Tensor:
        """Return the classes (n,) of images with these features (n, 64)."""
        logits: Tensor = self.network[-1](features.to(self.device))
        return logits.argmax(1).cpu()

    def classify(self, images: Tensor) -> Tensor:
        """Return the classes (n,) of images (n, *shape) in [0, 1]."""
        return self.classify_features(self.features(images))

    # --- what drawn images are compared with

    @cached_property
    def test_features(self) -> Tensor:
        """The features (m, 64) of the test part, which the judge was not trained on either."""
        return self.features(self.pixels(self.task.data.parts["test"].inputs))

    @cached_property
    def accuracy(self) -> float:
        """The share of the test part that it classifies right."""
        right = self.classify_features(self.test_features) == self.task.data.parts["test"].targets
        return float(right.double().mean())

    @cached_property
    def shares(self) -> Tensor:
        """The share of each class (k,) in the training part."""
        return class_shares(self.task.data.train.targets, len(self.task.classes))

    @cached_property
    def test_nearest(self) -> Tensor:
        """How far test images are from the two nearest training images: (at most 2000, 2)."""
        inputs = self.task.data.parts["test"].inputs
        chosen = epoch_order(len(inputs), np.random.SeedSequence(_SEED))[:_NEAREST]
        return self.nearest(self.pixels(inputs[chosen]))

    def nearest(self, images: Tensor) -> Tensor:
        """Return how far images (n, *shape) in [0, 1] are from the two nearest training images, in pixels: (n, 2)."""
        training = self.task.data.train.inputs
        training = training if training.dtype is torch.uint8 else self.pixels(training)
        return nearest(images.to(self.device), training)


def check_judged(task: DatasetTask) -> None:
    """Refuse a dataset that no judge can be trained on, or whose test part is too small to compare with.

    Raises:
        UsageError: that says why.
    """
    if not task.classes:
        raise UsageError(f"the judge is a classifier, and {task.name} has no classes")
    if (reason := refuses_shape(task, 3, "images")) is not None:
        raise UsageError(f"the judge cannot be trained on {task.name}: {reason}")
    if min(task.shape[1:]) < 4:
        raise UsageError(f"the judge takes images of 4x4 pixels at least, and those of {task.name} are smaller")
    check_enough(len(task.data.parts["test"]), FEATURES, f"test items of {task.name}")


# --- the recipe -----------------------------------------------------------------------------------


def build(shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Return the network, not trained, with weights drawn from the global generator.

    Args:
        shape: of an image, (channels, height, width).
        classes: how many.
    """
    # padded, so that 8 x 8 pixels are enough
    layers = [Convolution(24, kernel=5, padding=2, pooling=2), Convolution(32, kernel=3, padding=1, pooling=2)]
    flat = 32 * (shape[1] // 4) * (shape[2] // 4)
    dense = nn.Linear(flat, FEATURES), nn.ReLU(), nn.Linear(FEATURES, classes)
    return nn.Sequential(*convolutions(shape[0], layers), nn.Flatten(), *dense)


@torch.no_grad()
def fit(part: Part, pixels: nn.Module, classes: int, *, seed: int) -> nn.Sequential:
    """Return a network trained on a part by the judge's recipe; no random stream is disturbed.

    Args:
        part: to learn from, on the device to train on.
        pixels: brings its inputs to [0, 1].
        classes: how many there are.
        seed: of the weights and of the order of the examples.

    Raises:
        StopRequested: after a signal.
    """
    with preserved_globals():
        torch.manual_seed(seed)
        network = build(tuple(part.inputs.shape[1:]), classes).to(part.inputs.device)
    optimizer = GradientSteps(network, lr=_LR, betas=_BETAS)
    number = len(part)
    epochs = -(-_EXAMPLES // number)
    size = 256 if number >= _EXAMPLES else 64  # a small part gives few steps, and needs more of them
    for epoch in range(epochs):
        order = epoch_order(number, np.random.SeedSequence(seed, spawn_key=(epoch,))).to(part.inputs.device)
        for start in range(0, number, size):
            stopping.check()
            batch = part[order[start : start + size]]
            lr = scheduled(_LR, "onecycle", (epoch * number + start) / (epochs * number))
            logits = optimizer.forward(channels_last(pixels(batch.inputs)))  # (B, classes)
            loss, gradient = cross_entropy(logits, batch.targets)
            optimizer.descend(loss, gradient, lr=lr)
    return network.eval()


# --- the cache ------------------------------------------------------------------------------------


def cache_folder() -> Path:
    """Return where things are kept that can be made anew: $RLLAB_CACHE, else the user's cache folder."""
    chosen = os.environ.get("RLLAB_CACHE")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("rllab", appauthor=False)


def content_key(task: DatasetTask, *parts: str) -> str:
    """Return a name for what follows from a dataset: from its training part and the recipe, and other parts named."""
    digest = hashlib.sha256(f"judge {_RECIPE} {len(task.classes)}".encode())
    for name in ("train", *parts):
        part = task.data.parts[name]
        for tensor in (part.inputs, part.targets):
            digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.cpu().contiguous().numpy().data)
    return digest.hexdigest()[:32]


def weights_hash(network: nn.Module) -> str:
    """Return the SHA-256 of the weights, in the order of the layers, in hexadecimal digits."""
    digest = hashlib.sha256()
    for tensor in network.state_dict().values():
        digest.update(tensor.cpu().contiguous().numpy().data)
    return digest.hexdigest()


def _read(path: Path, network: nn.Module) -> bool:
    """Fill the network from the cache; False if it is not there, or what is there is damaged."""
    if not path.is_file():
        return False
    try:
        with safe_open(path, framework="pt") as file:
            expected = (file.metadata() or {}).get("sha256")
            network.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 - no dict
    except (OSError, SafetensorError, RuntimeError):
        expected = None
    if expected != weights_hash(network):
        _log.warning("the judge in %s is damaged, and is trained anew", path)
        return False
    return True


def _write(path: Path, network: nn.Sequential) -> None:
    # the parameters are views of one flat tensor, which safetensors refuses: copied
    weights = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in network.state_dict().items()}
    keep(path, lambda temporary: save_file(weights, temporary, {"sha256": weights_hash(network)}))


def keep(path: Path, write: Callable[[Path], object]) -> None:
    """Put a file into the cache; where that is not possible, say so once, and do without.

    Another process may do the same at any time: the file is whole at each moment.

    Args:
        path: the file.
        write: writes it, under another name.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(temporary)
            temporary.chmod(0o644)  # safetensors makes its files private
            temporary.replace(path)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        _warn_once(f"the judge cannot be kept in {path.parent}, and is trained anew each time: {one_line(error)}")


@cache
def _warn_once(message: str) -> None:
    _log.warning("%s", message)
