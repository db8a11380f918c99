"""The user's command as a process of its own, without a terminal, in a session and a process group of its own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from engine.contract.config import ConfigError

INSIDE = Path(__file__).with_name("inside")
"""What every Python process of the command finds before anything else."""
_MAX_UPDATES = "TRAINTOP_MAX_UPDATES"
WIRE = "TRAINTOP_WIRE"
"""The environment's word for the socket; no other command has the same one."""


def environment_of(
    environ: Mapping[str, str], wire: str | None, changes: Mapping[str, str], max_updates: int | None = None
) -> dict[str, str]:
    """The environment of a command: that of its user, with `changes`, and with what makes it tell over `wire`.

    Prints come line by line, as they do to a terminal, unless the user has said otherwise. `max_updates`: those that it
    is run for.
    """
    environment = {"PYTHONUNBUFFERED": "1", **environ, **changes}
    environment.pop(_MAX_UPDATES, None)  # of a run that this one is started in
    if max_updates is not None:
        environment[_MAX_UPDATES] = str(max_updates)
    if wire is not None:
        search = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = str(INSIDE) + (os.pathsep + search if search else "")
        environment[WIRE] = wire
    return environment


_UNDER_WAY: set[Child] = set()


def leave_nothing() -> None:
    """This process ends now: end all that its commands started. Does nothing where none is under way."""
    for child in list(_UNDER_WAY):
        child.signal(signal.SIGKILL)


def check(words: Sequence[str], environ: Mapping[str, str]) -> None:
    """Raise `ConfigError` where the program of a command is not there."""
    word = words[0]
    if shutil.which(word, path=environ.get("PATH")) is not None:
        return
    path = Path(word)
    if os.sep in word and path.exists():
        what = "is a folder" if path.is_dir() else f"may not be executed: use chmod +x {word}, or its interpreter"
        raise ConfigError("command", f"The command {word} {what}.")
    if re.fullmatch(r"\w+=.*", word):
        fix = f"a variable is set with env, as in -- env {word} python train.py"
    elif word == "python" and shutil.which("python3", path=environ.get("PATH")):
        fix = "python3 is there"
    elif word.endswith(".py"):
        fix = f"use python {word}"
    else:
        fix = "give a program of your PATH, or its path"
    raise ConfigError("command", f"The command {word} is not there: {fix}.")


class Child:
    """The command under way, with all the processes that it started."""

    def __init__(self, words: Sequence[str], environment: Mapping[str, str], descriptors: tuple[int, int]) -> None:
        """Start it. Raises `ConfigError` where the system cannot."""
        out, err = descriptors
        try:
            self._process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment, start_new_session=True
            )
        except (OSError, ValueError) as error:
            raise ConfigError("command", _why_not(words[0], error)) from None
        self._wire = environment.get(WIRE)
        self._family: dict[int, psutil.Process] = {}
        self.pid = self._process.pid
        _UNDER_WAY.add(self)

    def poll(self) -> int | None:
        """How the command itself ended: its exit code, negative for a signal; None while it goes on."""
        code = self._process.poll()
        if code is not None:
            _UNDER_WAY.discard(self)
        return code

    def remember(self, others: Iterable[int] = ()) -> None:
        """Note who belongs to it: what it started, what those started, and `others`, which said so themselves.

        Once the command has ended those are found that stayed in its session, or have its environment, as daemons do.
        """
        with suppress(psutil.Error):
            for each in psutil.Process(self.pid).children(recursive=True):
                self._family.setdefault(each.pid, each)
        left = [pid for pid in psutil.pids() if _session_of(pid) == self.pid or self._has_wire(pid)]
        for pid in (*left, *others):
            with suppress(psutil.Error):
                self._family.setdefault(pid, psutil.Process(pid))
        self._family.pop(os.getpid(), None)

    def _has_wire(self, pid: int) -> bool:
        with suppress(psutil.Error, OSError):
            return self._wire is not None and psutil.Process(pid).environ().get(WIRE) == self._wire
        return False

    def signal(self, number: int) -> None:
        """To its process group, as a terminal does it; SIGKILL to everybody, as nobody is left to pass it on."""
        self.remember()
        if self._process.returncode is None:  # else its number may be another's
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)
        if number == signal.SIGKILL:
            self.signal_others(number)

    def signal_others(self, number: int) -> None:
        """To all that it started, and that are still there."""
        for each in self.others:
            with suppress(psutil.Error):
                each.send_signal(number)

    @property
    def others(self) -> list[psutil.Process]:
        """What it started, as far as it is known, and that is still there."""
        return [each for each in self._family.values() if each.pid != self.pid and is_there(each)]


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def is_there(process: psutil.Process) -> bool:
    """Whether a process goes on: one that has ended and is waited for does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _why_not(word: str, error: OSError | ValueError) -> str:
    if isinstance(error, ValueError):  # a NUL in a word
        return f"The command cannot be started: {error}."
    if isinstance(error, FileNotFoundError) or error.errno is None:
        return f"The command {word} cannot be started: it, or the interpreter in its first line, is not there."
    if isinstance(error, PermissionError):
        return f"The command {word} cannot be started: it may not be executed: use chmod +x, or python {word}."
    what = (error.strerror or str(error)).rstrip(".")
    hint = f": give its interpreter, as in python {word}" if "format" in what.lower() else ""
    return f"The command {word} cannot be started ({what}){hint}."
