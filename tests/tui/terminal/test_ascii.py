"""Plain ASCII: every character has a likeness as wide as itself, and escape sequences pass."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.cells import cell_len

import tui
from tests.tui.app.test_view import TRAINING
from tests.tui.screen_text import stage
from tui.terminal.ascii import AsciiStream, is_needed, plain
from tui.terminal.link import Link


@pytest.mark.parametrize(
    ("text", "ascii_"),
    [
        ("┌ Loss ─┐│█▌░··│", "+ Loss -+|##:..|"),
        ("7.68 ±0.03", "7.68 ~0.03"),
        ("−3,450 MiB", "-3,450 MiB"),
        ("batch 8 → 16 …", "batch 8 > 16 ."),
        ("⠉⣀⣿ ⠀", "'.| \x20"),
        ("\x1b[1;31m×\x1b[0m", "\x1b[1;31mx\x1b[0m"),
        ("漢e\u0301é", "??e?"),
    ],
)
def test_likenesses(text: str, ascii_: str) -> None:
    assert plain(text) == ascii_


@pytest.mark.parametrize(
    "name",
    [
        *(f"drawing/{name}" for name in ("bars", "categories", "cells", "digits", "timeline")),
        "panes/memory",
        "panes/results",
    ],
)
def test_whatever_is_drawn_has_a_likeness(name: str) -> None:
    source = (Path(tui.__file__).parent / f"{name}.py").read_text(encoding="utf-8")
    drawn = {character for character in source if not character.isascii()}
    assert drawn
    assert "?" not in plain("".join(drawn))


async def test_a_screen_in_ascii_is_as_wide() -> None:
    async with stage((120, 40), [], *TRAINING) as s:
        for line in s.lines:
            assert plain(line).isascii()
            assert len(plain(line)) == cell_len(line)


def test_the_stream_translates_and_survives_its_terminal() -> None:
    inner = io.StringIO()
    stream = AsciiStream(inner, Link())
    assert stream.write("×…") == 2
    assert inner.getvalue() == "x."

    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    assert AsciiStream(Gone(), Link()).write("x") == 1


@pytest.mark.parametrize(
    ("environment", "needed"),
    [
        ({}, False),
        ({"LANG": "de_DE.UTF-8"}, False),
        ({"LANG": "de_DE.utf8@euro"}, False),
        ({"LANG": "de_DE.ISO-8859-1"}, True),
        ({"LANG": "C"}, True),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, True),
        ({"LANG": "C", "LC_ALL": "C.UTF-8"}, False),
        ({"LC_ALL": "POSIX", "LANG": "en_US.UTF-8"}, True),
        ({"TERM": "linux", "LANG": "en_US.UTF-8"}, True),
        ({"TERM": "xterm-256color", "LANG": "en_US.UTF-8"}, False),
    ],
)
def test_when_it_is_needed(environment: dict[str, str], needed: bool) -> None:
    assert is_needed(environment) is needed
