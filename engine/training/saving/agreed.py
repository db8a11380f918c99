"""Steps that all ranks take together, so that where one cannot, none goes on to the next."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from engine.techniques.parallel.together import Together

_OS_ERROR = re.compile(r"\(os error (\d+)\)")
"""How safetensors, which is written in Rust, says it."""


class Elsewhere(Exception):  # noqa: N818 (another rank's failure, told in its words)
    """A rank could not do it. The message says which, and why."""


def all_of(together: Together, do: Callable[[], object]) -> None:
    """Do it in each rank. What it raises here is raised once all have tried, and `Elsewhere` where another failed."""
    failed: Exception | None = None
    try:
        do()
    except Exception as error:  # what libraries make of a disk that is full, or of anything
        failed = error
    every = together.everyones(None if failed is None else why(failed))
    if failed is not None:
        raise failed
    for rank, problem in enumerate(every):
        if problem is not None:
            raise Elsewhere(f"rank {rank}: {problem}")


def why(error: BaseException) -> str:
    """What a library made of a failure, in the operating system's words where there are any."""
    if isinstance(error, Elsewhere):
        return str(error)
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.strerror:
            return found.strerror
        found = found.__cause__ or found.__context__
    if number := _OS_ERROR.search(str(error)):
        return os.strerror(int(number[1]))
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
