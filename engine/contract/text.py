"""Foreign text as what leaves the program holds it: nothing in it is obeyed. Standard library only."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

# Controls (but not tab and newline), bidi marks and overrides, zero-width and other invisible characters, tags, halves
# of surrogate pairs: a terminal, a web page or TeX would obey or hide them. Variation selectors are text: they choose
# among the shapes of the character before them (Unicode 23.4), as names in Japanese do.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff0-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e00ff\U000e01f0-\U000e0fff]"
)


def harmless(text: str) -> str:
    """`text` with each character that is obeyed rather than shown as U+FFFD; tabs and newlines are kept."""
    return _UNSAFE.sub("\ufffd", text)


def one_line(text: str) -> str:
    """`harmless` text without tabs and newlines."""
    return " ".join(harmless(text.replace("\r", "\n")).split())


def capitalised(sentence: str) -> str:
    """With a capital at its begin, and all else as it is."""
    return sentence[:1].upper() + sentence[1:]


def first_line(error: BaseException) -> str:
    """What an error says, of several lines the first; of one that says nothing its name."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def counted(names: Iterable[str]) -> str:
    """Things by their names, as people count them: `2 × Tesla P4`, `Tesla P4, 2 × Tesla T4`."""
    return ", ".join(f"{n} × {name}" if n > 1 else name for name, n in Counter(names).items())


def enumerated(parts: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def columns_of(text: str) -> int:
    """The columns that `text` takes in a fixed-width font: 2 for a wide character, 0 for a combining one."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )
