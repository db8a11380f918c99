"""Ranks with a fault in them: what the tests start in place of `engine.ranks.rank.main`.

When it came (`time.monotonic`, which all processes share) is in the rank's log, for who measures.
"""

from __future__ import annotations

import time
from multiprocessing.connection import Connection
from typing import Any

from engine.ranks import rank
from engine.ranks.wire import Assignment

LAST = 1
NOTE = "fault at"


def raises(assigned: Assignment, connection: Connection) -> None:
    """The last rank raises in its third micro-step."""
    _in_micro_step(assigned, 3, _raise)
    rank.main(assigned, connection)


def hangs(assigned: Assignment, connection: Connection) -> None:
    """The last rank stands still in its third micro-step."""
    _in_micro_step(assigned, 3, _hang)
    rank.main(assigned, connection)


def hangs_in_loading(assigned: Assignment, connection: Connection) -> None:
    """The last rank stands still before it has a model."""
    if assigned.rank == LAST:
        from engine.training.run import Run

        Run._load = lambda self: time.sleep(3600)  # type: ignore[method-assign, assignment]
    rank.main(assigned, connection)


def tells_its_end(assigned: Assignment, connection: Connection) -> None:
    """No fault of its own: the last rank notes when its run is over."""
    if assigned.rank == LAST:
        from engine.training.run import Run

        real = Run.execute

        def execute(run: Run) -> object:
            record = real(run)
            _note()
            return record

        Run.execute = execute  # type: ignore[method-assign, assignment]
    rank.main(assigned, connection)


def _note() -> None:
    print(f"{NOTE} {time.monotonic()}", flush=True)  # noqa: T201


def _hang() -> None:
    _note()
    time.sleep(3600)


def _raise() -> None:
    _note()
    raise ValueError("a defect in one rank")


def _in_micro_step(assigned: Assignment, number: int, fault: Any) -> None:
    """Something happens in the forward of the last rank's micro-step `number`."""
    if assigned.rank != LAST:
        return
    from engine.training import trainer

    real, done = trainer.micro_step, [0]

    def micro_step(*args: Any, **named: Any) -> Any:
        done[0] += 1
        if done[0] == number:
            args[4](trainer.Phase.FORWARD)
            fault()
        return real(*args, **named)

    trainer.micro_step = micro_step


class CannotBeRead:
    """An assignment's like that no process can unpickle."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _fails, ()


def _fails() -> None:
    raise ImportError("a package that the rank lacks")
