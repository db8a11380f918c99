"""Lines of cells: fitting, wrapping, framing, and finding what changed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tui.drawing.cells import changed_runs, cut, cut_line, ends, frame, pad, segments, to_cells, width_of, wrap

texts = st.text(alphabet="ab 漢字é…─", max_size=30)


@given(texts, st.integers(0, 40))
def test_a_cut_text_fits(text: str, width: int) -> None:
    assert cell_len(cut(text, width)) <= width
    if cell_len(text) <= width:
        assert cut(text, width) == text


@given(texts, texts, st.integers(0, 40))
def test_lines_fit_exactly(left: str, right: str, width: int) -> None:
    assert width_of(pad([(left, "a"), (right, "b")], width)) == width
    assert width_of(cut_line([(left, "a"), (right, "b")], width)) <= width
    assert width_of(ends([(left, "a")], [(right, "b")], width)) == width


@given(texts, st.integers(1, 40), st.integers(0, 6))
def test_wrapped_lines_fit(text: str, width: int, limit: int) -> None:
    lines = wrap(text, width, limit)
    assert len(lines) <= limit
    assert all(cell_len(line) <= max(2, width) for line in lines)


def test_wrapping_breaks_at_spaces_and_says_what_is_missing() -> None:
    assert wrap("one two three", 7, 5) == ["one two", "three"]
    assert wrap("one two three four", 7, 2) == ["one two", "three …"] or wrap("one two three four", 7, 2)[-1].endswith(
        "…"
    )
    assert wrap("", 7, 2) == []


@given(texts, texts, st.integers(1, 30))
def test_repainting_the_changed_runs_gives_the_new_line(old: str, new: str, width: int) -> None:
    before, after = to_cells([(old, "a")], width), to_cells([(new, "a")], width)
    painted = list(before)
    for first, last in changed_runs(before, after):
        painted[first:last] = after[first:last]
        assert after[first][0] or first == 0
    assert painted == after


def test_equal_lines_have_no_changed_runs() -> None:
    cells = to_cells([("same", "a")], 10)
    assert changed_runs(cells, list(cells)) == []


def test_distant_changes_are_separate_and_near_ones_are_merged() -> None:
    old, new = to_cells([("a" * 40, "a")], 40), to_cells([("b" + "a" * 3 + "b" + "a" * 34 + "b", "a")], 40)
    assert changed_runs(old, new) == [(0, 5), (39, 40)]


def test_a_role_is_a_change() -> None:
    assert changed_runs(to_cells([("x", "a")], 1), to_cells([("x", "b")], 1)) == [(0, 1)]


def test_segments_join_what_looks_alike() -> None:
    assert segments(to_cells([("ab", "x"), ("c", "x"), ("漢", "y")], 6)) == [("abc", "x"), ("漢", "y"), (" ", "text")]


@given(st.integers(4, 60), st.integers(3, 10), texts, texts)
def test_frames_are_as_large_as_they_are_told(width: int, height: int, title: str, text: str) -> None:
    lines = frame(title, [(text, "a")], [[(text, "b")]] * 20, (width, height), "frame")
    assert len(lines) == height
    assert all(width_of(line) == width for line in lines)


@given(st.text(alphabet="ab漢\u0301\x00\x07\x1b\x9b\u202e\u2066\u2028\ud800", max_size=30), st.integers(0, 40))
def test_no_cell_holds_what_a_terminal_obeys(text: str, width: int) -> None:
    cells = to_cells([(text, "a")], width)
    written = "".join(cell for cell, _ in cells)
    assert len(cells) == width
    assert not set(written) & set("\x00\x07\x1b\x9b\u202e\u2066\u2028\ud800")
    assert cell_len(written) <= width + 1  # the last column may be half a wide character
