"""Ranks for tests: processes that join a gloo group once, and then run one case after another."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

_CASES = "tests.engine.techniques.parallel.cases"
PRELOADED = ["torch", "torch._dynamo", "torch.distributed.fsdp", "transformers", _CASES]


@dataclass(frozen=True)
class Failed(Exception):  # noqa: N818
    """What a rank raised."""

    rank: int
    text: str


class Ranks:
    """Two or more ranks that do as they are told, all the same."""

    def __init__(self, connections: list[Connection]) -> None:
        self._connections = connections

    def each(self, case: Callable[..., Any], *args: Any, only: int | None = None, **more: Any) -> list[Any]:
        """What `case(*args, **more)` comes to in each rank, or in the one that is named. Raises `Failed`."""
        asked = [c for rank, c in enumerate(self._connections) if only in (None, rank)]
        for connection in asked:
            connection.send((case, args, more))
        answers = [connection.recv() for connection in asked]
        for rank, (is_good, answer) in enumerate(answers):
            if not is_good:
                raise Failed(rank, answer)
        return [answer for _, answer in answers]


@contextmanager
def ranks(world_size: int) -> Iterator[Ranks]:
    """Start them, by a fork server that has PyTorch already, and end them."""
    import torch.distributed as dist

    context = get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    ends = [context.Pipe() for _ in range(world_size)]
    processes = [
        context.Process(target=_rank, args=(theirs, rank, world_size, store.port))
        for rank, (_, theirs) in enumerate(ends)
    ]
    for process in processes:
        process.start()
    for _, theirs in ends:
        theirs.close()
    try:
        yield Ranks([ours for ours, _ in ends])
    finally:
        for process in processes:
            process.kill()
            process.join()


def _rank(connection: Connection, rank: int, world_size: int, port: int) -> None:
    import torch

    from engine.techniques.parallel.group import opened

    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }
    torch.set_num_threads(1)
    with opened(torch.device("cpu"), 600):
        while True:
            try:
                case, args, more = connection.recv()
            except EOFError:
                return
            try:
                connection.send((True, case(*args, **more)))
            except Exception:
                connection.send((False, traceback.format_exc()))
