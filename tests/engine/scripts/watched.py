"""Runs a script as a command of traintop's: with what looks on inside it, and what that tells."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INSIDE = Path(__file__).parents[3] / "engine/scripts/inside"


@dataclass(frozen=True)
class Watched:
    """What came of it."""

    code: int
    out: str
    err: str
    told: list[list[dict[str, Any]]]
    """The messages of each process that told anything, in the order in which they came."""

    def of(self, kind: str) -> list[dict[str, Any]]:
        """All messages of a kind."""
        return [each for process in self.told for each in process if each["kind"] == kind]

    def updates(self) -> list[dict[str, Any]]:
        """All updates."""
        return [row for each in self.of("updates") for row in each["rows"]]


def plain(words: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command as its user starts it."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env={**inherited, **environment}, capture_output=True, text=True
    )


def watch(words: list[str], folder: Path, **environment: str) -> Watched:
    """The same command, looked on at from inside."""
    path = str(folder / "wire")
    told: list[list[dict[str, Any]]] = []
    readers: list[threading.Thread] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(16)

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                told.append([])
                readers.append(threading.Thread(target=_read, args=(connection, told[-1]), daemon=True))
                readers[-1].start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        beyond = environment.pop("PYTHONPATH", None)
        search = os.pathsep.join(filter(None, (str(INSIDE), beyond)))
        done = plain(words, folder, TRAINTOP_WIRE=path, PYTHONPATH=search, **environment)
        listener.shutdown(socket.SHUT_RDWR)
    accepting.join()
    for reader in readers:
        reader.join()
    return Watched(done.returncode, done.stdout, done.stderr, told)


def _read(connection: socket.socket, into: list[dict[str, Any]]) -> None:
    with connection, connection.makefile() as lines:
        into += [json.loads(line) for line in lines]
