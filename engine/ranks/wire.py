"""What a rank and the process that started it send each other, over one pipe for each rank.

A rank sends lists of the run's events and of what stands here; it never waits for the reader. It is sent `Stop` and,
once it has told how it ended, `Leave`. The pipe's end means to both that the other one is gone.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from engine.contract.events import Event, RankBeat
from engine.contract.host_load import HostLoad
from engine.contract.records import DeviceInfo, Memory, Place, RunRecord
from engine.process.mailbox import Mailbox
from engine.training.saving.places import Checkpoint

BEAT_S = 1.0
"""Between two heartbeats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """A rank's heartbeat, with what the process that started it wants to know besides."""

    beat: RankBeat
    doing: str
    """`saves` or `compiles`, which take as long as they take; else empty."""
    waits: bool
    """Whether it is known to wait for other ranks."""
    layer: int
    """Of the model, within the phase; 0 where that is not known."""
    place: Place | None
    memory: Memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How the run ended in a rank."""

    record: RunRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The run cannot be done: a `ConfigError`."""

    knob: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Stop after the update under way; `why` is one of `engine.contract.stop_reason`."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave:
    """Nothing more is wanted."""


Told = Event | Beat | Ended | Refused
Asked = Stop | Leave


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What a rank is to do. All of it can be pickled."""

    rank: int
    world_size: int
    name: str
    """Of its card, as `engine.devices.several.rank_devices` calls it."""
    card: DeviceInfo
    record: RunRecord
    """The run as it began."""
    goes_on: Checkpoint | None = None
    """The checkpoint that it goes on with."""
    hub_answers: bool | None = None
    """Whether the hub does; None where that is not known yet."""
    host: HostLoad = field(default_factory=HostLoad)
    threads: int | None = None
    """To compute with on the host; None where the environment says how many."""
    environment: dict[str, str]
    log_path: str | None


class Outbox:
    """A rank's side: what is put in is sent by a thread, the oldest frequent events making room where nobody reads."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._mailbox: Mailbox[Told | None] = Mailbox()
        self._thread = threading.Thread(target=self._send, name="outbox", daemon=True)
        self._thread.start()

    def put(self, told: Told) -> None:
        """Send it soon."""
        self._mailbox.put(told)

    def finish(self, timeout_s: float) -> None:
        """Wait until everything is sent."""
        self._mailbox.put(None)
        self._thread.join(timeout_s)

    def _send(self) -> None:
        with contextlib.suppress(OSError):  # nobody reads any more: this process is about to end
            while True:
                waiting = self._mailbox.wait()
                told = [each for each in waiting if each is not None]
                self._connection.send(told)
                if len(told) < len(waiting):
                    return
