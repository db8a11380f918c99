"""Host memory in a traced run: what is moved there is no longer accounted for, and is again when it comes back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from engine.contract.forecast_types import ACTIVATIONS
from engine.tracing.tracer import Tracer


class TracedHost:
    """A host beside the tensors of `tracer`, while it `is_tracing`; they may be on meta.

    `on_move` is told the bytes of every copy there and back.
    """

    def __init__(
        self,
        tracer: Tracer,
        is_tracing: Callable[[], bool] = lambda: True,
        on_move: Callable[[int], None] = lambda n_bytes: None,
    ) -> None:
        self._tracer = tracer
        self._is_tracing = is_tracing
        self._on_move = on_move

    def take(self, tensor: torch.Tensor) -> Any:
        """A copy, and how much memory the GPU's kernels have for such a tensor."""
        size = self._tracer.size_of(tensor) if self._is_tracing() else 0
        self._on_move(size)
        return self._copy(tensor), size

    def give(self, copy: Any, like: torch.device) -> torch.Tensor:
        """The tensor again."""
        kept, size = copy
        back = self._copy(kept)
        self._on_move(size)
        if self._is_tracing():
            self._tracer.account(back, ACTIVATIONS, n_bytes=size)
        return back

    def _copy(self, tensor: torch.Tensor) -> torch.Tensor:
        with self._tracer.suspended():
            return torch.empty_like(tensor) if tensor.is_meta else tensor.clone()
