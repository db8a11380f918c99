"""What a tracer needs to follow a model that FSDP divides among ranks.

A rank's part of a weight is a `DTensor`. A layer's whole weights are storages that grow and shrink in place, which no
operator does. Collectives are prepared in streams of their own, and CUDA's caching allocator keeps what each frees
apart; on meta and CPU tensors PyTorch goes through the same steps with `torch.cpu`'s streams, which are only names.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.distributed.tensor import DTensor


class Divided:
    """Tells operators on what is divided from others, and which stream something is made in."""

    def __init__(self) -> None:
        self._streams = {torch.cpu.current_stream(): 0}

    @property
    def stream(self) -> int:
        """The current one's number, in the order in which they are met; 0 is the computing one."""
        return self._streams.setdefault(torch.cpu.current_stream(), len(self._streams))

    def is_divided(self, types: tuple[type, ...]) -> bool:
        """Whether an operator's arguments, of these types, are divided: it comes again with what this rank holds."""
        return any(issubclass(each, DTensor) for each in types)

    def is_asked(self, types: tuple[type, ...]) -> bool:
        """Whether nothing is computed: PyTorch asks for the shape of what an operator on divided tensors will give."""
        return any(issubclass(each, FakeTensor) for each in types)


@contextmanager
def watching_storages(seen: Callable[[torch.UntypedStorage], None]) -> Iterator[None]:
    """Tell `seen` of every storage that this thread has made larger or smaller in place.

    `torch.UntypedStorage.resize_` is replaced meanwhile, as PyTorch's own
    torch/distributed/_tools/mem_tracker.py does; it belongs to the process.
    """
    inherited, thread = torch.UntypedStorage.resize_, threading.get_ident()

    def resized(storage: torch.UntypedStorage, size: int) -> Any:
        result = inherited(storage, size)
        if threading.get_ident() == thread:
            seen(storage)
        return result

    torch.UntypedStorage.resize_ = resized  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        del torch.UntypedStorage.resize_


class Gathered:
    """Tells `seen` of each whole weight, which is there from its module's first forward on, and `arrived` of its
    gradients.

    `remove` it in the end, as a hook.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        seen: Callable[[torch.Tensor], None],
        arrived: Callable[[torch.Tensor], None],
    ) -> None:
        self._seen, self._arrived = seen, arrived
        self._met: set[tuple[int, bool]] = set()
        owners = (module for module in model.modules() if module._parameters)
        self._hooks: list[Any] = [module.register_forward_pre_hook(self._look) for module in owners]

    def _look(self, module: torch.nn.Module, arguments: object) -> None:
        for parameter in module._parameters.values():
            if parameter is None or isinstance(parameter, DTensor):
                continue
            key = id(parameter), parameter.requires_grad  # it lives as long as the model
            if key in self._met:
                continue
            self._met.add(key)
            self._seen(parameter)
            if parameter.requires_grad:
                hook = parameter.register_post_accumulate_grad_hook(self._arrived)  # type: ignore[no-untyped-call]
                self._hooks.append(hook)

    def remove(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
