"""Running text in lines: where it breaks, that it is harmless, and that what was broken stays where it is."""

from __future__ import annotations

from rich.cells import cell_len

from tests.tui.fake_answers import HOSTILE
from tui.drawing.cells import Line, width_of
from tui.drawing.flow import LINES_KEPT, Flow


def texts(lines: list[Line]) -> list[str]:
    return ["".join(text for text, _ in line) for line in lines]


def flowed(text: str, width: int, *, by: int = 1000) -> Flow:
    flow = Flow(width)
    for at in range(0, len(text), by):
        flow.add(text[at : at + by], "text")
    return flow


def test_lines_break_at_spaces_and_at_line_breaks() -> None:
    assert texts(flowed("a word and another\none", 10).end(9)) == ["a word and", "another", "one"]


def test_a_long_word_and_wide_characters_are_cut_where_the_line_ends() -> None:
    assert texts(flowed("abcdefgh 日本語", 5).end(9)) == ["abcde", "fgh", "日本", "語"]


def test_it_does_not_matter_in_which_pieces_it_comes() -> None:
    text = "Tokens are guessed and checked together, and those before the first wrong one are kept. " * 9
    whole = texts(flowed(text, 33).end(100))
    assert whole == texts(flowed(text, 33, by=3).end(100))
    assert " ".join(whole) == text.strip()


def test_roles_go_on_within_a_word() -> None:
    flow = Flow(9)
    flow.add("hello wor", "text")
    flow.add("ld and", "guessed")
    flow.add(" on", "text")
    assert flow.end(5) == [[("hello", "text")], [("wor", "text"), ("ld and", "guessed")], [("on", "text")]]


def test_nothing_that_a_terminal_obeys_comes_out_and_every_line_fits() -> None:
    lines = flowed(" ".join(HOSTILE) * 3, 20).end(200)
    whole = "".join(texts(lines))
    assert not set(whole) & {*"\x1b\x9b\x07\x00\r\n\u202e"}
    assert all(width_of(line) <= 20 for line in lines)
    assert cell_len(whole) > 400


def test_it_moves_up_by_half_a_page() -> None:
    flow = Flow(8)
    tops = []
    for number in range(20):
        flow.add(f"line {number}\n", "text")
        tops.append(texts(flow.end(4))[0])
    assert len(set(tops)) == 10
    assert texts(flow.end(4))[-2:] == ["line 19", ""]


def test_an_endless_text_takes_no_more_room_than_its_end() -> None:
    flow = flowed("x\n" * 20 * LINES_KEPT, 8)
    assert len(flow) == 20 * LINES_KEPT + 1
    assert len(flow._lines) <= 2 * LINES_KEPT
    assert texts(flow.end(3))[:1] == ["x"]
