"""Plain ASCII in the place of everything else, for terminals and locales without UTF-8.

What is written to the terminal is translated, character by character, as the last thing: braille becomes dots and
strokes, frames and blocks their nearest likeness, and what has none a question mark for each column it takes.
"""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Mapping
from typing import TextIO

from tui.drawing.plot import ASCII, BRAILLE
from tui.terminal.link import Link, TerminalStream

_LIKE = {
    "─━╌╍═╺╸": "-",
    "│┃║▏▎▍╻╹": "|",
    "┌┐└┘├┤┬┴┼╭╮╰╯▛▜▙▟┏┓┗┛┣┫┻": "+",
    "█▉▊▋▌▇▆▅": "#",
    "▓": "%",
    "▒": "+",
    "▚": "x",
    "▞": "k",
    "▄▃": "=",
    "▂▁▔▀▕": "_",
    "░┊": ":",
    "·•▪": ".",
    "◇": "o",
    "–−—‐": "-",
    "→▸▶❯": ">",
    "←◀❮": "<",
    "↑▲⇧": "^",
    "↓▼": "v",
    "×": "x",
    "‹": "<",
    "›": ">",
    "…": ".",
    "●■": "*",
    "≈": "~",
    "Δ": "D",
    "±": "~",
    "°": "o",
    "“”": '"',
    "’‘": "'",
    "⏎": "/",
    "\xa0": " ",
}
_TABLE = {ord(character): ascii_ for characters, ascii_ in _LIKE.items() for character in characters}


def _dots(braille: str) -> str:
    """A braille cell as a cell of `tui.drawing.plot.ASCII`: which of its two halves has a dot."""
    bits = BRAILLE.cells.index(braille)
    rows = bits & 0xF | bits >> BRAILLE.dots_y
    return ASCII.cells[bool(rows & 0b0011) | bool(rows & 0b1100) << 1]


class _Translation(dict[int, str]):
    def __missing__(self, code: int) -> str:
        character = chr(code)
        if code < 128:
            text = character
        elif 0x2800 <= code <= 0x28FF:
            text = _dots(character) if code > 0x2800 else " "
        elif unicodedata.combining(character):
            text = ""
        else:
            text = "??" if unicodedata.east_asian_width(character) in "WF" else "?"
        self[code] = text
        return text


_TRANSLATION = _Translation(_TABLE)


def plain(text: str) -> str:
    """`text` in ASCII, in as many columns; escape sequences stay what they are."""
    return text if text.isascii() else text.translate(_TRANSLATION)


class AsciiStream(TerminalStream):
    """A terminal's stream that shows everything in ASCII."""

    def write(self, text: str) -> int:
        """Translate and write."""
        super().write(plain(text))
        return len(text)


def stream_to(terminal: TextIO, link: Link, *, in_ascii: bool = False) -> TerminalStream:
    """The stream that the app draws on, in ASCII where that is asked for or needed."""
    return (AsciiStream if in_ascii or is_needed() else TerminalStream)(terminal, link)


def is_needed(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the locale or the kind of terminal says that there is no UTF-8, or no braille."""
    if environment.get("TERM", "").partition("-")[0] in ("linux", "vt52", "vt100", "vt102", "vt220", "cons25"):
        return True
    names = ["LC_ALL", "LC_CTYPE", "LANG"]
    if environment.get("LC_CTYPE") == "C.UTF-8" and environment.get("LANG") in ("C", "POSIX"):
        names.remove("LC_CTYPE")  # Python's own doing (PEP 538), not the person's
    locale = next((value for name in names if (value := environment.get(name))), "")
    if not locale or sys.platform in ("win32", "darwin"):  # nothing is said: terminals of today have UTF-8
        return False
    codeset = locale.partition(".")[2].partition("@")[0]
    return codeset.lower().replace("-", "") != "utf8"
