"""Folders that are there whole or not at all, whatever happens while they are written. Standard library only."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PARTIAL = ".partial"


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A folder to write into, which is `target` once all of it is on the disk; one of that name gives way to it then.

    What is raised inside leaves what was there before as it was. Raises `OSError`.
    """
    partial = _begun(target)
    try:
        yield partial
        _sync(partial)
        before = target.with_name(f".{target.name}.old{_PARTIAL}")
        if target.exists():
            shutil.rmtree(before, ignore_errors=True)
            target.rename(before)
        partial.rename(target)
        _sync_folder(target.parent)
        shutil.rmtree(before, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def into_folder(target: Path) -> Iterator[Path]:
    """A folder to write into, whose files go into `target`, each whole, once all are on the disk; others stay there.

    What is raised inside leaves what was there before as it was. Raises `OSError`.
    """
    partial = _begun(target / "model")
    try:
        yield partial
        _sync(partial)
        for file in sorted(partial.rglob("*")):
            place = target / file.relative_to(partial)
            if file.is_dir():
                place.mkdir(exist_ok=True)
            else:
                os.replace(file, place)
        _sync_folder(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what a process that was killed has left half written in `folder`."""
    for left in folder.glob(f".*{_PARTIAL}"):
        original = left.with_name(left.name[1:].removesuffix(f".old{_PARTIAL}"))
        if left.name.endswith(f".old{_PARTIAL}") and not original.exists():  # killed between the two renames
            left.rename(original)
        else:
            shutil.rmtree(left, ignore_errors=True)


def partial_of(target: Path) -> Path:
    """What a folder is called while it is written."""
    return target.with_name(f".{target.name}{_PARTIAL}")


def _begun(target: Path) -> Path:
    partial = partial_of(target)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


def _sync(folder: Path) -> None:
    mode = folder.stat().st_mode & 0o666  # as the umask has it; safetensors makes files for their owner alone
    for file in folder.rglob("*"):
        if file.is_file():
            if file.stat().st_nlink == 1:  # another name of a file is that one's
                file.chmod(mode)
            with file.open("rb") as written:
                os.fsync(written.fileno())
        else:
            _sync_folder(file)
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
