"""Activation offloading: what layers keep for backward waits in the host's memory.

PyTorch's `torch.autograd.graph.save_on_cpu` moves all that is saved, weights included, and a tensor as often as it is
saved. Here weights stay, and what several operators keep is moved once. Only what layers keep is moved: what the head
keeps is needed first. With checkpointing that is the input of each layer. Both copies stand in line with the other work
on the GPU, so they add to its time.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd.graph import saved_tensors_hooks

from engine.contract.config import ConfigError, RunConfig
from engine.devices.host import Host
from engine.techniques.stopping import layers


class _Moved:
    """Memory of the device that is on the host: `n_uses` operators will ask for it."""

    def __init__(self, tensor: torch.Tensor, copy: Any) -> None:
        self.was_at = weakref.ref(tensor.untyped_storage())
        self.version = tensor._version
        self.device = tensor.device
        self.n_uses = 0
        self._copy = copy
        self._back: torch.Tensor | None = None

    def back(self, host: Host) -> torch.Tensor:
        """It again, on the device until the last one has asked."""
        here = host.give(self._copy, self.device) if self._back is None else self._back
        self.n_uses -= 1
        self._back = here if self.n_uses > 0 else None
        return here


class Offloading:
    """Moves what the layers of `model`, which is on its device, keep for backward; `room` is what the host has for it.

    Raises `ConfigError` where the model has no layers, and in a forward that keeps more than there is room for.
    """

    def __init__(self, model: torch.nn.Module, config: RunConfig, host: Host, room: int | None = None) -> None:
        self._host, self._room = host, room
        self._weights = {t.untyped_storage()._cdata for t in (*model.parameters(), *model.buffers())}
        self._moved: weakref.WeakValueDictionary[tuple[int, ...], _Moved] = weakref.WeakValueDictionary()
        self._open: list[saved_tensors_hooks] = []
        self.held = 0
        """Bytes on the host."""
        self.most_held = 0
        found = layers(model)
        if not found:
            raise ConfigError(
                "activation_offloading",
                f"--activation-offloading finds no layers in {config.model}: use --activation-offloading off.",
            )
        self._handles: list[Any] = []
        for layer in found:
            self._handles.append(layer.register_forward_pre_hook(self._enter))
            self._handles.append(layer.register_forward_hook(self._leave, always_call=True))

    def remove(self) -> None:
        """Leave the layers as they were."""
        for handle in self._handles:
            handle.remove()

    def _enter(self, layer: torch.nn.Module, inputs: Any) -> None:
        hooks = saved_tensors_hooks(self._pack, self._unpack)
        hooks.__enter__()
        self._open.append(hooks)

    def _leave(self, layer: torch.nn.Module, inputs: Any, output: Any) -> None:
        if self._open:  # a layer whose own hook failed was not entered
            self._open.pop().__exit__()

    def _pack(self, tensor: torch.Tensor) -> Any:
        storage = tensor.untyped_storage()
        # one number for a token, such as a norm's: a copy takes longer to begin than to do
        if storage._cdata in self._weights or not tensor.dim() or tensor.size(-1) == 1:
            return tensor
        layout: tuple[int, ...] | None = tensor.stride()
        if not _is_dense(tensor):
            tensor, layout = tensor.contiguous(), None
            storage = tensor.untyped_storage()
        n_bytes = tensor.numel() * tensor.element_size()
        key: tuple[int, ...] = storage._cdata, int(tensor.storage_offset()), tensor.numel(), n_bytes
        moved = self._moved.get(key)
        if moved is None or moved.was_at() is None or moved.version != tensor._version:
            self._count(n_bytes)
            moved = _Moved(tensor, self._host.take(tensor.as_strided((tensor.numel(),), (1,))))
            weakref.finalize(moved, self._count, -n_bytes)
            self._moved[key] = moved
        moved.n_uses += 1
        return moved, tensor.shape, layout

    def _unpack(self, packed: Any) -> torch.Tensor:
        if isinstance(packed, torch.Tensor):
            return packed
        moved, shape, layout = packed
        flat: torch.Tensor = moved.back(self._host)
        return flat.view(shape) if layout is None else flat.as_strided(shape, layout)

    def _count(self, n_bytes: int) -> None:
        if self._room is not None and self.held + n_bytes > self._room:
            raise ConfigError(
                "activation_offloading",
                f"--activation-offloading keeps more than the {self._room / 2**30:,.1f} GiB of memory that this host "
                "has free: use a smaller --batch-size, or --gradient-checkpointing on with it.",
            )
        self.held += n_bytes
        self.most_held = max(self.most_held, self.held)


def apply(model: torch.nn.Module, config: RunConfig, host: Callable[[], Host], room: int | None) -> Offloading | None:
    """Offload the activations of `model`, which is on its device; None where that was not asked for."""
    return Offloading(model, config, host(), room) if config.activation_offloading else None


def _is_dense(tensor: torch.Tensor) -> bool:
    """Whether its elements are all there is between its first and its last."""
    expected = 1
    for size, stride in sorted(zip(tensor.shape, tensor.stride(), strict=True), key=lambda dim: dim[1]):
        if size != 1:
            if stride != expected:
                return False
            expected *= size
    return True
