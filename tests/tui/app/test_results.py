"""The results table under its keys: marks, order, filter, notes, deleting and undoing, differences."""

from __future__ import annotations

import pytest

from engine.contract.config import RunConfig
from engine.contract.records import Outcome
from tests.tui.fake_session import MIB, finished, record, started, training, update
from tests.tui.screen_text import SIZES, FakeHistory, Stage, stage

BASE = RunConfig(model="bert-base-uncased")
RUNS = [
    record(1),
    record(2, config=BASE.with_values(precision="fp16"), steady_samples_per_s=19.2, peak_used=4000 * MIB),
    record(3, config=BASE.with_values(batch_size=16), outcome=Outcome.OUT_OF_MEMORY, peak_used=None),
    record(4, config=BASE.with_values(seed=7), steady_samples_per_s=7.69),
]


def numbers(s: Stage) -> list[int]:
    """The runs of the table, from the top."""
    return [row.run_id for row in s.app.state.rows]


async def test_marks_go_down_the_table_and_are_counted() -> None:
    async with stage((120, 40), RUNS) as s:
        await s.press("tab", "home", "t", "t")
        assert s.app.state.table.marked == {1, 2}
        assert "2 marked" in s.line("Results")
        assert s.text.count("•") == 2
        await s.press("home", "t")
        assert s.app.state.table.marked == {2}


async def test_sorting_by_the_next_column_and_the_other_way_round() -> None:
    async with stage((120, 40), RUNS) as s:
        await s.press("tab", "R")
        assert numbers(s) == [4, 3, 2, 1]
        await s.press("greater_than_sign", "greater_than_sign")
        assert "↓ batch" in s.line("Results")
        assert numbers(s)[0] == 3
        await s.press("R", "less_than_sign", "less_than_sign")
        assert numbers(s) == [1, 2, 3, 4]


async def test_rows_that_do_not_know_the_figure_come_last() -> None:
    async with stage((120, 40), [record(5, samples_per_s=None, steady_samples_per_s=None), *RUNS[:2]]) as s:
        s.app.state.table.sort = "samples/s"
        assert numbers(s) == [1, 2, 5]
        s.app.state.table.descending = True
        assert numbers(s) == [2, 1, 5]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("fp16", [2]),
        ("out memory", [3]),
        ("oom", [3]),
        ("out_of_memory", [3]),
        ("done", [1, 2, 4]),
        ("completed base", [1, 2, 4]),
        ("19.2", [2]),
        ("16", [2, 3]),
        ("batch=8 p4", [1, 2, 4]),
        ("x", []),
    ],
)
async def test_the_filter(words: str, found: list[int]) -> None:
    async with stage((120, 40), RUNS) as s:
        await s.press("tab", "slash", *[{" ": "space", "=": "equals_sign"}.get(letter, letter) for letter in words])
        assert f"{len(found)} of 4 runs" in s.text
        await s.press("enter")
        assert numbers(s) == found
        assert words in s.line("Results")
        await s.press("slash", "delete", "enter")
        assert numbers(s) == [1, 2, 3, 4]


@pytest.mark.parametrize("pane", ["results", "knobs"])
async def test_escape_takes_the_filter_away_but_first_the_zoom(pane: str) -> None:
    async with stage((80, 24), RUNS) as s:
        await s.press("tab", "slash", *"oom", "enter", *(["tab"] if pane == "knobs" else []))
        assert numbers(s) == [3]
        assert s.lines[-1].startswith(" Esc all runs  r run ")
        await s.press("z")
        assert s.lines[-1].startswith(" Esc zoom out ")
        await s.press("escape")
        assert numbers(s) == [3]
        await s.press("escape")
        assert numbers(s) == [1, 2, 3, 4]
        assert "all 4 runs" in s.lines[-1]
        assert "Esc" not in s.lines[-1]


