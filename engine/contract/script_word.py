"""Which word of a user's own command is the script, told from the words alone. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

_PYTHON = re.compile(r"(?:python|pypy)[\d.]*(?:\.exe)?")
_PYTHON_WITH_VALUE = frozenset(("-W", "-X", "--check-hash-based-pycs"))
_LAUNCHERS = frozenset(("torchrun", "accelerate", "accelerate-launch", "deepspeed", "composer", "fabric", "ray"))
"""Programs whose first word that is a Python file, or is behind `-m`, is the script."""
_SHELLS = frozenset(("bash", "sh", "zsh", "dash", "ksh", "fish"))
_WRAPPERS = frozenset(
    ("nice", "ionice", "taskset", "numactl", "env", "time", "nohup", "stdbuf", "timeout", "uv", "poetry", "pipenv")
)
"""Programs that start the rest of the line, after options of their own."""
_LAUNCHING_MODULES = frozenset(
    ("torch.distributed.run", "torch.distributed.launch", "accelerate.commands.launch", "deepspeed.launcher.runner")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptWord:
    """Which word of a command is the script."""

    at: int
    """Its place; words after it are the script's own."""
    is_module: bool = False
    """Whether it is a module's name, behind `-m`."""


def script_word(words: Sequence[str]) -> ScriptWord | None:
    """Which word is the script: behind Python and its options, and behind a launcher and its flags; of another program
    that itself. None where there is none, as in `python -c`.
    """
    at = _program(words)
    if at is None:
        return None
    name = PurePath(words[at]).name
    if _PYTHON.fullmatch(name):
        return _behind_python(words, at + 1)
    if name in _LAUNCHERS:
        return _behind_launcher(words, at + 1)
    if name in _SHELLS:
        return _behind_shell(words, at + 1)
    return ScriptWord(at=at)


def _program(words: Sequence[str]) -> int | None:
    """The first word that is a program which starts nothing else: after `nice -n 5`, and `CUDA_VISIBLE_DEVICES=0`."""
    at = 0
    if words and PurePath(words[0]).name not in _WRAPPERS:
        return at
    for at, word in enumerate(words):
        name = PurePath(word).name
        if _PYTHON.fullmatch(name) or name in _LAUNCHERS or (at and word.endswith(".py")):
            return at
    return None


def _behind_python(words: Sequence[str], at: int) -> ScriptWord | None:
    while at < len(words):
        word = words[at]
        if word == "-m":
            return _module(words, at + 1)
        if word == "-" or word.startswith(("-c", "-m")):
            return None
        if not word.startswith("-"):
            return ScriptWord(at=at)
        at += 2 if word in _PYTHON_WITH_VALUE else 1
    return None


def _behind_shell(words: Sequence[str], at: int) -> ScriptWord | None:
    for place in range(at, len(words)):
        word = words[place]
        if not word.startswith(("-", "+")):
            return ScriptWord(at=place)
        if "c" in word and not word.startswith("--"):  # a line of commands, as in `bash -lc`
            return None
    return None


def _module(words: Sequence[str], at: int) -> ScriptWord | None:
    if at >= len(words):
        return None
    return _behind_launcher(words, at + 1) if words[at] in _LAUNCHING_MODULES else ScriptWord(at=at, is_module=True)


def _behind_launcher(words: Sequence[str], at: int) -> ScriptWord | None:
    """A launcher's flags have values of all kinds, but none that ends in `.py`."""
    for place in range(at, len(words)):
        if words[place] in ("-m", "--module") and place + 1 < len(words):
            return ScriptWord(at=place + 1, is_module=True)
        if words[place].endswith(".py"):
            return ScriptWord(at=place)
    return None
