"""The processes of a run's ranks: started from the fork server, told, and ended for certain."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from types import TracebackType

import psutil

from engine.ranks.rank import main
from engine.ranks.wire import Asked, Assignment, Leave
from engine.techniques.workers import Worker, Workers, start_forkserver

PRELOADED = "engine.ranks.preloaded"
_POLL_S = 0.05
_EXIT_S = 0.5


def get_ready() -> None:
    """Let the fork server import what ranks need, beside whatever goes on; returns at once."""
    start_forkserver(PRELOADED)


class Processes:
    """One for each assignment. Left, none of them is alive."""

    def __init__(self, assignments: Sequence[Assignment], environment: Mapping[str, str]) -> None:
        self._assignments = [
            replace(
                each,
                environment={
                    **each.environment,
                    **environment,
                    "RANK": str(each.rank),
                    "LOCAL_RANK": str(each.rank),
                    "WORLD_SIZE": str(each.world_size),
                    "LOCAL_WORLD_SIZE": str(each.world_size),
                },
            )
            for each in assignments
        ]
        self._lock = threading.Lock()
        self._left = False
        self._workers: list[Worker] = []
        self._processes: list[psutil.Process] = []
        self.connections: list[Connection] = []
        self._problem: Exception | None = None

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._left = True
        self.end(0.0)

    @property
    def pids(self) -> list[int]:
        """Of the processes, in the order of the ranks."""
        return [process.pid for process in self._processes]

    def start(self, should_stop: Callable[[], bool]) -> bool:
        """Start all. False when asked to stop meanwhile: a fork server that still imports lets nobody go on.

        Raises what keeps them from starting.
        """
        starts = threading.Thread(target=self._start, name="ranks' start", daemon=True)
        starts.start()
        while starts.is_alive():
            starts.join(_POLL_S)
            if should_stop():
                return False
        if self._problem is not None:
            raise self._problem
        return True

    def _start(self) -> None:
        try:
            get_ready()
            context = Workers()
            for each in self._assignments:
                ours, theirs = context.Pipe()
                worker = context.Process(target=main, args=(each, theirs), name=f"rank {each.rank}")
                worker.start()
                theirs.close()
                with self._lock:
                    self._workers.append(worker)
                    self._processes.append(psutil.Process(worker.pid))
                    self.connections.append(ours)
                    if self._left:
                        self._kill()
                        return
        except Exception as error:  # told by whoever waits for the start
            self._problem = error

    def tell(self, asked: Asked) -> None:
        """Send it to all ranks that are there."""
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.send(asked)

    def exit_code(self, rank: int) -> int | None:
        """Of a process that is gone, or goes just now; None where it is not known."""
        self._workers[rank].join(_EXIT_S)
        code = self._workers[rank].exitcode
        return None if code == _UNKNOWN else code

    def is_stopped(self, rank: int) -> bool:
        """Whether a signal keeps a rank's process from running."""
        with contextlib.suppress(psutil.Error):
            return bool(self._processes[rank].status() == psutil.STATUS_STOPPED)
        return False

    def end(self, patience_s: float) -> None:
        """End all, by force where they have not left in time; returns when none is alive."""
        self.tell(Leave())
        if patience_s:
            psutil.wait_procs(self._processes, patience_s)
        self._kill()

    def _kill(self) -> None:
        for process in self._processes:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(self._processes, _EXIT_S)
        for worker, connection in zip(self._workers, self.connections, strict=True):
            worker.join(_EXIT_S)
            connection.close()


_UNKNOWN = 255
"""What multiprocessing says where the fork server is gone, which would have known."""
