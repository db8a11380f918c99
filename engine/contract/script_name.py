"""What a user's own command is called where there is little room. Standard library only."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import PurePath

from engine.contract.command import Placeholder
from engine.contract.config import RunConfig
from engine.contract.script_word import script_word
from engine.contract.text import one_line

NO_COMMAND = "no command"
_LINE = re.compile(r"-[a-z]*c")
"""In front of a line of commands, as in `bash -lc`."""


def script_name(config: RunConfig) -> str:
    """The script's name, a module's behind `-m`, or the program's: `train.py`, `trl.scripts.sft`, `make`."""
    command = config.script
    if command is None:
        return NO_COMMAND
    return _named(tuple(map(_shown, command.words, command.parts)))


def _shown(word: str, parts: tuple[str | Placeholder, ...]) -> str:
    """A word without placeholders as the script gets it: its own braces are doubled where they are typed."""
    texts = [part for part in parts if isinstance(part, str)]
    return "".join(texts) if len(texts) == len(parts) else word


@lru_cache(maxsize=256)
def _named(words: tuple[str, ...]) -> str:
    script = script_word(words)
    if script is None:
        option = "-c" if any(_LINE.fullmatch(word) for word in words) else " ".join(words[1:2])
        return one_line(f"{PurePath(words[0]).name} {option}")
    word = words[script.at]
    return one_line(word if script.is_module else PurePath(word).name) or one_line(word)
