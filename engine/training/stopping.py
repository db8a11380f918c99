"""Stopping a run while it loads: asked between its stages, and between the tensors of a model that is being made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.overrides import TorchFunctionMode


class Stopped(Exception):  # noqa: N818 (an outcome that was asked for, not a defect)
    """The run was asked to stop while it loaded."""


class Stoppable(TorchFunctionMode):
    """Raises `Stopped` from the next of torch's functions that is called in it once `should_stop` says so."""

    def __init__(self, should_stop: Callable[[], bool]) -> None:
        super().__init__()
        self._should_stop = should_stop

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if self._should_stop():
            raise Stopped
        return func(*args, **(kwargs or {}))
