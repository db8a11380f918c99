"""What a user's own command is called where there is little room. Standard library only."""

from __future__ import annotations

from functools import lru_cache
from pathlib import PurePath

from engine.contract.config import RunConfig
from engine.contract.text import one_line

NO_COMMAND = "no command"
_LAUNCHING = ("torch.distributed.run", "torch.distributed.launch", "accelerate.commands.launch")
"""Modules that start the script, and are none."""


def script_name(config: RunConfig) -> str:
    """The script's name, a module's behind `-m`, or the program's: `train.py`, `trl.scripts.sft`, `make`."""
    return NO_COMMAND if config.script is None else _named(config.script.words)


@lru_cache(maxsize=256)
def _named(words: tuple[str, ...]) -> str:
    for before, word in zip(("", *words), words, strict=False):
        if before in ("-m", "--module") and word not in _LAUNCHING:
            return one_line(word)
        if before == "-c":
            return f"{PurePath(words[0]).name} -c"
        if word.endswith((".py", ".sh")):
            return one_line(PurePath(word).name)
    return one_line(PurePath(words[0]).name or words[0])