async def test_what_a_filter_leaves_is_what_is_exported_and_said() -> None:
    async with stage((120, 40), RUNS) as s:
        await s.press("tab", "slash", *"fp32", "enter", "x")
        assert "Rows: the 3 that have 'fp32' (t marks rows in the table)" in s.dialog
        await s.press("c")
        assert "3 runs that have 'fp32' as Markdown copied" in s.lines[-1]
        await s.press("home", "t", "x")
        assert "Rows: [marked 1] the 3 that have 'fp32' (m changes)" in s.dialog
        await s.press("c")
        assert "1 run as Markdown copied" in s.lines[-1]
        await s.press("slash", "delete", *"nothing", "enter")
        assert "no run has 'nothing': Esc shows all 4, / changes the filter" in s.text
        await s.press("x")
        assert "no run has 'nothing' to export: Esc shows all" in s.lines[-1]


async def test_a_note_is_kept_shown_and_found() -> None:
    async with stage((120, 40), RUNS) as s:
        await s.press("tab", "home", "N", *"cold", "enter")
        assert s.history.notes() == {1: "cold"}
        assert "run 1: “cold”" in s.text
        assert "1+" in s.text
        s.app.state.table.query = "cold"
        assert numbers(s) == [1]
        await s.press("N", "delete", "enter")
        assert s.history.notes() == {}


@pytest.mark.parametrize("size", SIZES)
async def test_deleting_asks_nothing_because_it_can_be_undone(size: tuple[int, int]) -> None:
    async with stage(size, RUNS) as s:
        await s.press("tab", "home", "space", "d")
        assert s.history.deleted == {1}
        assert s.app.state.baseline is None
        assert "run 1 deleted: U brings it back" in s.lines[-1]
        assert numbers(s) == [2, 3, 4]
        assert s.app.state.selected is not None
        assert s.app.state.selected.run_id == 2
        await s.press("U")
        assert numbers(s) == [1, 2, 3, 4]
        assert s.app.state.baseline == 1
        assert s.history.deleted == set()
        await s.press("U")
        assert "nothing was deleted" in s.lines[-1]


async def test_marked_runs_are_deleted_together() -> None:
    async with stage((120, 40), RUNS) as s:
        await s.press("tab", "home", "t", "t", "d")
        assert numbers(s) == [3, 4]
        await s.press("U")
        assert numbers(s) == [1, 2, 3, 4]


async def test_a_run_under_way_is_not_deleted() -> None:
    async with stage((120, 40), [], started(), training()) as s:
        await s.press("tab", "d")
        assert s.history.deleted == set()
        assert "a run under way stays" in s.lines[-1]


async def test_differences_say_when_they_are_noise_and_when_nobody_knows() -> None:
    few = record(6, updates=3, planned_updates=64, outcome=Outcome.STOPPED, samples_per_s=9.0)
    async with stage((120, 40), history=FakeHistory([*RUNS, few], baseline=1)) as s:
        rows = {line.split()[0]: line for line in (line.partition("││")[2] for line in s.lines) if line.strip()}
        assert "+149%" in rows["2"]
        assert "≈" in rows["4"]
        assert "?" in rows["6"]
        assert "Δ to run 1*" in s.line("Results")


async def test_the_newest_run_comes_back_too() -> None:
    async with stage((120, 40), RUNS[:2], started(8), training(8), update(1, 8), finished(8)) as s:
        await s.press("tab", "d")
        assert numbers(s) == [1, 2]
        await s.press("U")
        assert numbers(s) == [1, 2, 8]
        assert "run 8 brought back" in s.lines[-1]


# what cannot be written ------------------------------------------------------------------------------------------

LOCKED = "Another program keeps the history locked: close it."


