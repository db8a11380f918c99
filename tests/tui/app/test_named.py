"""Named configurations on the screen: load, undo, save, delete and bring back, and the command of each."""

from __future__ import annotations

import pytest

from engine.contract.config import RunConfig
from engine.export.hand_over import command_line
from engine.knobs import named as named_knobs
from engine.knobs.named import BUILT_IN
from tests.tui import fake_scripts
from tests.tui.screen_text import SIZES, stage
from tui.screens.main import MainScreen
from tui.state.knobs import changed_knobs, turned

MINE = RunConfig(batch_size=16, gradient_checkpointing="on")


@pytest.mark.parametrize("size", SIZES)
async def test_all_are_listed_with_what_they_change_and_their_command(size: tuple[int, int]) -> None:
    named_knobs.save("mine", MINE)
    async with stage(size) as s:
        await s.press("K")
        assert "bert-tiny, batch 16, 512 tokens, fp32" in s.line("mine ")
        for named in BUILT_IN:
            assert named.name in s.text
        assert "Turns batch size 8 → 16, checkpointing off → on." in s.dialog
        assert "traintop run --batch-size 16 --gradient-checkpointing on" in s.dialog
        await s.press("down")
        assert "These are the next run's knobs." in s.dialog


async def test_enter_loads_and_undo_takes_it_back() -> None:
    named_knobs.save("mine", MINE)
    async with stage() as s:
        await s.press("K", "enter")
        assert s.app.state.editor.config == MINE
        assert "mine: batch size 8 → 16, checkpointing off → on; u takes it back" in s.lines[-1]
        assert s.app.state.log[-1].text == "mine: batch size 8 → 16, checkpointing off → on"
        await s.press("u")
        assert s.app.state.editor.config == RunConfig()
        assert "undone: batch size 8, checkpointing off" in s.lines[-1]
        await s.press("K", "down", "enter")  # the first of those built in
        assert "first steps are the next run's knobs already" in s.lines[-1]


@pytest.mark.parametrize("size", SIZES)
async def test_all_that_one_changes_is_told_before_it_is_loaded(size: tuple[int, int]) -> None:
    large = next(named for named in BUILT_IN if named.name == "bert-large on a P4")
    async with stage(size) as s:
        await s.press("K", "down", "down")
        assert large.config is not None
        changed = changed_knobs(RunConfig(), large.config)
        assert len(changed) == 6
        assert f"Turns {turned(RunConfig(), large.config)}." in s.dialog
        assert command_line(large.config) in s.dialog


async def test_a_notice_goes_when_another_knob_is_turned_or_typed() -> None:
    async with stage() as s:
        await s.press("K", "end", "enter")
        assert "LoRA: model bert-tiny → bert-base, LoRA rank 0 → 8" in s.lines[-1]
        await s.press("b")
        assert "LoRA" not in s.lines[-1]
        await s.press("K", "home", "enter", "enter", *"24", "enter")
        assert s.app.state.editor.config.batch_size == 24
        assert "first steps" not in s.lines[-1]


async def test_the_next_runs_knobs_are_saved_under_a_name() -> None:
    async with stage() as s:
        await s.press("b", "c", "K", "s")
        assert "--batch-size 16" in s.dialog
        await s.press(*"my run", "enter")
        assert [(named.name, named.config) for named in named_knobs.saved()] == [("my run", MINE)]
        assert "saved as my run" in s.dialog
        await s.press("s")
        assert "Enter replaces it" in s.dialog
        await s.press("escape", "escape")
        assert isinstance(s.app.screen, MainScreen)


async def test_a_name_that_is_none_is_said() -> None:
    async with stage() as s:
        await s.press("K", "s", *"a/b", "enter")
        assert "cannot be a name" in s.dialog
        assert named_knobs.saved() == []


async def test_deleting_and_bringing_back() -> None:
    named_knobs.save("mine", MINE)
    async with stage() as s:
        await s.press("K", "d")
        assert "mine deleted: u brings it back" in s.dialog
        assert named_knobs.saved() == []
        await s.press("d")
        assert "what is built in stays" in s.dialog
        await s.press("u")
        assert [named.config for named in named_knobs.saved()] == [MINE]
        await s.press("u")
        assert "nothing to bring back" in s.dialog


async def test_a_file_that_cannot_be_read_is_not_loaded() -> None:
    named_knobs.folder().mkdir(parents=True)
    (named_knobs.folder() / "[b]odd.toml").write_text("batch_size = 'many'\n")
    async with stage() as s:
        await s.press("K")
        assert "[b]odd" in s.text
        assert "cannot be read" in s.text
        await s.press("enter")
        assert "d deletes it" in s.dialog
        assert s.app.state.editor.config == RunConfig()


async def test_the_command_is_copied() -> None:
    named_knobs.save("mine", MINE)
    async with stage() as s:
        await s.press("K", "y")
        assert s.app.clipboard == "traintop run --batch-size 16 --gradient-checkpointing on"


async def test_those_of_another_job_come_last_say_so_and_are_loaded_with_it() -> None:
    named_knobs.save("mine", fake_scripts.BARE)
    named_knobs.save("trains", MINE)
    async with stage(config=fake_scripts.LOOP) as s:
        await s.press("K")
        assert "a training: bert-tiny, batch 16" in s.line("trains ")
        assert "a training" not in s.line("mine ")
        await s.press("down", "enter")
        assert s.app.state.editor.config == MINE
        assert "trains: job script → train; u takes it back" in s.lines[-1]
        await s.press("J", "J")  # past the answers, back to the command
        assert s.app.state.editor.config == fake_scripts.LOOP
