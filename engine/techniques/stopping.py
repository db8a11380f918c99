"""Stopping where a run lasts for long: between the tensors of a model that is made, or two layers of a micro-step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_MAKING = frozenset("empty zeros ones full arange normal_ uniform_ trunc_normal_ fill_ zero_ copy_ to".split())  # noqa: SIM905


class Stopped(Exception):  # noqa: N818 (an outcome that was asked for, not a defect)
    """The run was asked to stop, while it loaded or in the midst of a micro-step."""


class Stoppable(TorchFunctionMode):
    """Raises `Stopped` from the next function that makes or fills a tensor in it, once `should_stop` says so.

    From no other function, such as the one that a `no_grad` ends with, and only once: what is called afterwards puts
    things back.
    """

    def __init__(self, should_stop: Callable[[], bool]) -> None:
        super().__init__()
        self._should_stop = should_stop
        self._raised = False

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if not self._raised and getattr(func, "__name__", "") in _MAKING and self._should_stop():
            self._raised = True
            raise Stopped
        return func(*args, **(kwargs or {}))


@contextmanager
def between_layers(
    model: torch.nn.Module, should_stop: Callable[[], bool], arrive: Callable[[int], None] = lambda layer: None
) -> Iterator[None]:
    """Inside, a forward or backward of `model` raises `Stopped` at the next layer once `should_stop` is true.

    A layer is what stands in a `ModuleList`. It asks before its forward, and when the gradient of its first trained
    parameter is complete, which is about the end of its backward. `arrive` is told first which layer comes: counted
    from 1, and in backward down to 0; one more than there are after the last one's forward. Nothing is computed, kept
    or copied for it.
    """

    def ask(layer: int) -> Callable[..., None]:
        def asked(*_: Any) -> None:
            arrive(layer)
            if should_stop():
                raise Stopped

        return asked

    found = layers(model)
    n = len(found)

    def leave(module: torch.nn.Module, inputs: Any, output: Any) -> None:
        arrive(n + 1)
        hidden = output[0] if isinstance(output, tuple) else output
        if isinstance(hidden, torch.Tensor) and hidden.requires_grad:
            hidden.register_hook(lambda grad: arrive(n))  # type: ignore[no-untyped-call]  # the head's backward is over

    handles = []
    for number, layer in enumerate(found, 1):
        handles.append(layer.register_forward_pre_hook(ask(number)))
        trained = next((parameter for parameter in layer.parameters() if parameter.requires_grad), None)
        if trained is not None:
            hook = trained.register_post_accumulate_grad_hook(ask(number - 1))  # type: ignore[no-untyped-call]
            handles.append(hook)
    if found:
        handles.append(found[-1].register_forward_hook(leave))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def layers(model: torch.nn.Module) -> list[torch.nn.Module]:
    """The members of the model's outermost lists; of a list of lists, theirs."""
    found: list[torch.nn.Module] = []

    def visit(module: torch.nn.Module) -> None:
        for child in module.children():
            if isinstance(child, torch.nn.ModuleList):
                for member in child:
                    if isinstance(member, torch.nn.ModuleList):
                        found.extend(member)
                    else:
                        found.append(member)
            else:
                visit(child)

    visit(model)
    return found


def countable(model: torch.nn.Module) -> int | None:
    """How many layers it has; None where they are fewer than it computes, as where one is used again and again."""
    n = len(layers(model))
    stated = getattr(getattr(model, "config", None), "num_hidden_layers", n)
    return n if n and isinstance(stated, int) and stated <= n else None
