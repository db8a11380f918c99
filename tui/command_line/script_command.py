"""The user's own command on the command line: what stands after `--`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from engine.contract.config import KNOBS

HELP = (
    "A command after -- is your own training script: it runs as it is, is watched from inside, and its flags are the\n"
    "knobs. {batch_size} in it is that knob's value, {precision:bf16=bfloat16,fp32=float32} the script's own word for\n"
    "it, {block_size=256,512} a knob of the script's own (quote braces with a comma, which a shell would take apart).\n"
    "A word that is empty is left out, which makes switches: {amp=,--amp}, {precision:bf16=--amp,*=}; * is any other\n"
    "value. {run} is the run's number. Scripts that read transformers.TrainingArguments need none of it: their flags\n"
    "are found, and knobs that are turned are added."
)
"""For the help of a command that takes one, before its example."""
_EXPANDED = re.compile(r"(?P<flag>-*(?:[\w.-]+=)?)(?P<name>[A-Za-z_][\w-]*)(?P<sign>[=:])")


def split(words: Sequence[str]) -> tuple[Sequence[str], Sequence[str] | None]:
    """The flags before the first `--`, and the command after it; None where there is no `--`."""
    if "--" not in words:
        return words, None
    at = list(words).index("--")
    return words[:at], words[at + 1 :]


def trouble(command: Sequence[str]) -> str | None:
    """What is wrong with the words of a command that no reading of placeholders can tell; None: nothing.

    A shell makes two words of `--n={n=1,2}` where it is not quoted: `--n=n=1` and `--n=2`.
    """
    if not command or not command[0]:
        return "there is no command after --: give one, as in -- python train.py."
    for before, word, following in zip(("", *command), command, command[1:], strict=False):
        found = _EXPANDED.match(word)
        if found is None or not following.startswith(found["flag"]):
            continue
        name, first, second = found["name"].replace("-", "_"), word[found.end("flag") :], following[found.end("flag") :]
        is_own = found["sign"] == "=" and (found["flag"] or before).strip("-=").replace("-", "_") == name
        if is_own or (found["sign"] == ":" and name in KNOBS and "=" in first and "=" in second):
            return (
                f"the shell has taken the braces of {{{first},{second}}} apart: put the word in quotes, "
                f"'{found['flag']}{{{first},{second}}}'."
            )
    return None
