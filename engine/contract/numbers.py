"""Numbers and foreign text as the exports and the comparison write them. Standard library only.

Unknown is "–", never 0; negative numbers carry a true minus sign, as in print.
"""

from __future__ import annotations

import math
import re
import unicodedata

from engine.gpus.units import to_mib

UNKNOWN = "–"
MINUS = "−"

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


def columns_of(text: str) -> int:
    """The columns that `text` takes in a fixed-width font: 2 for a wide character, 0 for a combining one."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def fixed(value: float | None, digits: int = 0, *, separators: bool = False) -> str:
    """Fixed decimals: 66.7 -> "66.70"; "nan" and "inf" in words."""
    if value is None:
        return UNKNOWN
    if math.isnan(value):
        return "nan"
    text = f"{abs(value):{',' if separators else ''}.{digits}f}"  # "inf" is written as such
    return MINUS + text if value < 0 and text.strip("0.,") else text  # what rounds to zero has no sign


def signed(value: float | None, digits: int = 0) -> str:
    """A difference: "−3,450", "+40", "±0"."""
    text = fixed(value, digits, separators=True)
    if value is None or math.isnan(value) or text.startswith(MINUS):
        return text
    return ("+" if text.strip("0.,") else "±") + text


def mib(n_bytes: float | None) -> str:
    """Bytes in whole MiB."""
    return fixed(to_mib(n_bytes))


def digits_of(value: float) -> int:
    """The decimals that give `value` three significant digits."""
    value = abs(value)
    if value == 0 or not math.isfinite(value):
        return 2
    return min(max(0, 2 - int(f"{value:.2e}".partition("e")[2])), 8)


def plus_minus(value: float | None, spread: float | None, digits: int | None = None) -> str:
    """A value and its spread with the same decimals, "7.68 ±0.03"; three significant digits where none are given."""
    if value is None:
        return UNKNOWN
    digits = digits_of(value) if digits is None else digits
    text = fixed(value, digits)
    return text if spread is None or not math.isfinite(value) else f"{text} ±{fixed(abs(spread), digits)}"
