"""A language model's loss without its logits: the head's product and the cross-entropy together, chunk by chunk.

The head gives what its logits would be computed from. What models do with logits up to their loss (reshape, scale, add
a bias, cap) is noted, and the loss is computed from that.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (as everywhere in the field)

from engine.contract.config import ConfigError, RunConfig
from engine.tracing.losses import linear_losses

PLAIN = "plain"


class Deferred:
    """In place of logits of shape (…, classes): the head's input of shape (…, features), and how they follow from it.

    Logits = scale × (input · weightᵀ + bias), or softcap × tanh of that. Raises `ConfigError` where a model asks for
    anything that this cannot stand for.
    """

    def __init__(self, head: Head, hidden: torch.Tensor, **how: Any) -> None:
        self.head = head
        self.hidden = hidden
        self.bias: torch.Tensor | None = how.get("bias", head.bias)
        self.scale: float = how.get("scale", 1.0)
        self.is_tanh: bool = how.get("is_tanh", False)
        self.softcap: float = how.get("softcap", 1.0)

    def _but(self, **changes: Any) -> Deferred:
        how = {name: getattr(self, name) for name in ("hidden", "bias", "scale", "is_tanh", "softcap")}
        return Deferred(self.head, **(how | changes))

    # what a tensor of logits would say of itself

    @property
    def shape(self) -> torch.Size:
        return torch.Size((*self.hidden.shape[:-1], self.head.out_features))

    dtype = property(lambda self: self.hidden.dtype)
    device = property(lambda self: self.hidden.device)
    ndim = property(lambda self: self.hidden.ndim)

    def dim(self) -> int:
        return self.hidden.dim()

    def size(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else self.shape[dim]

    # what models do with logits

    def float(self) -> Deferred:
        """Itself: the loss is computed in fp32."""
        return self

    def contiguous(self) -> Deferred:
        return self

    def to(self, *_: Any, **__: Any) -> Deferred:
        return self

    def view(self, *shape: Any) -> Deferred:
        """With the classes still last."""
        sizes = tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int) else shape
        if sizes[-1] not in (-1, self.head.out_features):
            raise self.head.refusal(f"a reshape to {sizes}")
        return self._but(hidden=self.hidden.reshape(*sizes[:-1], self.hidden.size(-1)))

    reshape = view

    def __getitem__(self, index: Any) -> Deferred:
        parts = index if isinstance(index, tuple) else (index,)
        covers_classes = Ellipsis in parts or len(parts) == self.ndim
        if covers_classes and parts[-1] not in (slice(None), Ellipsis):
            raise self.head.refusal("a choice of classes")
        return self._but(hidden=self.hidden[index])

    def __mul__(self, other: Any) -> Deferred:
        if not isinstance(other, (int, float)):
            raise self.head.refusal("a product with a tensor")
        return self._but(softcap=self.softcap * other) if self.is_tanh else self._but(scale=self.scale * other)

    __rmul__ = mul = __mul__

    def __truediv__(self, other: Any) -> Deferred:
        if not isinstance(other, (int, float)):
            raise self.head.refusal("a quotient with a tensor")
        return self * (1 / other)

    div = __truediv__

    def __add__(self, other: Any) -> Deferred:
        """With a bias of the classes, before any scale."""
        is_bias = isinstance(other, torch.Tensor) and other.numel() == other.size(-1) == self.head.out_features
        if self.is_tanh or self.scale != 1.0 or not is_bias:
            raise self.head.refusal("a sum")
        added = other.reshape(-1)
        return self._but(bias=added if self.bias is None else self.bias + added)

    __radd__ = add = __add__

    def tanh(self) -> Deferred:
        if self.is_tanh:
            raise self.head.refusal("tanh of tanh")
        return self._but(is_tanh=True)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise self.head.refusal(name)

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.cross_entropy:
            return _cross_entropy(*args, **(kwargs or {}))
        name = getattr(func, "__name__", str(func))
        logits = next(value for value in (*args, *(kwargs or {}).values()) if isinstance(value, Deferred))
        if name in ("tanh", "mul", "div", "add") and isinstance(args[0], Deferred):
            return getattr(args[0], name)(*args[1:], **(kwargs or {}))
        raise logits.head.refusal(name)


def _cross_entropy(
    logits: Deferred,
    target: torch.Tensor,
    weight: torch.Tensor | None = None,
    size_average: None = None,
    ignore_index: int = -100,
    reduce: None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """As `torch.nn.functional.cross_entropy` of (rows, classes) with classes as targets."""
    if logits.ndim != 2 or weight is not None or label_smoothing or target.is_floating_point():
        raise logits.head.refusal("a cross-entropy with weights, smoothing or more dimensions")
    head, hidden, bias = logits.head, logits.hidden, logits.bias
    # the losses take a cap as it is used, softcap × tanh(outputs / softcap)
    scale = logits.scale * logits.softcap if logits.is_tanh else logits.scale
    if not math.isclose(scale, 1.0):
        hidden, bias = hidden * scale, None if bias is None else bias * scale
    losses = linear_losses(
        hidden,
        head.weight,
        bias,
        target,
        kernel=head.kernel,
        softcap=logits.softcap if logits.is_tanh else None,
        ignore_index=ignore_index,
    )
    head.has_lost = True
    if reduction == "none":
        return losses
    return losses.sum() / (target != ignore_index).sum() if reduction == "mean" else losses.sum()


class Head(torch.nn.Linear):
    """A model's last linear layer, which leaves its product to the loss."""

    kernel: str
    model_name: str
    has_lost = False
    """Whether a loss was computed from what it gave last."""

    def forward(self, hidden: torch.Tensor) -> Deferred:  # type: ignore[override]
        """What stands for the logits."""
        self.has_lost = False
        return Deferred(self, hidden)

    def refusal(self, what: str) -> ConfigError:
        """Why the loss cannot be had so; `what` the model does with its logits."""
        return _refusal(
            self.kernel, f"does not know {what} of logits, which {self.model_name} makes on its way to a loss"
        )


def apply(model: torch.nn.Module, config: RunConfig) -> None:
    """Have a language model's loss computed without its logits; nothing where that was not asked for.

    Apply it when adapters have been added. Raises `ConfigError` where the head is no plain linear layer; a forward
    raises it where the loss is not computed from what the head gives.
    """
    kernel, name = config.cross_entropy, config.model
    if kernel == PLAIN:
        return
    whole: Any = model
    head: Any = whole.get_output_embeddings()
    if type(head) is not torch.nn.Linear:
        found = "none" if head is None else f"a {type(head).__name__}"
        raise _refusal(kernel, f"needs a plain linear layer before the loss, and {name} has {found}")
    head.__class__ = Head
    adapted: Any = head
    adapted.kernel, adapted.model_name = kernel, name

    def check(module: torch.nn.Module, inputs: Any, output: Any) -> None:
        if not head.has_lost:
            raise _refusal(kernel, f"finds no loss that {name} computes from its head's logits")

    model.register_forward_hook(check)


def _refusal(kernel: str, why: str) -> ConfigError:
    return ConfigError("cross_entropy", f"--cross-entropy {kernel} {why}: use --cross-entropy plain.")
