"""Text from files, models and logs, made harmless for a terminal. What it returns is drawn with markup off."""

from __future__ import annotations

import re
from itertools import islice

from rich.cells import cell_len, get_character_cell_size

ELLIPSIS = "…"
NEWLINE = "⏎"

_CONTROL = "\x00-\x1f\x7f-\x9f"
# ECMA-48: control strings (OSC, DCS, SOS, PM, APC) with their payload if they are ended, CSI sequences, two-character
# escapes, each also with its 8-bit introducer. Payloads hold no control, so every scan ends at the next escape: linear.
_ESCAPES = re.compile(
    f"(?:\x1b[\\]PX^_]|[\x90\x98\x9d-\x9f])[^{_CONTROL}]*(?:\x07|\x1b\\\\|\x9c)"
    "|(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]?"
    "|\x1b[ -/]*[0-~]?"
)
_NEWLINES = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_BLANKS = re.compile("[\t\x0b\x0c]")
# Controls, soft hyphen, grapheme joiner, bidi marks, embeddings, overrides and isolates, zero-width spaces and joiners,
# blank fillers, variation selectors (they change a character's width), interlinear and tag characters.
_INVISIBLE = re.compile(
    f"[{_CONTROL}\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff]"
)
_OBEYED = re.compile(f"[{_CONTROL}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_SURROGATES = re.compile("[\ud800-\udfff]")
_MARK = "\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
_STACKED = re.compile(f"([{_MARK}]{{2}})[{_MARK}]+")


def clean(text: str, limit: int | None = None) -> str:
    """`text` as one line that a terminal shows and does not obey, in at most `limit` cells (wide characters take 2).

    Escape sequences, controls, bidi overrides and invisible characters go; a newline becomes ⏎ (none at the ends), a
    tab a space; stacks of combining marks are cut to two; "…" stands for what is cut off. Takes time linear in the
    text, or in `limit` if one is given.
    """
    cut = False
    if limit is not None:
        room = 16 * max(limit, 0) + 1024  # what may be read of a hostile line: enough for ordinary colour codes
        cut, text = len(text) > room, text[:room]
    if not (text.isascii() and text.isprintable()):
        text = _SURROGATES.sub("\ufffd", _STACKED.sub(r"\1", _INVISIBLE.sub("", _visible_breaks(text))))
    return text if limit is None else _fit(text, limit, cut)


def harmless(text: str) -> str:
    """`text` without the characters that a terminal obeys: the last line of defence, after `clean` where text enters.

    None of them has a width, so that a text keeps the one that was measured; half a surrogate pair becomes U+FFFD.
    """
    if (text.isascii() and text.isprintable()) or not _OBEYED.search(text):
        return text
    return _OBEYED.sub("", _SURROGATES.sub("\ufffd", text))


def _visible_breaks(text: str) -> str:
    return _BLANKS.sub(" ", _NEWLINES.sub(NEWLINE, _ESCAPES.sub("", text).strip("\r\n")))


def _fit(text: str, limit: int, cut: bool) -> str:
    """`text` in at most `limit` cells; `cut` says that something is missing after it already."""
    if limit <= 0:
        return ""
    if not cut and cell_len(text) <= limit:
        return text
    used, end = 0, 0
    for char in islice(text, limit * 16):
        used += get_character_cell_size(char)
        if used > limit - 1:
            break
        end += 1
    return text[:end] + ELLIPSIS
