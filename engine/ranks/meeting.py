"""Where ranks that torchrun or srun started meet, and leave each other word: PyTorch's own store.

A collective's error comes from whoever still stands in it; who was the first to end, and why, is told here.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

from engine.contract.config import ConfigError
from engine.process.launched import Launched

_CONNECT = timedelta(seconds=5)
_LOOK_S = 0.1
_opened_here: list[TCPStore] = []
"""The meeting place, where this process keeps it: for as long as it lives, since its end is how others hear of that."""


class Gone(Exception):  # noqa: N818 (an outcome, not a defect)
    """Nobody answers at the meeting place any more: rank 0, or the launcher, has ended."""


class Meeting:
    """One process's connection. Not for two threads: each has its own, by `another`."""

    def __init__(self, here: Launched, store: TCPStore) -> None:
        self.here = here
        self._store = store
        self._words = PrefixStore(f"traintop/{here.attempt}", store)

    def another(self) -> Meeting:
        """For another thread. Raises `Gone`."""
        try:
            return Meeting(self.here, self._store.clone())  # type: ignore[attr-defined]
        except RuntimeError as error:
            raise Gone from error

    def leave_word(self, name: str, value: Mapping[str, Any]) -> None:
        """Tell all others. Raises `Gone`."""
        self._asked(lambda: self._words.set(name, json.dumps(value)))

    def leave_first_word(self, name: str, value: Mapping[str, Any]) -> dict[str, Any]:
        """Tell it unless another one was first; what the first one told. Raises `Gone`."""
        told: dict[str, Any] = json.loads(self._asked(lambda: self._words.compare_set(name, "", json.dumps(value))))
        return told

    def word(self, name: str) -> dict[str, Any] | None:
        """What was told under a name; None where nothing was yet. Raises `Gone`."""
        if not self._asked(lambda: self._words.check([name])):
            return None
        told: dict[str, Any] = json.loads(self._asked(lambda: self._words.get(name)))
        return told

    def words(self, name: str) -> dict[int, dict[str, Any]]:
        """What the ranks told under `name/RANK`, by rank: of those that told it. Raises `Gone`."""
        every = {rank: self.word(f"{name}/{rank}") for rank in range(self.here.world_size)}
        return {rank: told for rank, told in every.items() if told is not None}

    @staticmethod
    def _asked(ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except RuntimeError as error:  # all that the store raises is one
            raise Gone from error


def meet(here: Launched, should_stop: Callable[[], bool], limit_s: float) -> Meeting | None:
    """Go to the meeting place; None where it was asked to stop on the way.

    Raises `ConfigError` where rank 0 cannot open it, and where nobody has opened it in `limit_s`.
    """
    # what `env://` reads
    os.environ.update(
        RANK=str(here.rank),
        WORLD_SIZE=str(here.world_size),
        LOCAL_RANK=str(here.local_rank),
        MASTER_ADDR=here.address,
        MASTER_PORT=str(here.port),
    )
    opens = here.rank == 0 and not here.has_store
    if not opens and not _opened(here, should_stop, limit_s):
        return None
    try:
        store = TCPStore(
            here.address,
            here.port,
            here.world_size,
            is_master=opens,
            timeout=_CONNECT,
            wait_for_workers=False,
            multi_tenant=True,  # `env://` finds in this process the one that is open
        )
    except RuntimeError as error:
        why = (str(error).strip().splitlines() or [""])[0][:200]
        raise ConfigError(
            "",
            f"The ranks cannot meet at {here.meeting_place} ({why}): set MASTER_PORT to a free port of the machine of "
            "rank 0, and MASTER_ADDR to its name, the same in all processes.",
        ) from None
    if opens:
        _opened_here.append(store)
    return Meeting(here, store)


def _opened(here: Launched, should_stop: Callable[[], bool], limit_s: float) -> bool:
    """Wait for somebody who listens: the store's own tries fill the log. False where it was asked to stop."""
    until, why = time.monotonic() + limit_s, "nobody listens"
    while not should_stop():
        try:
            socket.create_connection((here.address, here.port), timeout=1.0).close()
            return True
        except OSError as error:  # the name may be unknown, too
            why = error.strerror or str(error)
        if time.monotonic() > until:
            raise ConfigError(
                "",
                f"Rank {here.rank} has waited {limit_s:.0f} s for rank 0 at {here.meeting_place} ({why}): see whether "
                "it runs, and whether MASTER_ADDR names its machine, as the others reach it.",
            )
        time.sleep(_LOOK_S)
    return False
