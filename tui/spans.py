"""Sends the terminal only the cells that changed.

Textual finds out which regions of a line are dirty, but then sends the line from the widget's left edge up to the
region's right one, once per region, each piece of text with its full style. On a screen of live numbers that is five
times the bytes; this module sends the dirty cells themselves, and a style only where it differs from the one before.
"""

from __future__ import annotations

from functools import lru_cache

from rich.color import ColorSystem
from rich.console import Console
from rich.control import Control
from rich.style import Style
from textual._compositor import ChopsUpdate, Compositor, LayoutUpdate
from textual.strip import Strip


class SpanUpdate(ChopsUpdate):
    """A partial update that is cut to its spans at both ends."""

    def render_segments(self, console: Console) -> str:
        """The update as the text to write to the terminal."""
        parts: list[str] = []
        system = console._color_system or ColorSystem.TRUECOLOR
        pen = ""
        for y, first, last in self.spans:
            for end, (x, strip) in zip(self.chop_ends[y], self.chops[y].items(), strict=True):
                if strip is None or x >= last or end <= first:
                    continue
                start = max(x, first)
                parts.append(Control.move_to(start, y).segment.text)
                pen = _write(strip.crop(start - x, min(end, last) - x), system, pen, parts)
        if pen:
            parts.append("\x1b[0m")
        return "".join(parts)


def _write(strip: Strip, system: ColorSystem, pen: str, parts: list[str]) -> str:
    """Append a strip's text to `parts`, with the styles where they change; returns the style it ends in."""
    for text, style, control in strip:
        if control or not text:
            continue
        opening, closing = _codes(style, system) if style is not None else ("", "")
        if closing != "\x1b[0m":  # a link: as it comes
            parts.append(f"\x1b[0m{opening}{text}{closing}" if pen else f"{opening}{text}{closing}")
            pen = ""
            continue
        if opening != pen:
            parts.append(f"\x1b[0;{opening[2:]}" if pen else opening)
            pen = opening
        parts.append(text)
    return pen


@lru_cache(maxsize=512)
def _codes(style: Style, system: ColorSystem) -> tuple[str, str]:
    """What a style writes before and after a text."""
    opening, _, closing = Strip.render_style(style, "x", color_system=system).partition("x")
    return opening, closing


class PlainUpdate(LayoutUpdate):
    """A whole screen, with a style only where it changes."""

    def render_segments(self, console: Console) -> str:
        """The update as the text to write to the terminal."""
        parts: list[str] = []
        system = console._color_system or ColorSystem.TRUECOLOR
        pen = ""
        for y, line in enumerate(self.strips, self.region.y):
            parts.append(Control.move_to(self.region.x, y).segment.text)
            for strip in line:
                pen = _write(strip, system, pen, parts)
        if pen:
            parts.append("\x1b[0m")
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
