"""Runs scripts as commands of traintop's: with what looks on inside them, and what that tells."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INSIDE = Path(__file__).parents[3] / "engine/scripts/inside"

_FORKS = """
import gc, os, runpy, sys
import {preload}
gc.freeze()  # else each process looks through all that was imported at its end
for script in sys.argv[1:]:
    if not (child := os.fork()):
        for stream, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{{script}}.{{name}}", os.O_CREAT | os.O_WRONLY | os.O_TRUNC), stream)
        os.chdir(os.path.dirname(script))
        sys.argv, sys.path[0] = [script, *open(script + ".words").read().split()], os.path.dirname(script)
        break
    with open(script + ".code", "w") as file:
        file.write(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))
    script = None
if script:
    runpy.run_path(script, run_name="__main__")
"""
"""Many scripts, each in a process of its own, for the price of one import."""


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

    @property
    def end(self) -> dict[str, Any]:
        """The last message of the only process."""
        [end] = self.of("end")
        return end


def plain(
    words: list[str], folder: Path, *, python: str = sys.executable, **environment: str
) -> subprocess.CompletedProcess[str]:
    """A command as its user starts it."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [python, *words], cwd=folder, env={**inherited, **environment}, capture_output=True, text=True, check=False
    )


def watch(words: list[str], folder: Path, *, python: str = sys.executable, **environment: str) -> Watched:
    """The same command, looked on at from inside."""
    path = str(folder / "wire")
    told: list[list[dict[str, Any]]] = []
    readers: list[threading.Thread] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(64)

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
        done = plain(words, folder, python=python, TRAINTOP_WIRE=path, PYTHONPATH=search, **environment)
        listener.shutdown(socket.SHUT_RDWR)
    accepting.join()
    for reader in readers:
        reader.join()
    Path(path).unlink()
    return Watched(done.returncode, done.stdout, done.stderr, told)


def both(
    scripts: Mapping[str, str],
    folder: Path,
    *,
    preload: str = "torch, torch._dynamo",
    words: Mapping[str, str] | None = None,
    files: Mapping[str, Mapping[str, str]] | None = None,
) -> dict[str, tuple[Watched, Watched]]:
    """Scripts by name, each run alone and looked on at. `words`: of their command lines; `files`: beside them."""
    for name, text in scripts.items():
        (folder / name).mkdir()
        for beside, content in {"train.py": text, **(files or {}).get(name, {})}.items():
            (folder / name / beside).parent.mkdir(exist_ok=True)
            (folder / name / beside).write_text(content)
        (folder / name / "train.py.words").write_text((words or {}).get(name, ""))
    (folder / "forks.py").write_text(_FORKS.format(preload=preload))
    command = ["forks.py", *(str(folder / name / "train.py") for name in scripts)]
    alone = plain(command, folder, OMP_NUM_THREADS="1")
    assert alone.returncode == 0, alone.stderr
    left = {name: _left(folder / name, []) for name in scripts}
    seen = watch(command, folder, OMP_NUM_THREADS="1")
    assert seen.code == 0, seen.err
    return {name: (left[name], _left(folder / name, seen.told)) for name in scripts}


def _left(folder: Path, told: list[list[dict[str, Any]]]) -> Watched:
    script = str(folder / "train.py")
    code, out, err = ((Path(f"{script}.{name}")).read_text() for name in ("code", "out", "err"))
    its = [messages for messages in told if messages[0]["argv"][0] == script]
    return Watched(int(code), out, err, its)


def _read(connection: socket.socket, into: list[dict[str, Any]]) -> None:
    with connection, connection.makefile() as lines:
        into += [json.loads(line) for line in lines]
