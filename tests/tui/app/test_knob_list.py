"""The pane of the knobs under its keys and the mouse: groups, finding, loading, what the next run is."""

from __future__ import annotations

import pytest

from engine.contract.config import RunConfig
from engine.contract.knob import GROUPS
from tests.tui.fake_session import record, started, training, update
from tests.tui.screen_text import SIZES, Stage, stage
from tui.screens.find_knob import FindKnobScreen
from tui.screens.main import MainScreen
from tui.state.knob_list import OTHERS


def pane(s: Stage, rows: int) -> list[str]:
    """The first lines inside the pane of the knobs."""
    top = s.lines[1]
    width = top.index("┐") + 1
    return [line[1 : width - 1] for line in s.lines[2 : 2 + rows]]


FOLDED = [
    " J job             train ",
    "▸b batch size          8 ",
    " a accumulation        1 ",
    " c checkpointing     off ",
    " f precision        fp32 ",
    " m model       bert-tiny ",
    " w workers             0 ",
    " o implementation  fused ",
    " + what                4 ",
    " + batch               3 ",
    " + memory              8 ",
    " + compute             2 ",
    " + optimizer          10 ",
    " + data                9 ",
    " + evaluation          5 ",
    " + saving              3 ",
    " + parallel            4 ",
    " + where               2 ",
]


@pytest.mark.parametrize("size", SIZES)
async def test_at_first_every_group_is_folded(size: tuple[int, int]) -> None:
    async with stage(size) as s:
        wanted = FOLDED if size[1] > 24 else FOLDED[:10]
        assert [" ".join(line.split()) for line in pane(s, len(wanted))] == [" ".join(line.split()) for line in wanted]
        assert ("─ 8 more" in s.text) is (size[1] == 24)


async def test_a_small_screen_shows_a_group_to_the_character() -> None:
    async with stage((80, 24), config=RunConfig(learning_rate=1e-4)) as s:
        await s.press("end", *["up"] * 5, "right")
        assert pane(s, 15) == [
            " + what               4 ",
            " + batch              3 ",
            " + memory             8 ",
            " + compute            2 ",
            "▸− optimizer       1/10 ",
            "   optimizer      adamw ",
            "   momentum           0 ",
            "   learning rate 0.0001 ",
            "   schedule      linear ",
            "   warm-up            0 ",
            "─────────────── 10 more ",
            " How it learns:         ",
            " optimizer, momentum,   ",
            " learning rate,         ",
            " schedule, warm-up,…    ",
        ]


async def test_a_group_opens_and_closes_by_keys_and_by_the_mouse() -> None:
    async with stage() as s:
        places = s.app.state.editor.list
        await s.press(*["down"] * 7, "enter")
        assert places.opened == {"what"}
        await s.press("enter")
        assert places.opened == set()
        await s.press("plus", "plus")
        assert places.opened == {"what"}
        await s.press("left")
        assert places.opened == set()
        await s.press("G")
        assert places.opened == {*GROUPS, OTHERS}
        assert "all groups are open: G closes them" in s.lines[-1]
        await s.press("G")
        assert places.opened == set()
        await s.pilot.click("#knobs", offset=(5, 10))  # "batch"
        assert places.opened == {"batch"}
        await s.pilot.click("#knobs", offset=(5, 11))
        assert s.app.state.editor.selected == "padding"
        await s.pilot.click("#knobs", offset=(5, 10))
        assert places.opened == set()
        await s.pilot.click("#knobs", offset=(5, 26))  # beneath the list
        assert s.app.state.editor.list.cursor.group == "batch"


@pytest.mark.parametrize("size", SIZES)
async def test_a_knob_is_found_by_name(size: tuple[int, int]) -> None:
    async with stage(size) as s:
        await s.press("slash")
        assert isinstance(s.app.screen, FindKnobScreen)
        assert "batch size" in s.dialog
        await s.press(*"grad")
        assert "max grad norm 1 --max-grad-norm" in s.dialog
        assert "accumulation 1 --gradient-accumulation-steps" in s.dialog
        await s.press(*" norm", "enter")
        assert isinstance(s.app.screen, MainScreen)
        assert "▸  max grad norm" in s.text
        assert s.app.state.editor.list.opened == {"optimizer"}
        await s.press("slash", *"xyz")
        assert "No knob has these words." in s.dialog
        await s.press("enter")
        assert isinstance(s.app.screen, FindKnobScreen)
        await s.press("escape", "slash", "down", "enter")
        assert s.app.state.editor.selected == "batch_size"


async def test_a_group_is_explained_knob_by_knob() -> None:
    async with stage() as s:
        await s.press("end", "e")
        assert "The group where" in s.dialog
        assert "device auto: auto takes the first CUDA GPU" in s.dialog
        await s.press("escape", "question_mark")
        assert "Knobs" in s.dialog
        assert "--vram-limit" not in s.dialog


async def test_a_group_shows_that_something_in_it_is_pending() -> None:
    async with stage((120, 40), [], started(), training(), update(1)) as s:
        await s.press("slash", *"epochs", "enter", "right", "G")
        assert "1 changed" in s.line("Next run")
        assert "1/4 differ" in s.line(" what ")
        row = s.app.screen.query_one("#knobs")._lines[9]  # type: ignore[attr-defined]
        assert ("1/4 differ", "cursor") in row
        await s.press("home")
        row = s.app.screen.query_one("#knobs")._lines[9]  # type: ignore[attr-defined]
        assert ("1/4 differ", "pending") in row


async def test_runs_of_the_history_are_not_what_the_next_run_is_held_against() -> None:
    elsewhere = record(3, config=RunConfig(batch_size=64))  # say, of a sweep in another terminal
    async with stage((120, 40), [elsewhere]) as s:
        assert "→" not in s.line("batch size")
        assert "changed" not in s.line("Next run")
        await s.press("b")
        assert "→" not in s.line("batch size")
