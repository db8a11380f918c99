"""The picture of one update's memory: hand-worked rows, and what must hold of every one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.contract.forecast_types import Forecast, TimelinePoint
from tests.tui.app.test_forecast import forecast
from tui.drawing.cells import Line, width_of
from tui.drawing.timeline import STACKED, most_held, timeline
from tui.terminal.ascii import plain

MIB = 2**20
OUTSIDE = 200
"""What context and libraries take of the card beside the allocator, in MiB."""


def point(phase: str, reserved_mib: int = 0, **held_mib: int) -> TimelinePoint:
    held = {name: size * MIB for name, size in held_mib.items()}
    return TimelinePoint(phase=phase, allocated=sum(held.values()), reserved=reserved_mib * MIB, by_category=held)


STATIC = {"weights": 100, "optimizer": 200}
UPDATE = (
    point("forward", 900, **STATIC, activations=100),
    point("forward", 900, **STATIC, activations=300, inputs=100),
    point("backward", 900, **STATIC, activations=400, temporaries=100),
    point("backward", 900, **STATIC, gradients=100, activations=200),
    point("backward", 900, **STATIC, gradients=100),
    point("optimizer", 900, **STATIC, gradients=100, temporaries=100),
)


def texts(lines: Sequence[Line]) -> list[str]:
    return ["".join(text for text, _ in line) for line in lines]


def made(points: tuple[TimelinePoint, ...] = UPDATE, limit: int = 7611) -> Forecast:
    """A forecast of what fits, with its limit in MiB."""
    return forecast(900 + OUTSIDE, peak_reserved=900 * MIB, timeline=points, total=7611 * MIB, limit=limit * MIB)


def too_much(points: tuple[TimelinePoint, ...], asked: int = 108, free: int = 72) -> Forecast:
    """One of what does not, whose limit leaves `free` MiB beside the last of `points` to a request of `asked`."""
    limit = OUTSIDE * MIB + points[-1].reserved + free * MIB
    return forecast(
        9000,
        peak_reserved=(9000 - OUTSIDE) * MIB,
        timeline=points,
        total=limit,
        limit=limit,
        failing_segment=asked * MIB,
        failing_free=free * MIB,
    )


def test_one_update_by_hand() -> None:
    """1,100 MiB on 8 rows: each stands for 137.5. Used is the same throughout: what is not allocated is cached."""
    assert texts(timeline(made(), 36, 12, shades=True)) == [
        "                ▼ peak 800 MiB",
        " 1000 ▁▁▁▁▁▁▁▁▁▁▚▚▚▚▚▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁",
        "      ▁▁▁▁▁░░░░░░░░░░▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁",
        "      ▁▁▁▁▁░░░░░░░░░░░░░░░▁▁▁▁▁▚▚▚▚▚",
        "      ░░░░░░░░░░░░░░░▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒",
        "      ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓",
        "      ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓",
        "      ██████████████████████████████",
        "    0 ······························",
        "      └ forward └ backward ────└opt─",
        "▁ cached 100  ░ activations 400",
        "· context 200  ▓ optimizer 200",
    ]


def test_a_small_model_is_drawn_from_the_context_up() -> None:
    held = tuple(point("forward", 40, weights=10, activations=size) for size in (10, 20, 30))
    small = forecast(540, peak_reserved=40 * MIB, timeline=held, total=7611 * MIB, limit=7611 * MIB)
    lines = texts(timeline(small, 60, 12))
    bands = lines[1:-3]
    assert all("█" in line and "·" not in line for line in bands)
    assert [int(line[:5]) for line in bands if line[:5].strip()] == [540, 520, 500]
    assert lines[-2].startswith("below: context 500  █ activations 30")


def test_the_bands_have_the_colours_of_their_categories() -> None:
    lines = timeline(made(), 36, 12)
    assert lines[1][1:] == [("░" * 10, "cached"), ("▂" * 5, "other"), ("░" * 15, "cached")]
    assert lines[4][1:] == [("▃▃▃▃▃██████████", "activations"), ("█████▃▃▃▃▃█████", "gradients")]
    assert lines[6][1:] == [("█" * 30, "optimizer")]
    assert lines[7][1:] == [("█" * 30, "weights")]
    assert lines[8][1:] == [("·" * 30, "context")]


def test_the_peak_says_which_memory_it_is_of() -> None:
    [headline] = texts(timeline(made(), 90, 12)[:1])
    assert headline.strip() == "▼ peak 800 MiB allocated in backward, 1100 used of 7611"


def test_a_near_limit_is_a_line_above_the_bands_with_its_figure() -> None:
    lines = texts(timeline(made(limit=1200), 60, 12))
    assert lines[1] == " 1200 ╌╌ limit ".ljust(60, "╌")
    card = texts(timeline(replace(made(limit=1200), total=1200 * MIB), 60, 12))
    assert card[1] == " 1200 ╌╌ the card's limit ".ljust(60, "╌")
    assert not any("╌" in line for line in texts(timeline(made(limit=1500), 60, 12)))  # far off


def test_the_update_that_dies_ends_in_the_request_that_fails() -> None:
    points = (
        point("forward", 900, **STATIC, activations=100),
        point("forward", 900, **STATIC, activations=500),
        point("backward", 860, **STATIC, gradients=20, activations=500),  # what was cached is given back
    )
    lines = timeline(too_much(points), 70, 12, shades=True)
    assert texts(lines) == [
        "           backward asks for 108 MiB, 72 are free: 36 MiB too much ▼",
        " 1132 ╌╌ the card's limit ".ljust(67, "╌") + "▒▒▒",
        " 1000 " + "▁" * 21 + "░" * 43,
        "      " + "▁" * 21 + "░" * 43,
        "      " + "▁" * 21 + "░" * 43,
        "      " + "░" * 64,
        "      " + "▓" * 64,
        "      " + "█" * 64,
        "    0 " + "·" * 64,
        "      └ forward ───────────────────────────────└ backward ─────────",
        "░ activations 500  ▁ cached 40  · context 200  ▓ optimizer 200",
        "█ weights 100  ▒ gradients 20",
    ]
    assert [span for span in lines[1] if span[1] == "bad"] == [("▒▒▒", "bad")]


def test_a_request_fills_what_is_left_below_the_limit() -> None:
    points = (point("forward", 300, **STATIC), point("forward", 300, **STATIC))
    lines = timeline(too_much(points, asked=600, free=500), 60, 12)
    bad = [text for line in lines[2:9] for text, role in line if role == "bad"]
    assert bad == ["▒▒▒"] * 4  # 500 of 1,000 MiB on 7 rows
    assert "100 MiB too much" in texts(lines)[0]


def test_without_colour_every_band_has_its_own_character_in_ascii_too() -> None:
    drawn = plain("".join(texts(timeline(made(), 60, 14, shades=True))[1:]))
    assert set("#%+:x") <= set(drawn)


def test_a_spike_of_one_moment_among_thousands_is_seen() -> None:
    points = [point("forward", weights=100)] * 5000
    points[3217] = point("optimizer", weights=100, temporaries=900)
    lines = texts(timeline(made(tuple(points)), 70, 12))
    assert "peak 1000 MiB allocated in optimizer" in lines[0]
    assert "█" in lines[1]


def test_what_stays_has_the_same_height_from_the_first_moment_to_the_last() -> None:
    still = {"weights": 150, "optimizer": 200}
    points = [point("backward", **still, activations=10 * n, gradients=40 - 2 * n, temporaries=7) for n in range(20)]
    for height in (8, 12, 18):
        *rows, _, _ = timeline(made(tuple(points)), 80, height)
        for role in ("context", "weights", "optimizer"):
            own = [line[1:] for line in rows if any(part == role for _, part in line[1:])]
            assert own, (role, height)
            assert all(len(line) == 1 for line in own), (role, height)  # one band from edge to edge


def test_most_is_held_by() -> None:
    assert most_held(made()) == ("activations", 400 * MIB, 800 * MIB)
    assert most_held(made(())) is None
    assert most_held(too_much(UPDATE)) == ("optimizer", 200 * MIB, 500 * MIB)  # where it dies


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


@given(POINTS, st.integers(24, 120), st.integers(5, 30), st.booleans(), st.integers(500, 20_000))
def test_every_picture_fills_its_size_and_names_the_peak(
    points: list[TimelinePoint], width: int, height: int, shades: bool, limit: int
) -> None:
    dying = timeline(too_much(tuple(points)), width, height, shades=shades)
    assert len(dying) <= height
    assert all(width_of(line) <= width for line in dying)
    assert "▼" in texts(dying)[0]
    assert width < 80 or "36 MiB too much" in texts(dying)[0]
    lines = timeline(made(tuple(points), limit), width, height, shades=shades)
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
