"""The end of a process that had an engine in it."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from typing import NoReturn


def end_scripts() -> None:
    """End the user's own commands that this process has under way, with all that they started."""
    if "engine.scripts.child" in sys.modules:
        from engine.scripts.child import leave_nothing

        leave_nothing()


def leave(code: int) -> NoReturn:
    """End the process now: what was written is flushed, and nobody is left behind.

    The interpreter's own end is passed over. With PyTorch loaded it takes seconds, and a thread that is in native
    code just then (a forecast, an import) makes it abort: "terminate called without an active exception".
    """
    end_scripts()
    if "multiprocessing.forkserver" in sys.modules:
        from engine.techniques.workers import leave_nothing

        leave_nothing()
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # closed, or the reader is gone
            stream.flush()
    os._exit(code)
