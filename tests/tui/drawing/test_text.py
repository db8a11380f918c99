"""Hostile text must come out as one harmless line that still says what it said."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tui.drawing.text import clean

HARMFUL = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2028\u2029\u2060-\u206f\ufeff\ud800-\udfff]")
PIECES = [
    "\x1b",
    "[31m",
    "]0;title",
    "\x07",
    "\x1b\\",
    "\x9b",
    "\x9d",
    "\n",
    "\r",
    "\t",
    "日本",
    "e\u0301",
    "\u202e",
    "a",
    "😀",
]
HOSTILE = st.one_of(st.text(), st.lists(st.sampled_from(PIECES)).map("".join))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("loss 0.029", "loss 0.029"),
        ("naïve 日本 – ⏎ é", "naïve 日本 – ⏎ é"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x9b31mred", "red"),
        ("\x1b[2J\x1b[Hgone", "gone"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;https://example.org\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9d52;c;aGk=\x9ctext", "text"),
        ("\x1bPq#0payload\x1b\\text", "text"),
        ("\x1b]0;never ended", "0;never ended"),
        ("\x1b(0lqk\x1bcx", "lqkx"),
        ("end\x1b", "end"),
        ("end\x1b[", "end"),
        ("a\nb\r\nc\td\n", "a⏎b⏎c d"),
        ("a\u2028b\u2029c\x85d", "a⏎b⏎c⏎d"),
        ("bell\x07 del\x7f nul\x00", "bell del nul"),
        ("\u202egnp.exe\u202c", "gnp.exe"),
        ("ze\u200bro\u200d\ufeff width\u2060", "zero width"),
        ("\U000e0041\U000e0042tag", "tag"),
        ("葛\U000e0100城 ❤\ufe0f", "葛城 ❤"),  # terminals do not agree how wide the shape is that is chosen
        ("half\ud800pair", "half\ufffdpair"),
        ("z" + "\u0301" * 1000 + "algo", "z\u0301\u0301algo"),
        ("[bold]as it is[/bold]", "[bold]as it is[/bold]"),
        ("", ""),
    ],
)
def test_clean(text: str, wanted: str) -> None:
    assert clean(text) == wanted


@pytest.mark.parametrize(
    ("text", "limit", "wanted"),
    [
        ("abcdef", 6, "abcdef"),
        ("abcdef", 5, "abcd…"),
        ("日本語", 6, "日本語"),
        ("日本語", 5, "日本…"),
        ("日本語", 4, "日…"),
        ("abc", 1, "…"),
        ("abc", 0, ""),
        ("abc", -1, ""),
        ("\x1b[31m" * 3 + "abc", 3, "abc"),
    ],
)
def test_limit_counts_display_cells(text: str, limit: int, wanted: str) -> None:
    assert clean(text, limit) == wanted


@given(HOSTILE, st.integers(0, 30))
def test_never_harmful_never_wider(text: str, limit: int) -> None:
    assert HARMFUL.search(clean(text)) is None
    assert cell_len(clean(text, limit)) <= limit
    assert clean(clean(text, limit), limit) == clean(text, limit)


@pytest.mark.parametrize("unit", ["a", "\x1b]", "\x1b]x", "\x1b[", "\x9d", "\u0301", "日", "\x1b ", "\n"])
def test_ten_megabytes_on_one_line(unit: str) -> None:
    text = unit * (10_000_000 // len(unit))
    assert cell_len(clean(text, 80)) <= 80
    assert clean(text, 80).endswith("…")
    assert HARMFUL.search(clean(text[:1_000_000])) is None
