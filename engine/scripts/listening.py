"""Hears the processes of a script: JSON lines over a Unix socket in a folder that is this user's alone.

Nothing that comes in is believed: what is no line of JSON with an object in it is left out, and who sends a line
without an end is heard no more. Nobody is waited for.
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import shutil
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

log = logging.getLogger("traintop")

_LONGEST_PATH = 100
"""Of a socket: `sun_path` has 108 bytes on Linux, 104 elsewhere (unix(7))."""
_LONGEST_LINE = 4 * 2**20
_AT_ONCE = 2**18
_ROUNDS = 16
"""Readings of one process at a time, so that one that floods leaves the others their turn."""
_NAME = "wire"
_YOUNG_S = 60.0
_MOST_DEAD = 64
_MOST = 512
"""Processes that are heard at once."""

Message = dict[str, Any]
Heard = tuple[int, Message | None]
"""Who, by a number of our own, and what; None: it is heard no more."""


@dataclass(slots=True)
class _Speaker:
    """A process that has connected."""

    number: int
    socket: socket.socket
    pid: int | None
    begun: bytearray = field(default_factory=bytearray)
    """Of a line that has not ended."""


class Listener:
    """The socket and who has connected. For one thread. `path` is None where no socket can be made."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._speakers: dict[int, _Speaker] = {}
        self._n_met = 0
        self._folder: str | None = None
        self._socket: socket.socket | None = None
        self.path: str | None = None
        try:
            self._socket, self._folder = _bound()
        except (OSError, AttributeError):  # a full disk, a system without such sockets
            log.warning("no socket to hear a script by", exc_info=True)
            return
        self.path = os.path.join(self._folder, _NAME)
        self._socket.listen(128)
        self._socket.setblocking(False)
        self._selector.register(self._socket, selectors.EVENT_READ, self._meet)

    @property
    def was_found(self) -> bool:
        """Whether any Python has loaded the instrument: each leaves a mark beside the socket."""
        return self._n_met > 0 or (self.path is not None and os.path.exists(self.path + ".python"))

    @property
    def n_open(self) -> int:
        """How many are connected."""
        return len(self._speakers)

    @property
    def pids(self) -> frozenset[int]:
        """The processes that are connected, as the kernel tells them."""
        return frozenset(each.pid for each in self._speakers.values() if each.pid is not None)

    def hear(self, timeout_s: float) -> list[Heard]:
        """What was told since the last call; waits up to `timeout_s` for the first of it."""
        heard: list[Heard] = []
        for key, _ in self._selector.select(timeout_s):
            take: Callable[[], Iterator[Heard]] = key.data
            heard += take()
        return heard

    def pid_of(self, number: int) -> int | None:
        """The process of a speaker, as the kernel tells it; None where it does not."""
        speaker = self._speakers.get(number)
        return None if speaker is None else speaker.pid

    def close(self) -> None:
        """Let everybody go, and remove the folder."""
        for speaker in list(self._speakers.values()):
            self._part(speaker)
        if self._socket is not None:
            self._socket.close()
        self._selector.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _meet(self) -> Iterator[Heard]:
        assert self._socket is not None
        with suppress(BlockingIOError, ConnectionError):
            while True:
                connection, _ = self._socket.accept()
                if len(self._speakers) >= _MOST:
                    connection.close()
                    continue
                connection.setblocking(False)
                self._n_met += 1
                speaker = _Speaker(self._n_met, connection, _pid_of(connection))
                self._speakers[speaker.number] = speaker
                self._selector.register(connection, selectors.EVENT_READ, lambda each=speaker: self._read(each))
        yield from ()

    def _read(self, speaker: _Speaker) -> Iterator[Heard]:
        for _ in range(_ROUNDS):
            try:
                more = speaker.socket.recv(_AT_ONCE)
            except BlockingIOError:
                return
            except OSError:
                more = b""
            if not more:
                self._part(speaker)
                yield speaker.number, None
                return
            speaker.begun += more
            *lines, begun = bytes(speaker.begun).split(b"\n")
            speaker.begun[:] = begun
            for line in lines:
                if (message := _read_line(line)) is not None:
                    yield speaker.number, message
            if len(begun) > _LONGEST_LINE:
                log.warning("process %s sent a line without an end: it is heard no more", speaker.pid)
                self._part(speaker)
                yield speaker.number, None
                return

    def _part(self, speaker: _Speaker) -> None:
        self._speakers.pop(speaker.number, None)
        with suppress(KeyError, ValueError):
            self._selector.unregister(speaker.socket)
        speaker.socket.close()


def _forget_dead(place: str) -> None:
    """Remove what programs have left behind in `place` that were killed: sockets on which nobody listens."""
    for path in list(Path(place).glob(f"traintop-*/{_NAME}"))[:_MOST_DEAD]:
        with suppress(OSError):
            if time.time() - path.stat().st_mtime < _YOUNG_S:  # it may be about to listen
                continue
        with socket.socket(socket.AF_UNIX) as asking:
            try:
                asking.connect(str(path))
            except ConnectionRefusedError:
                shutil.rmtree(path.parent, ignore_errors=True)
            except OSError:  # another user's, or gone meanwhile
                continue


def _bound() -> tuple[socket.socket, str]:
    """A socket in a new folder for this user alone, and the folder. Raises `OSError` where none can be made."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    for place in (tempfile.gettempdir(), runtime, os.path.join(os.sep, "tmp")):
        if not place or len(os.path.join(place, "traintop-12345678", _NAME)) > _LONGEST_PATH:
            continue
        _forget_dead(place)
        with suppress(OSError):
            folder = tempfile.mkdtemp(prefix="traintop-", dir=place)
            made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                made.bind(os.path.join(folder, _NAME))
            except OSError:  # a file system that has none
                made.close()
                shutil.rmtree(folder, ignore_errors=True)
                continue
            return made, folder
    raise OSError(f"{tempfile.gettempdir()} has too long a name for a socket, or none can be made in it")


def _read_line(line: bytes) -> Message | None:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) and isinstance(message.get("kind"), str) else None


def _pid_of(connection: socket.socket) -> int | None:
    """As the kernel knows it (SO_PEERCRED of unix(7): pid, uid, gid); None where it does not tell."""
    if sys.platform != "linux":
        return None
    try:
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    except OSError:
        return None
    pid: int = struct.unpack("3i", credentials)[0]
    return pid or None
