"""What is shown before it is stored, and what is left of it when it could not be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tui.state.unsettled import Unsettled

CHANGES = st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.integers(0, 3)), max_size=20)
"""Value, whether it can be written, and how many earlier changes are over before it leaves."""


def test_a_change_that_failed_shows_what_is_stored() -> None:
    pins: Unsettled[str, int] = Unsettled()
    pins.begin("", 1)
    assert pins.end("", 2, 2, written=False) == 1
    pins.begin("", 1)
    assert pins.end("", 2, 2, written=True) == 2


def test_what_is_shown_stays_while_another_change_is_on_its_way() -> None:
    pins: Unsettled[str, int] = Unsettled()
    pins.begin("", 1)
    pins.begin("", 2)
    assert pins.end("", 2, 3, written=False) == 3
    assert pins.end("", 3, 3, written=False) == 1


@given(CHANGES)
def test_once_nothing_is_on_its_way_the_stored_value_is_shown(changes: list[tuple[int, bool, int]]) -> None:
    unsettled: Unsettled[str, int] = Unsettled()
    shown = stored = 0
    under_way: list[tuple[int, bool]] = []

    def end() -> None:
        nonlocal shown, stored
        value, written = under_way.pop(0)
        stored = value if written else stored
        shown = unsettled.end("", value, shown, written=written)

    for value, written, n_over in changes:
        for _ in range(min(n_over, len(under_way))):
            end()
        unsettled.begin("", shown)
        shown = value
        under_way.append((value, written))
    while under_way:
        end()
    assert shown == stored
