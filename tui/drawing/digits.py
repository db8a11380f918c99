"""Figures three rows high, to be read from the back of a lecture hall. Pure."""

from __future__ import annotations

from tui.drawing.cells import Line

HEIGHT = 3
_WIDE = 3
"""Columns of a figure; points and commas are narrower."""

_GLYPHS = {
    "0": ("┏━┓", "┃ ┃", "┗━┛"),
    "1": ("╺┓ ", " ┃ ", "╺┻╸"),
    "2": ("╺━┓", "┏━┛", "┗━╸"),
    "3": ("╺━┓", " ━┫", "╺━┛"),
    "4": ("╻ ╻", "┗━┫", "  ╹"),
    "5": ("┏━╸", "┗━┓", "╺━┛"),
    "6": ("┏━╸", "┣━┓", "┗━┛"),
    "7": ("╺━┓", "  ┃", "  ╹"),
    "8": ("┏━┓", "┣━┫", "┗━┛"),
    "9": ("┏━┓", "┗━┫", "╺━┛"),
    "–": ("   ", "╺━╸", "   "),
    "−": ("   ", "╺━╸", "   "),
    ".": (" ", " ", "▪"),
    ",": (" ", " ", ","),
    " ": ("  ", "  ", "  "),
}


def large(text: str, role: str, label: str = "", width: int | None = None) -> list[Line]:
    """`text` in large digits, what has none as it is in the last row; `label` behind it where `width` has room."""
    rows: list[str] = [""] * HEIGHT
    for character in text:
        glyph = _GLYPHS.get(character, (" ", " ", character))
        gap = " " if len(glyph[0]) == _WIDE else ""  # in ASCII two figures side by side would be one
        rows = [row + part + gap for row, part in zip(rows, glyph, strict=True)]
    lines: list[Line] = [[(" " + row, role)] for row in rows]
    if label and (width is None or len(rows[-1]) + len(label) + 2 <= width):
        lines[-1].append((f" {label}", "muted"))
    return lines
