"""Partial updates send the dirty cells themselves, and a terminal shows the same as after a full paint."""

from __future__ import annotations

import pyte
import pytest
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from tui.terminal.spans import SpanUpdate

RED, BOLD = Style(color="#ff0000", bgcolor="#000000"), Style(color="#00ff00", bgcolor="#000000", bold=True)


def rendered(strip: Strip, *spans: tuple[int, int]) -> str:
    update = SpanUpdate([{0: strip}], [(0, first, last) for first, last in spans], [[strip.cell_length]])
    return update.render_segments(Console(color_system="truecolor", force_terminal=True))


def shown(data: str) -> str:
    screen = pyte.Screen(20, 2)
    pyte.Stream(screen).feed(data)
    return str(screen.display[0])


def test_only_the_span_is_sent() -> None:
    strip = Strip([Segment("hello ", RED), Segment("world", BOLD)])
    data = rendered(strip, (4, 8))
    assert shown(data) == "    o wo".ljust(20)
    assert "hell" not in data


def test_two_spans_of_one_style_name_it_once() -> None:
    data = rendered(Strip([Segment("abcdefghij", RED)]), (0, 1), (8, 9))
    assert shown(data) == "a       i".ljust(20)
    assert data.count("38;2;255;0;0") == 1
    assert data.endswith("\x1b[0m")


def test_attributes_do_not_leak_into_the_next_style() -> None:
    screen = pyte.Screen(20, 2)
    pyte.Stream(screen).feed(rendered(Strip([Segment("ab", BOLD), Segment("cd", RED)]), (0, 4)))
    assert [screen.buffer[0][x].bold for x in range(4)] == [True, True, False, False]


def test_wide_characters_are_not_split() -> None:
    assert shown(rendered(Strip([Segment("漢字ab", RED)]), (2, 6))).rstrip() == "  字ab"


STYLES = [
    None,
    RED,
    BOLD,
    Style(color="#00ff00", bgcolor="#000000"),
    Style(color="red", bgcolor="bright_blue", italic=True),
    Style(color="bright_green", bold=True, underline=True),
    Style(color="color(99)", bgcolor="color(17)", reverse=True),
    Style(bgcolor="white", strike=True),
    Style(bold=True),
]


@pytest.mark.parametrize("system", ["standard", "256", "truecolor"])
@pytest.mark.parametrize("second", STYLES, ids=str)
@pytest.mark.parametrize("first", STYLES, ids=str)
def test_any_style_after_any_other_looks_as_when_it_is_written_whole(
    first: Style | None, second: Style | None, system: str
) -> None:
    strip = Strip([Segment("ab", first), Segment("  ", second), Segment("cd ", second), Segment("ef", first)])
    console = Console(color_system=system, force_terminal=True, legacy_windows=False)  # type: ignore[arg-type]
    update = SpanUpdate([{0: strip}], [(0, 0, 9)], [[9]])
    ours, whole = pyte.Screen(9, 1), pyte.Screen(9, 1)
    pyte.Stream(ours).feed(update.render_segments(console))
    pyte.Stream(whole).feed(strip.render(console))
    for x in range(9):
        mine, other = ours.buffer[0][x], whole.buffer[0][x]
        if mine.data == " ":  # of a blank only what can be seen
            mine, other = (cell._replace(fg="", bold=False, italics=False) for cell in (mine, other))
        assert mine == other, x
    assert ours.cursor.attrs == pyte.Screen(1, 1).cursor.attrs  # nothing leaks into what follows


def test_nothing_is_obeyed_that_no_one_cleaned() -> None:
    data = rendered(Strip([Segment("\x1b[2Jab\u202ec\x9b\ud800", RED)]), (0, 12))
    assert "\x1b[2J" not in data
    assert not set(data) & set("\u202e\x9b\ud800")
    assert shown(data).rstrip() == "[2Jabc\ufffd"
