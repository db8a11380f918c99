"""The rows of the cards, the cursor on them, and what is said of readings that are not of now."""

from __future__ import annotations

from engine.contract.cards import Card, CardProcess, Cards, MigSlice
from tui.drawing.cells import width_of
from tui.state.card_lines import age, screen_lines
from tui.state.cards import SORTS, UNSEEN, CardsView

MIB = 2**20


def process(pid: int, **values: object) -> CardProcess:
    return CardProcess(pid=pid, kind="compute", **values)  # type: ignore[arg-type]


def view(*cards: Card, **values: object) -> CardsView:
    return CardsView(reading=Cards(at=1000.0, cards=cards), **values)  # type: ignore[arg-type]


def text(shown: CardsView, width: int = 120, height: int = 20) -> str:
    return "\n".join("".join(part for part, _ in line) for line in screen_lines(shown, "top", width, height))


def roles(shown: CardsView, height: int = 20) -> set[str]:
    return {role for line in screen_lines(shown, "top", 120, height)[3:-1] for _, role in line}


BUSY = Card(
    index=0,
    uuid="GPU-0",
    processes=(
        process(3, memory_used=5 * MIB, sm=50.0, user="bo", started_at=900.0),
        process(1, memory_used=9 * MIB, sm=10.0, user="al", started_at=990.0, mine=True),
        process(2, memory_used=None, sm=None, user=None, started_at=None),
    ),
)


def test_processes_stand_below_their_card_in_the_order_that_was_asked_for() -> None:
    shown = view(BUSY, Card(index=1, uuid="GPU-1", processes=()))
    orders = {}
    for name in SORTS:
        shown.sort = name
        orders[name] = [row.process.pid for row in shown.rows if row.process]
    assert orders == {"MiB": [1, 3, 2], "SM %": [3, 1, 2], "age": [3, 1, 2], "user": [1, 3, 2], "pid": [1, 2, 3]}
    shown.only_mine = True
    assert [row.name for row in shown.rows] == ["gpu 0", "process 1", "gpu 1"]


def test_the_cursor_stays_on_its_process_and_goes_to_its_card_when_that_is_gone() -> None:
    shown = view(BUSY)
    shown.select(1)
    assert shown.row is not None
    assert shown.row.name == "process 1"
    shown.sort = "SM %"
    assert shown.row.name == "process 1"
    assert shown.index == 2
    shown.reading = Cards(at=1001.0, cards=(Card(index=0, uuid="GPU-0", processes=()),))
    assert shown.row.name == "gpu 0"


def test_the_cursor_passes_over_remarks() -> None:
    full = Card(index=0, uuid="a", memory_used=2 * UNSEEN, processes=())
    shown = view(full, Card(index=1, uuid="b", processes=()))
    assert "cannot be seen from here" in text(shown)
    shown.select(0)
    shown.move(1)
    assert shown.row is not None
    assert shown.row.name == "gpu 1"
    shown.move(-1)
    assert shown.row.name == "gpu 0"


def test_a_lost_card_is_said_to_be_lost_and_an_unseen_process_to_be_unseen() -> None:
    shown = view(Card(index=0, lost=True), Card(index=1, processes=(process(7, visible=False),)), Card(index=2))
    assert "1 lost" in text(shown)
    assert "it does not answer" in text(shown)
    assert "not visible from here" in text(shown)
    assert "does not tell who is on it" in text(shown)


def test_processes_of_slices_stand_below_their_slice() -> None:
    parts = (MigSlice(slice_id=7, name="A100 MIG 1g.5gb"), MigSlice(slice_id=2, name="A100 MIG 3g.20gb"))
    card = Card(index=0, mig=True, slices=parts, processes=(process(5, slice_id=2), process(6)))
    assert [row.name for row in view(card).rows] == [
        *("gpu 0", "slice 7 of gpu 0", "slice 2 of gpu 0", "process 5", "process 6"),
    ]


def test_a_reading_that_is_not_of_now_is_marked_as_such_whole() -> None:
    fresh, stale = view(BUSY), view(BUSY, age_s=7.0)
    assert "no reading for 7 s" in text(stale)
    assert roles(stale) == {"ghost"}
    assert "no reading" not in text(fresh)
    assert not view(BUSY, age_s=7.0, stale_s=20.0).is_stale


def test_no_line_is_wider_than_the_screen_and_numbers_are_never_cut() -> None:
    card = Card(index=0, name="N" * 60, memory_used=143_000 * MIB, memory_total=143_771 * MIB, throttle=("hot",))
    for width in (80, 100, 120, 200):
        shown = view(card, BUSY)
        assert all(width_of(line) <= width for line in screen_lines(shown, "top", width, 24))
        assert "143000 / 143771" in text(shown, width)
        assert "hot" in text(shown, width)


def test_a_hostile_command_is_shown_and_not_obeyed() -> None:
    shown = view(Card(index=0, processes=(process(1, command="\x1b]0;x\x07rm\n-rf", user="\x1b[31mred"),)))
    assert "\x1b" not in text(shown)


def test_an_age_is_coarse() -> None:
    ages = [age(process(1, started_at=1e6 - seconds), 1e6) for seconds in (5, 75, 3700, 200_000)]
    assert ages == ["5 s", "1 m", "1 h", "2 d"]
    assert age(process(1), 1e6) == "–"
