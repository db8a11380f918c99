"""What is needed after the first paint only, and takes as long to import and open as the screen takes to paint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Later:
    """Stands for an object that is made when something of it is first asked for."""

    def __init__(self, make: Callable[[], object]) -> None:
        self._make = make
        self._made: list[object] = []

    def __getattr__(self, name: str) -> Any:
        if not self._made:
            self._made.append(self._make())
        return getattr(self._made[0], name)
