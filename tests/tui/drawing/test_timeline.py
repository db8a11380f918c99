"""The picture of one update's memory: hand-worked rows, and what must hold of every one."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.contract.forecast_types import Forecast, TimelinePoint
from tests.tui.app.test_forecast import forecast
from tui.drawing.cells import Line, width_of
from tui.drawing.timeline import STACKED, most_held, room, timeline
from tui.terminal.ascii import plain

MIB = 2**20
ROOM = 7611 - 529
"""What context and libraries of `forecast` leave of its card, in MiB."""


def point(phase: str, **held_mib: int) -> TimelinePoint:
    held = {name: size * MIB for name, size in held_mib.items()}
    return TimelinePoint(phase=phase, allocated=sum(held.values()), reserved=0, by_category=held)


STATIC = {"weights": 100, "optimizer": 200}
UPDATE = (
    point("forward", **STATIC, activations=100),
    point("forward", **STATIC, activations=300, inputs=100),
    point("backward", **STATIC, activations=400, temporaries=100),
    point("backward", **STATIC, gradients=100, activations=200),
    point("backward", **STATIC, gradients=100),
    point("optimizer", **STATIC, gradients=100, temporaries=100),
)


def texts(lines: Sequence[Line]) -> list[str]:
    return ["".join(text for text, _ in line) for line in lines]


def made(points: tuple[TimelinePoint, ...] = UPDATE, used: int = 5000) -> Forecast:
    return forecast(used, timeline=points)


def test_one_update_by_hand() -> None:
    assert texts(timeline(made(), 36, 12, shades=True)) == [
        "                ▼ peak 800 MiB",
        "                ▚▚▚▚▚               ",
        "           ░░░░░░░░░░               ",
        "           ░░░░░░░░░░░░░░░          ",
        "  500      ░░░░░░░░░░░░░░░     ▚▚▚▚▚",
        "      ░░░░░░░░░░░░░░░▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒",
        "      ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓",
        "      ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓",
        "    0 ██████████████████████████████",
        "      └ forward └ backward ────└opt─",
        "░ activations 400  ▓ optimizer 200",
        "█ weights 100  ▒ gradients 0",
    ]


def test_the_bands_have_the_colours_of_their_categories() -> None:
    lines = timeline(made(), 36, 12)
    assert lines[5][1:] == [("█" * 15, "activations"), ("█" * 15, "gradients")]
    assert lines[6][1:] == [("█" * 30, "optimizer")]
    assert lines[8][1:] == [("█" * 30, "weights")]
    assert lines[1][1:] == [(" " * 10, "text"), ("█" * 5, "other"), (" " * 15, "text")]


def test_without_colour_every_band_has_its_own_character_in_ascii_too() -> None:
    drawn = plain("".join(texts(timeline(made(), 60, 14, shades=True))[1:]))
    assert set("#%+:x") <= set(drawn)


def test_a_spike_of_one_moment_among_thousands_is_seen() -> None:
    points = [point("forward", weights=100)] * 5000
    points[3217] = point("optimizer", weights=100, temporaries=900)
    lines = texts(timeline(made(tuple(points)), 70, 12))
    assert "peak 1000 MiB in optimizer" in lines[0]
    assert "█" in lines[1]


def test_more_than_there_is_room_for_is_said_and_the_room_is_drawn() -> None:
    tight = made((point("forward", weights=ROOM), point("backward", weights=ROOM, activations=1000)), used=8600)
    assert room(tight) == ROOM * MIB
    lines = timeline(tight, 70, 12)
    assert "peak 8082 MiB, 1000 too much" in texts(lines)[0]
    assert any(role == "limit" for line in lines for _, role in line)
    roomy = timeline(made(), 70, 12)
    assert not any(role == "limit" for line in roomy for _, role in line)


def test_what_stays_has_the_same_height_from_the_first_moment_to_the_last() -> None:
    still = {"weights": 50, "optimizer": 100}
    points = [point("backward", **still, activations=10 * n, gradients=40 - 2 * n, temporaries=7) for n in range(20)]
    lines = timeline(made(tuple(points)), 80, 12)
    for role in ("weights", "optimizer"):
        rows = [line for line in lines if any(part == role and set(text) == {"█"} for text, part in line)]
        assert rows
        assert all(len(line) == 2 for line in rows), role  # the label, and one band from edge to edge


def test_most_is_held_by() -> None:
    assert most_held(made()) == ("activations", 400 * MIB, 800 * MIB)
    assert most_held(made(())) is None


def test_no_picture_without_points_or_room() -> None:
    assert timeline(made(()), 60, 12) == []
    assert timeline(made(), 20, 12) == []
    assert timeline(made(), 60, 4) == []


SIZES = st.integers(0, 3000)
POINTS = st.lists(
    st.builds(
        lambda phase, sizes: point(phase, **dict(zip(STACKED, sizes, strict=True))),
        st.sampled_from(["forward", "backward", "clip", "optimizer"]),
        st.lists(SIZES, min_size=len(STACKED), max_size=len(STACKED)),
    ),
    min_size=1,
    max_size=40,
)


@given(POINTS, st.integers(24, 120), st.integers(5, 30), st.booleans())
def test_every_picture_fills_its_size_and_names_the_peak(
    points: list[TimelinePoint], width: int, height: int, shades: bool
) -> None:
    lines = timeline(made(tuple(points)), width, height, shades=shades)
    assert len(lines) <= height
    assert all(width_of(line) <= width for line in lines)
    peak = max(point.allocated for point in points)
    assert "▼" in texts(lines)[0]
    assert width < 80 or f"peak {peak / MIB:.0f} MiB" in texts(lines)[0]


@pytest.mark.parametrize("phase", ["forward", "backward", "clip", "optimizer"])
def test_a_phase_that_is_short_keeps_its_first_letters(phase: str) -> None:
    points = (*[point("data", weights=1)] * 25, *[point(phase, weights=1)] * 5)
    [row] = [text for text in texts(timeline(made(points), 36, 8)) if "└" in text]
    assert len(row) == 36
    assert phase[0] in row
