"""Sends the terminal only the cells that changed.

Textual finds out which regions of a line are dirty, but then sends the line from the widget's left edge up to the
region's right one, once per region, each piece of text with its full style. On a screen of live numbers that is five
times the bytes; this module sends the dirty cells themselves, and of a style only what differs from the one before.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import islice
from typing import NamedTuple

from rich.color import ColorSystem
from rich.console import Console
from rich.control import Control
from rich.style import Style
from textual._compositor import ChopsUpdate, Compositor, LayoutUpdate
from textual.strip import Strip

from tui.drawing.text import harmless


class SpanUpdate(ChopsUpdate):
    """A partial update that is cut to its spans at both ends."""

    def render_segments(self, console: Console) -> str:
        """The update as the text to write to the terminal."""
        parts: list[str] = []
        system = console._color_system or ColorSystem.TRUECOLOR
        pen = _PLAIN
        for y, first, last in self.spans:
            for end, (x, strip) in zip(self.chop_ends[y], self.chops[y].items(), strict=True):
                if strip is None or x >= last or end <= first:
                    continue
                start = max(x, first)
                parts.append(Control.move_to(start, y).segment.text)
                pen = _write(strip.crop(start - x, min(end, last) - x), system, pen, parts)
        parts.append(_change(pen, _PLAIN))
        return "".join(parts)


class Pen(NamedTuple):
    """What the terminal writes with, in the codes of SGR."""

    attributes: frozenset[str] = frozenset()
    ink: str = ""
    paper: str = ""


_PLAIN = Pen()
_ON_BLANKS = frozenset("4578") | {"9", "21", "53"}
"""Attributes that a blank shows too: underlined, blinking, reversed, concealed, struck out, …"""


def _write(strip: Strip, system: ColorSystem, pen: Pen, parts: list[str]) -> Pen:
    """Append a strip's text to `parts`, and of its styles what changes; returns the pen in the terminal's hand.

    Every text of the screen, that of dialogs too, comes through here: none is obeyed.
    """
    for raw, style, control in strip:
        text = harmless(raw)
        if control or not text:
            continue
        wanted = _PLAIN
        if style is not None:
            styled = _pen(style, system)
            if styled is None:  # a link: as it comes
                parts.append(_change(pen, _PLAIN) + Strip.render_style(style, text, color_system=system))
                pen = _PLAIN
                continue
            wanted = styled
        if text.isspace() and _ON_BLANKS.isdisjoint(wanted.attributes | pen.attributes):
            wanted = Pen(pen.attributes, pen.ink, wanted.paper)
        if wanted != pen:
            parts.append(_change(pen, wanted))
            pen = wanted
        parts.append(text)
    return pen


@lru_cache(maxsize=512)
def _pen(style: Style, system: ColorSystem) -> Pen | None:
    """The pen that a style is written with; None for a link, which is more than a pen."""
    opening, _, closing = Strip.render_style(style, "x", color_system=system).partition("x")
    if not opening:
        return _PLAIN
    if closing != "\x1b[0m":
        return None
    attributes, ink, paper = set(), "", ""
    codes = iter(opening[2:-1].split(";"))
    for code in codes:
        whole = code
        if code in ("38", "48"):
            kind = next(codes)
            whole = ";".join([code, kind, *islice(codes, 3 if kind == "2" else 1)])
        if code == "38" or (code[0] in "39" and len(code) == 2):
            ink = whole
        elif code == "48" or code[:-1] in ("4", "10"):
            paper = whole
        else:
            attributes.add(code)
    return Pen(frozenset(attributes), ink, paper)


@lru_cache(maxsize=4096)
def _change(before: Pen, after: Pen) -> str:
    """The shortest way from one pen to another."""
    if before == after:
        return ""
    codes = []
    if not before.attributes <= after.attributes or after == _PLAIN:
        codes, before = ["0"], _PLAIN
    codes += sorted(after.attributes - before.attributes)
    if after.ink != before.ink:
        codes.append(after.ink or "39")
    if after.paper != before.paper:
        codes.append(after.paper or "49")
    return f"\x1b[{';'.join(codes)}m"


class PlainUpdate(LayoutUpdate):
    """A whole screen, with of each style only what changes."""

    def render_segments(self, console: Console) -> str:
        """The update as the text to write to the terminal."""
        parts: list[str] = []
        system = console._color_system or ColorSystem.TRUECOLOR
        pen = _PLAIN
        for y, line in enumerate(self.strips, self.region.y):
            parts.append(Control.move_to(self.region.x, y).segment.text)
            for strip in line:
                pen = _write(strip, system, pen, parts)
        parts.append(_change(pen, _PLAIN))
        return "".join(parts)


class SpanCompositor(Compositor):
    """Textual's compositor with smaller updates."""

    def render_full_update(self, simplify: bool = False) -> LayoutUpdate:
        """The whole screen."""
        update = super().render_full_update(simplify)
        return PlainUpdate(update.strips, update.region)

    def render_partial_update(self) -> ChopsUpdate | None:
        """What is dirty; None when nothing is."""
        update = super().render_partial_update()
        return None if update is None else SpanUpdate(update.chops, update.spans, update.chop_ends)
