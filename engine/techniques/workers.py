"""Processes that work for this one, the data loader's and the ranks: they end with it, whatever ends it. No torch.

They are children of a fork server, so no signal and no exit of ours reaches them by itself: without what is here,
a parent that is killed leaves them behind, each with the memory of an interpreter that has imported PyTorch.

There is one server for a process, its ranks and their workers. Which modules it imports is settled when it starts.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing import connection, forkserver, resource_tracker, util
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any

_POLL_S = 0.1
_NOTICE_S = 1.0
"""How long the fork server may take to tell of a death that a broken connection has told of already."""
_UNHEARD = frozenset(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP", "SIGQUIT") if hasattr(signal, name)
)
"""What ends a run by way of its own process. A terminal, a service manager and Slurm send it to the whole group."""
_QUIET = {
    "PYTHONWARNINGS": "ignore:resource_tracker",
    "PYTHONSAFEPATH": "1",
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
}
"""For the helpers: what they clean up after a killed parent is not told on its terminal; a `queue.py` in the folder
that the program was started in is not taken for the standard library's (Python 3.11 and newer); and a library that asks
whether there is CUDA, as it is imported, does not start the driver, which no process forked afterwards could use."""


class Worker(ForkServerProcess):
    """A process that ends when the one that started it has ended."""

    def __init__(self, *args: Any, ready: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._ready = ready
        self._of_a_rank = multiprocessing.parent_process() is not None

    def run(self) -> None:
        """Work, and beside it wait for the parent's end."""
        ends = threading.Thread(target=_end_with_parent, args=(self._of_a_rank,), name="parent's end", daemon=True)
        ends.start()
        self._ready.release()
        super().run()

    def terminate(self) -> None:
        """End it by force: it does not hear SIGTERM."""
        self.kill()


class Workers(ForkServerContext):
    """What `torch.utils.data.DataLoader` starts its processes with; it knows which they are and how they ended."""

    def __init__(self) -> None:
        super().__init__()
        start_forkserver()
        self.started: list[Worker] = []
        self._ready, self._n_ready = self.Semaphore(0), 0

    def Process(self, *args: Any, **options: Any) -> Worker:  # type: ignore[override]  # noqa: N802
        """A process that has not begun yet."""
        worker = Worker(*args, ready=self._ready, **options)
        self.started.append(worker)
        return worker

    def wait_until_ready(self, should_stop: Callable[[], bool]) -> bool:
        """Wait until every process has imported what it needs, or one has ended; False when asked to stop.

        A stop ends them: they hold nothing yet.
        """
        while self._n_ready < len(self.started) and not self._ended():
            if should_stop():
                for worker in self.started:
                    worker.kill()
                return False
            self._n_ready += self._ready.acquire(timeout=_POLL_S)
        return True

    def why_ended(self) -> str | None:
        """A sentence on the first process that ended against our will; None when none did."""
        if not self._ended():
            connection.wait([worker.sentinel for worker in self.started], _NOTICE_S)
        for number, worker in enumerate(self.started):
            if worker.exitcode:
                return _why(number, worker.exitcode)
        return None

    def _ended(self) -> bool:
        return any(worker.exitcode is not None for worker in self.started)


def _why(number: int, code: int) -> str:
    if code > 0:
        return f"data-loader worker {number} ended by itself with exit code {code}; the log has what it printed."
    perhaps = ""
    if code == -signal.SIGKILL:
        perhaps = ", perhaps for want of host memory"
    elif code == -signal.SIGBUS:
        perhaps = ", perhaps for want of shared memory (/dev/shm)"
    return (
        f"data-loader worker {number} was killed by signal {-code}{perhaps}: use fewer --dataloader-num-workers "
        "(0 loads in the run's own process) or a smaller --dataloader-prefetch-factor."
    )


def start_forkserver(preload: str | None = None) -> None:
    """Start what forks the workers, and what keeps the books of their semaphores, if they do not run yet.

    With `preload`, a module, the server has it imported before it forks anything; one that was started without it and
    has no children any more is started anew. Returns before it is imported. The signals in `_UNHEARD` are blocked in
    them from their first instruction on, and so in the workers.
    """
    global _preloaded
    with _starting:
        if preload is not None and preload != _preloaded and not multiprocessing.active_children():
            forkserver._forkserver._stop()  # type: ignore[attr-defined]
            multiprocessing.set_forkserver_preload([preload])
            _preloaded = preload
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _UNHEARD)
        try:
            with _quietly():
                resource_tracker.ensure_running()
                signal.pthread_sigmask(signal.SIG_BLOCK, _UNHEARD)  # that lets two of them through again
                forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


_starting = threading.Lock()
_preloaded: str | None = None


def share_forkserver() -> None:
    """For a process that a fork server has started: what it starts comes from the same server.

    Python (up to 3.13 at least) knows the server's address there, but starts another one all the same, as it looks
    for the server among its own children only.
    """
    server: Any = getattr(forkserver, "_forkserver", None)
    if getattr(server, "_forkserver_address", None) is not None and sys.version_info < (3, 14):
        forkserver.ensure_running = server.ensure_running = lambda: None


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """The environment of the helpers, and a `sys.stderr` with a descriptor, which multiprocessing hands on.

    What a full-screen program puts there has none.
    """
    before = {name: os.environ.get(name) for name in _QUIET}
    os.environ.update(_QUIET)
    try:
        with open(2, "w", closefd=False) as stderr, contextlib.redirect_stderr(stderr):
            yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def leave_nothing() -> None:
    """For a process that is about to end: its workers end now, and their folder of sockets is removed."""
    for child in multiprocessing.active_children():
        if isinstance(child, Worker):
            child.kill()
    if multiprocessing.parent_process() is None:  # else it is the parent's too
        _remove_sockets()


def _end_with_parent(of_a_rank: bool) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    if not of_a_rank:  # the process that has the sockets lives on
        _remove_sockets()
    os._exit(1)


def _remove_sockets() -> None:
    """Where multiprocessing has its listeners: one folder for a process and its children."""
    shutil.rmtree(util.get_temp_dir(), ignore_errors=True)
