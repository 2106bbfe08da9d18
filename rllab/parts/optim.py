"""Gradient steps: the one seam through which gradients become new weights.

Clipping, the check that a loss is finite, the learning rate and the optimiser live here, and so does speed.
The parameters are laid side by side in one flat tensor (the modules keep views of it), so that an optimiser
that works element by element handles one tensor instead of dozens, and Adam is torch's fused kernel alone.

There are two ways down. Any loss that autograd can differentiate:

    optimizer(loss)

And where a method knows the gradient of its loss by the outputs of the one network it trains, which saves
autograd's bookkeeping (for small networks most of the time of an update):

    outputs = optimizer.forward(inputs)
    optimizer.descend(loss, gradient)

The second way leads perceptrons on the CPU through `rllab.parts.backprop`, in NumPy, which for small ones takes a
fraction of the time; with arrays, nothing of an update but Adam is left to torch. `fast=False` leaves everything to
torch; the numbers differ in the last bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self, TypeAlias

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor, nn

from rllab.config import Config
from rllab.errors import RunFailed, UsageError
from rllab.parts.backprop import Backprop, Passes, WrittenOut
from rllab.parts.memory import keep_freed_memory
from rllab.parts.schedules import Schedule
from rllab.state import capture, restore

OptimizerName: TypeAlias = Literal["adam", "adamw", "rmsprop", "sgd", "momentum", "adagrad"]
Share: TypeAlias = Annotated[float, Field(ge=0, lt=1)]


class OptimizerConfig(Config):
    """Hyperparameters of gradient steps."""

    optimizer: OptimizerName = "adam"
    """The rule for gradient steps."""

    lr: PositiveFloat = 1e-3
    """Step size of the optimiser, where the schedule has it highest."""

    schedule: Schedule = "constant"
    """How the step size goes on: constant, linear or cosine to 0 at the end, or onecycle, up and then down."""

    betas: tuple[Share, Share] = (0.9, 0.999)
    """How much of the running means of the gradient and of its square Adam keeps at a step."""

    weight_decay: NonNegativeFloat = 0.0
    """How much large weights are penalised: L2, and for adamw apart from the gradient (Loshchilov & Hutter, 2019)."""

    max_grad_norm: NonNegativeFloat = 0.0
    """The gradient is clipped to this norm; 0: no clipping."""

    @classmethod
    def parse(cls, values: Mapping[str, Any], sources: Mapping[str, str] | None = None) -> Self:
        """Validate `values`, and refuse betas that were typed beside an optimiser that has none.

        Those of a preset or a file do no harm: another optimiser may have been typed over theirs.

        Raises:
            UsageError: that says what is wrong and what would be right.
        """
        config = super().parse(values, sources)
        typed = (sources or {}).get("betas") in {"option", "command line"}
        changed = config.betas != cls.model_fields["betas"].get_default(call_default_factory=True)
        if typed and changed and config.optimizer not in {"adam", "adamw"}:
            raise UsageError(
                f"--betas is Adam's, and --optimizer {config.optimizer} has none",
                "Leave out --betas, or write --optimizer adam or adamw.",
            )
        return config


class GradientSteps:
    """Takes gradient steps on the parameters of `modules`.

    Args:
        modules: whose parameters are trained; to be on their device already.
        optimizer: the rule (Kingma & Ba, 2015, for Adam).
        lr: the step size.
        max_grad_norm: the gradient's Euclidean norm over all parameters is clipped to this; 0: no clipping.
        eps: Adam's and RMSprop's constant in the denominator.
        betas: how much of the running means of the gradient and of its square Adam keeps at a step.
        weight_decay: L2 penalty (decoupled for adamw).
        fast: whether perceptrons on the CPU may be differentiated in NumPy.

    Attributes:
        takes_arrays: whether `forward` and `descend` take arrays, too.
    """

    def __init__(
        self,
        modules: nn.Module | Iterable[nn.Module],
        *,
        optimizer: OptimizerName = "adam",
        lr: float,
        max_grad_norm: float = 0.0,
        eps: float = 1e-8,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        fast: bool = True,
    ) -> None:
        modules = [modules] if isinstance(modules, nn.Module) else list(modules)
        self.max_grad_norm = max_grad_norm
        self._parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
        self._flat = _flatten(self._parameters)
        self._optimizer = _make(optimizer, self._flat, lr=lr, eps=eps, betas=betas, weight_decay=weight_decay)
        self._check_now = self._flat.device.type == "cpu"  # elsewhere reading a number would wait for the device
        if self._check_now:
            keep_freed_memory()
        self._network = modules[0] if len(modules) == 1 else None
        self._fast = fast and self._check_now
        self._written_out = self._backprop()
        self.takes_arrays = self._written_out is not None and self._written_out.takes_arrays
        assert self._flat.grad is not None
        self._array = self._flat.grad.numpy() if self._check_now else None  # the same memory
        self._outputs: Any = None  # of `forward`, where autograd differentiates them

    @classmethod
    def of(cls, modules: nn.Module | Iterable[nn.Module], config: OptimizerConfig) -> Self:
        """Return what takes gradient steps on `modules` as `config` says; the schedule's `lr` is given at each step."""
        return cls(
            modules,
            optimizer=config.optimizer,
            lr=config.lr,
            betas=config.betas,
            weight_decay=config.weight_decay,
            max_grad_norm=config.max_grad_norm,
        )

    def __call__(self, loss: Tensor, *, lr: float | None = None) -> float | Tensor:
        """Take one step down the gradient of a scalar loss.

        Args:
            loss: a 0-d tensor.
            lr: the step size from now on, for schedules.

        Returns:
            The gradient's norm before clipping: a number, or a 0-d tensor where it is not on the CPU.

        Raises:
            RunFailed: if the loss is NaN or infinite (on the CPU at once; elsewhere when it is logged or saved).
        """
        self._check(loss)
        self._differentiate(loss)
        return self._descend(lr)

    def forward(self, *inputs: Any) -> Any:
        """Return the outputs of the network that is trained for `descend` to follow, without a graph.

        They are (B, outputs), or a tuple of tensors if that is what the network gives; an array for an array.

        Raises:
            ValueError: if several modules are trained.
        """
        if self._network is None:
            raise ValueError("several modules are trained: call the optimiser with the loss instead")
        if self._written_out is not None:
            return self._written_out.forward(*inputs)
        with torch.enable_grad():
            outputs = self._outputs = self._network(*inputs)
        return tuple(part.detach() for part in outputs) if isinstance(outputs, tuple) else outputs.detach()

    def descend(self, loss: Tensor | float, gradient: Any, *, lr: float | None = None) -> float | Tensor:
        """Take one step down the gradient of a loss, given its gradient by the outputs of the last `forward`.

        It takes `lr`, returns and raises what a call with a loss does.

        Args:
            loss: a 0-d tensor or a number, to be checked alone.
            gradient: shaped like the outputs, and a tuple if those are one.
            lr: the step size from now on.
        """
        self._check(loss)
        if self._written_out is not None:
            self._written_out.backward(gradient)
        else:
            assert self._outputs is not None, "`forward` comes first"
            self._differentiate(self._outputs, gradient)
            self._outputs = None
        return self._descend(lr)

    def _check(self, loss: Tensor | float) -> None:
        if self._check_now and not math.isfinite(value := loss.item() if isinstance(loss, Tensor) else loss):
            raise RunFailed(f"the loss became {value}", "Try a smaller --lr, or clip with --max-grad-norm.")

    def _differentiate(self, outputs: Any, gradient: Any = None) -> None:
        """Have autograd fill the flat gradient."""
        parts = torch.autograd.grad(outputs, self._parameters, gradient, materialize_grads=True)
        assert self._flat.grad is not None
        torch.cat([part.reshape(-1) for part in parts], out=self._flat.grad)

    def _descend(self, lr: float | None) -> float | Tensor:
        """Clip the flat gradient and follow it."""
        assert self._flat.grad is not None
        norm = self._clip(self._flat.grad)
        if lr is not None:
            self._optimizer.param_groups[0]["lr"] = lr
        self._optimizer.step()
        return norm

    def _backprop(self) -> Passes | None:
        """Return the written-out passes of the network, for those on the CPU that have them."""
        if self._network is None or not self._fast:
            return None
        assert self._flat.grad is not None
        gradients = _views(self._flat.grad, self._parameters)
        if isinstance(self._network, WrittenOut):
            return self._network.written_out(gradients)
        if not Backprop.handles(self._network):
            return None
        return Backprop(self._network, gradients)

    def _clip(self, gradient: Tensor) -> float | Tensor:
        """Shorten the gradient to `max_grad_norm` if it is longer; return the norm it had."""
        if self._array is not None:
            norm = math.sqrt(np.dot(self._array, self._array))
            if self.max_grad_norm and (scale := self.max_grad_norm / (norm + 1e-6)) < 1:
                self._array *= self._array.dtype.type(scale)
            return norm
        length: Tensor = torch.linalg.vector_norm(gradient)
        if self.max_grad_norm:
            gradient.mul_((self.max_grad_norm / (length + 1e-6)).clamp_(max=1.0))
        return length

    def state_dict(self) -> dict[str, Any]:
        """Return the optimiser's moments and step size."""
        return {"optimizer": capture(self._optimizer.state_dict())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a state."""
        self._optimizer.load_state_dict(restore(None, state["optimizer"]))


def _flatten(parameters: list[nn.Parameter]) -> nn.Parameter:
    """Move parameters into one flat tensor, of which each keeps a view, with a gradient of the same length."""
    if not parameters:
        raise ValueError("there are no parameters to train")
    flat = nn.Parameter(torch.cat([p.detach().reshape(-1) for p in parameters]))
    flat.grad = torch.zeros_like(flat)
    for parameter, view in zip(parameters, _views(flat.data, parameters), strict=True):
        parameter.data = view
    return flat


def _views(flat: Tensor, parameters: list[nn.Parameter]) -> list[Tensor]:
    """Return the parts of a flat tensor in the shapes of the parameters."""
    parts = torch.split(flat, [parameter.numel() for parameter in parameters])
    return [part.view_as(parameter) for part, parameter in zip(parts, parameters, strict=True)]


def _make(
    name: OptimizerName, flat: nn.Parameter, *, lr: float, eps: float, betas: tuple[float, float], weight_decay: float
) -> Any:
    fused = flat.device.type in {"cpu", "cuda"}
    match name:
        case "adam" | "adamw" if fused:
            return _FusedAdam(flat, lr=lr, eps=eps, betas=betas, weight_decay=weight_decay, decoupled=name == "adamw")
        case "adam":
            return torch.optim.Adam([flat], lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
        case "adamw":
            return torch.optim.AdamW([flat], lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
        case "rmsprop":
            return torch.optim.RMSprop([flat], lr=lr, alpha=0.99, eps=eps, weight_decay=weight_decay)
        case "sgd":
            return torch.optim.SGD([flat], lr=lr, weight_decay=weight_decay)
        case "momentum":
            return torch.optim.SGD([flat], lr=lr, momentum=0.9, weight_decay=weight_decay)
        case "adagrad":
            return torch.optim.Adagrad([flat], lr=lr, eps=eps, weight_decay=weight_decay)


class _FusedAdam:
    """Adam on one tensor (Kingma & Ba, 2015), or AdamW if `decoupled` (Loshchilov & Hutter, 2019).

    `torch.optim.Adam(fused=True)` calls the same kernel and gives the same bits. What it wraps around it takes
    30 microseconds a step, several times the kernel itself for a small network, and making one imports torch's
    compiler, which takes more than a second.
    """

    def __init__(
        self,
        flat: nn.Parameter,
        *,
        lr: float,
        eps: float,
        betas: tuple[float, float],
        weight_decay: float,
        decoupled: bool,
    ) -> None:
        self.param_groups = [{"lr": lr}]  # as torch's optimisers have it
        self.steps = torch.zeros((), device=flat.device)
        self.mean = torch.zeros_like(flat.data)
        self.square = torch.zeros_like(flat.data)
        self._flat, self._gradient = flat.detach(), flat.grad
        self._constants = {"weight_decay": weight_decay, "eps": eps, "beta1": betas[0], "beta2": betas[1]}
        # torch.ops.aten has the same kernels, but takes 5 us longer to find them
        self._kernel: Any = getattr(torch, "_fused_adamw_" if decoupled else "_fused_adam_")

    def step(self) -> None:
        """Move the tensor by its gradient."""
        self.steps += 1
        tensors: tuple[list[Any], ...] = ([self._flat], [self._gradient], [self.mean], [self.square], [], [self.steps])
        self._kernel(*tensors, lr=self.param_groups[0]["lr"], **self._constants, amsgrad=False, maximize=False)

    def state_dict(self) -> dict[str, Any]:
        """Return moments, steps and step size."""
        return {"lr": self.param_groups[0]["lr"], "steps": self.steps, "mean": self.mean, "square": self.square}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a state; tensors are filled in place."""
        self.param_groups[0]["lr"] = state["lr"]
        for name in ("steps", "mean", "square"):
            getattr(self, name).copy_(state[name])
