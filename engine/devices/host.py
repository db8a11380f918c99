"""The host's memory as a place for what a device has no room for."""

from __future__ import annotations

from typing import Any, Protocol

import torch


class Host(Protocol):
    """Where tensors of a device may wait."""

    def take(self, tensor: torch.Tensor) -> Any:
        """A copy of a tensor without gaps."""

    def give(self, copy: Any, device: torch.device) -> torch.Tensor:
        """The tensor again."""


class HostMemory:
    """Page-locked where `pinned`: then the copies do not make the host wait for the device."""

    def __init__(self, *, pinned: bool) -> None:
        self._pinned = pinned

    def take(self, tensor: torch.Tensor) -> torch.Tensor:
        """A copy; it is complete when the device gets to what it is given next."""
        copy = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu", pin_memory=self._pinned)
        return copy.copy_(tensor, non_blocking=self._pinned)

    def give(self, copy: torch.Tensor, device: torch.device) -> torch.Tensor:
        """A copy on the device, likewise."""
        return copy.to(device, non_blocking=self._pinned)
