"""Which word of a command is the script. Standard library only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """The script's word; those before it are the launcher's."""

    at: int
    path: Path | None
    """Its source; None where it is none of the working directory's."""


def script_of(words: Sequence[str]) -> Script | None:
    """The first word that is a Python file, or that stands after `-m`, but for launchers; None without one."""
    for at, word in enumerate(words):
        if word.endswith(".py"):
            return Script(at=at, path=Path(word))
        if at and words[at - 1] == "-m" and not word.startswith(("torch.", "accelerate.", "deepspeed")):
            return Script(at=at, path=_module(word))
        if word in ("sft",) and at and Path(words[at - 1]).name == "trl":
            return Script(at=at, path=None)
    return None


def _module(name: str) -> Path | None:
    path = Path(*name.split("."))
    return next((each for each in (path.with_suffix(".py"), path / "__main__.py") if each.is_file()), None)