async def test_a_pin_that_cannot_be_written_is_taken_back_and_says_why() -> None:
    async with stage((120, 40), history=FakeHistory(RUNS, baseline=1)) as s:
        s.session.holds, s.history.problem = True, LOCKED
        await s.press("tab", "home", "down", "space")
        assert s.app.state.baseline == 2  # at once
        await s.feed(*s.session.let_go())
        assert s.app.state.baseline == 1
        assert f"the baseline stays: {LOCKED}" in s.lines[-1]
        s.history.problem = ""
        await s.press("space")
        await s.feed(*s.session.let_go())
        assert s.app.state.baseline == s.history.baseline() == 2


async def test_a_note_that_cannot_be_written_is_taken_back_and_says_why() -> None:
    async with stage((120, 40), RUNS) as s:
        s.session.holds = True
        await s.press("tab", "home", "N", *"cold", "enter")
        await s.feed(*s.session.let_go())
        s.history.problem = LOCKED
        await s.press("N", *"hot", "enter")
        assert s.app.state.table.notes == {1: "hot"}
        await s.feed(*s.session.let_go())
        assert s.app.state.table.notes == {1: "cold"}
        assert f"the note stays as it was: {LOCKED}" in s.lines[-1]


async def test_runs_that_could_not_be_deleted_or_brought_back_stay_where_they_are() -> None:
    async with stage((120, 40), history=FakeHistory(RUNS, baseline=1)) as s:
        s.session.holds, s.history.problem = True, LOCKED
        await s.press("tab", "home", "d")
        assert numbers(s) == [2, 3, 4]
        assert s.app.state.baseline is None
        await s.feed(*s.session.let_go())
        assert numbers(s) == [1, 2, 3, 4]
        assert s.app.state.baseline == 1
        assert f"not deleted: {LOCKED}" in s.lines[-1]
        await s.press("U")
        assert "nothing was deleted" in s.lines[-1]
        s.history.problem = ""
        await s.press("home", "d")
        await s.feed(*s.session.let_go())
        s.history.problem = LOCKED
        await s.press("U")
        assert numbers(s) == [1, 2, 3, 4]
        await s.feed(*s.session.let_go())
        assert numbers(s) == [2, 3, 4]
        assert f"not brought back: {LOCKED}" in s.lines[-1]
        s.history.problem = ""
        await s.press("U")
        await s.feed(*s.session.let_go())
        assert numbers(s) == [1, 2, 3, 4]


async def test_a_deletion_that_is_undone_before_it_failed_changes_nothing() -> None:
    async with stage((120, 40), RUNS) as s:
        s.session.holds, s.history.problem = True, LOCKED
        await s.press("tab", "home", "d", "U", "d", "U")
        await s.feed(*s.session.let_go())
        assert numbers(s) == [1, 2, 3, 4]
        assert s.app.state.table.deleted == []


@pytest.mark.parametrize("size", SIZES)
async def test_a_number_is_never_cut_other_columns_give_way(size: tuple[int, int]) -> None:
    small = record(7, config=BASE.with_values(gradient_accumulation_steps=1024), train_loss=0.0004, eval_accuracy=0.5)
    async with stage(size, [*RUNS, small]) as s:
        at = next(index for index, line in enumerate(s.lines) if "││ #" in line)
        heading, row = (s.lines[index].partition("││")[2] for index in (at, at + len(RUNS) + 1))
        assert "…" not in row
        for name, text in (("acc", "1024"), ("loss", "4.0e−04"), ("samples/s", "7.70"), ("VRAM MiB", "7069")):
            assert (f" {name} " in heading) == (f" {text} " in row), name


async def test_the_precision_of_16_bit_weights_is_theirs() -> None:
    half = record(7, config=BASE.with_values(weights="fp16"))
    async with stage((120, 40), [*RUNS, half]) as s:
        at = next(index for index, line in enumerate(s.lines) if "││ #" in line)
        heading, row = (s.lines[index].partition("││")[2] for index in (at, at + len(RUNS) + 1))
        start = heading.index("prec")
        assert row[start : start + 12].split() == ["fp16", "fp16"]
