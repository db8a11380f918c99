"""A second thread for tests, and how to know without waiting for a clock that it stands at a lock."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import FrameType
from typing import Any, TypeVar

from engine.process import gate

T = TypeVar("T")


class Other:
    """One more thread. `does` gives it work; the future has its result."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._ident = self._pool.submit(threading.get_ident).result()

    def __enter__(self) -> Other:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def does(self, work: Callable[[], T]) -> Future[T]:
        """Have the thread do it."""
        return self._pool.submit(work)

    def waits_at_the_gate(self, work: Future[Any]) -> None:
        """Return when the thread has come to the gate, which the caller holds; fail where it walked past."""
        while not self._is_at_the_gate():
            assert not work.done(), work.result()

    def _is_at_the_gate(self) -> bool:
        frame: FrameType | None = sys._current_frames().get(self._ident)
        return frame is not None and frame.f_code.co_filename == gate.__file__
