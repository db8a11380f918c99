"""A run to take elsewhere as a command line of traintop; `engine.export.trainer_script` writes it as a script.

Standard library only; nothing here is executed, and text from configurations is quoted for its reader.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from string import ascii_letters, digits

from engine.contract.by_job import defaults_of, goes_without_saying
from engine.contract.config import KNOBS, RunConfig
from engine.contract.knob import typed
from engine.contract.own_data import is_own_file


def command_line(config: RunConfig) -> str:
    """The command that does this run again: `traintop run --batch-size 16 …` with the knobs that are not at default;
    `traintop answer …` of one that answers, `traintop run … -- python train.py` of a script.

    It is quoted for a POSIX shell (control characters as `$'\\033'`: bash, zsh, ksh), and safe to paste.
    """
    command = () if config.script is None else ("--", *map(_quoted, config.script.words))
    return " ".join(("traintop answer" if config.answers else "traintop run", *_words(config), *command))


def flags_of(config: RunConfig) -> str:
    """The flags that make `config` out of its job's defaults, quoted as `command_line`'s; empty for the defaults.

    Of a script without its command.
    """
    return " ".join(_words(config))


def _words(config: RunConfig) -> Iterator[str]:
    defaults = defaults_of(config.job).to_dict()
    if config.answers:
        defaults |= goes_without_saying({"prompts": config.prompts, "prompt": config.prompt})
    own_file = is_own_file(config.workload, config.data)
    for name, knob in KNOBS.items():
        value = getattr(config, name)
        if name == "command" or (config.is_script and name == "job" and config.command):
            continue  # what stands behind -- says it
        # a file of data implies another workload than the default one
        implied = name == "workload" and config.data is not None
        unset = None if name == "samples" and own_file else defaults[name]
        if value == unset and not implied:
            continue
        text = typed(value)
        # a word with a leading dash would be taken for a flag
        yield f"{knob.flag}={_quoted(text)}" if text.startswith("-") else f"{knob.flag} {_quoted(text)}"


def _quoted(text: str) -> str:
    """A shell word; what a terminal would obey when it is pasted is written in escapes."""
    if text.isprintable():
        return shlex.quote(text)
    text = text.replace("\0", "\ufffd")  # no argument can hold it
    try:
        raw = text.encode("utf-8", "surrogateescape")  # file names that are not UTF-8
    except UnicodeEncodeError:
        raw = text.encode("utf-8", "replace")
    return "$'" + "".join(chr(byte) if byte in _PLAIN else f"\\{byte:03o}" for byte in raw) + "'"


_PLAIN = frozenset(f"{ascii_letters}{digits}/._- ".encode())
