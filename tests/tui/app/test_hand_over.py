"""Exports, the clipboard, the screen as SVG, details, and explanations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from textual.containers import VerticalScroll

from engine.contract.config import KNOBS, RunConfig
from engine.contract.records import Outcome, Phase
from engine.knobs.texts import KNOB_TEXTS
from tests.tui.fake_session import MIB, record
from tests.tui.screen_text import SIZES, FakeHistory, stage
from tui.screens.main import MainScreen

BASE = RunConfig(model="bert-base-uncased")
RUNS = [record(1), record(2, config=BASE.with_values(batch_size=4))]
SLOWER = record(2, config=BASE.with_values(gradient_checkpointing="on"), steady_samples_per_s=5.5, peak_used=3619 * MIB)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("size", SIZES)
async def test_all_rows_go_into_a_new_markdown_file(size: tuple[int, int]) -> None:
    async with stage(size, RUNS) as s:
        await s.press("x")
        assert "traintop-runs.md" in s.text
        assert "Rows: all 2" in s.text
        await s.press("enter")
        assert "2 runs written to traintop-runs.md" in s.lines[-1]
        assert len(Path("traintop-runs.md").read_text().splitlines()) >= 4
        await s.press("x")
        assert "traintop-runs-2.md" in s.text


async def test_marked_rows_as_json() -> None:
    async with stage((120, 40), RUNS) as s:
        await s.press("tab", "t", "x", "down", "down", "down")
        assert "[marked 1]" in s.text
        assert "traintop-runs.json" in s.text
        await s.press("enter")
        assert [run["run_id"] for run in json.loads(Path("traintop-runs.json").read_text())] == [2]


async def test_a_file_is_never_replaced_without_asking() -> None:
    Path("mine.md").write_text("precious")
    async with stage((120, 40), RUNS) as s:
        await s.press("x", "tab", "ctrl+u", *"mine", "full_stop", *"md", "enter")
        assert "mine.md is there already" in s.text
        assert Path("mine.md").read_text() == "precious"
        await s.press("enter")
        assert isinstance(s.app.screen, MainScreen)
        assert "batch" in Path("mine.md").read_text()


async def test_copying_as_latex() -> None:
    async with stage((120, 40), RUNS) as s:
        await s.press("x", "down", "m", "c")
        assert "tabular" in s.app.clipboard
        assert "2 runs as LaTeX copied" in s.lines[-1]
        assert not list(Path().iterdir())


async def test_y_copies_the_command_of_the_run_or_of_the_next_one() -> None:
    async with stage((120, 40), RUNS, config=RunConfig(epochs=3)) as s:
        await s.press("y")
        assert s.app.clipboard == "traintop run --epochs 3"
        await s.press("tab", "y")
        assert s.app.clipboard == "traintop run --model bert-base-uncased --batch-size 4"
        assert "command of run 2" in s.lines[-1]


async def test_details_tell_how_to_do_it_elsewhere() -> None:
    async with stage((120, 40), RUNS) as s:
        await s.press("tab", "enter")
        s.app.screen.query_one(VerticalScroll).scroll_end(animate=False, immediate=True)
        await s.pilot.pause()
        assert "traintop run --model bert-base-uncased --batch-size 4" in s.text
        assert "traintop script --run 2" in s.text


async def test_the_screen_is_saved_under_the_name_of_its_run() -> None:
    async with stage((80, 24), RUNS) as s:
        await s.press("ctrl+s", "ctrl+s")
        assert Path("traintop.svg").read_text().startswith("<svg")
        assert Path("traintop-2.svg").exists()
        assert "screen saved as traintop-2.svg" in s.lines[-1]


def test_every_knob_is_explained_in_two_sentences_or_more() -> None:
    assert list(KNOB_TEXTS) == list(KNOBS)
    for name, text in KNOB_TEXTS.items():
        assert text.endswith("."), name
        assert 2 <= text.count(". ") + 1 <= 5, name


@pytest.mark.parametrize("size", SIZES)
async def test_a_knob_is_explained_with_the_users_own_numbers(size: tuple[int, int]) -> None:
    async with stage(size, [record(1), SLOWER]) as s:
        await s.press("c", "e")
        assert "Forward keeps only the input of every layer" in s.text
        assert "run 2 against run 1, checkpointing on: −3,450 MiB" in s.text
        assert "+40 %" in s.text
        await s.press("escape", "b", "e")
        assert "No two finished runs differ in this knob alone" in s.text


async def test_a_run_is_explained_against_the_baseline() -> None:
    async with stage((120, 40), history=FakeHistory([record(1), SLOWER], baseline=1)) as s:
        await s.press("tab", "e")
        assert "Run 2: completed" in s.text
        assert "Against run 1: checkpointing on: −3,450 MiB" in s.text
        assert "checkpointing, off → on: Forward keeps" in s.text


async def test_an_out_of_memory_says_where_what_it_means_and_what_would_help() -> None:
    dead = record(
        3,
        Outcome.OUT_OF_MEMORY,
        config=BASE.with_values(batch_size=16),
        failed_phase=Phase.FORWARD,
        message="Out of memory in forward of micro-step 1.",
    )
    async with stage((120, 40), [record(1), dead]) as s:
        await s.press("tab", "e")
        assert "It ran out of memory in forward." in s.text
        assert "What fitted: run 1, equal but for batch size 8, took 7069 MiB." in s.text
        assert "batch size 8 with accumulation 2" in s.text
        assert "checkpointing on: saves" in s.text
