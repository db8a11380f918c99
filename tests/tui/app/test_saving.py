"""Saving the model of the run that has just ended, and going on with one that was cut short."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from engine.contract.config import RunConfig
from engine.contract.events import Saved
from engine.contract.records import Outcome, RunRecord
from engine.training.saving.places import Checkpoint, write_meta
from tests.tui.fake_ranks import begun, out_of_memory, update_of
from tests.tui.fake_session import finished, record, started, training, update
from tests.tui.screen_text import SIZES, stage

CONFIG = RunConfig(model="bert-base-uncased", save_steps=20)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINTOP_HOME", str(tmp_path))


def checkpoint_of(run: RunRecord, update: int, home: Path) -> Checkpoint:
    """A checkpoint of the run beside the history, as far as it is read to find it."""
    folder = home / "checkpoints" / f"run-{run.run_id}" / f"checkpoint-{update}"
    folder.mkdir(parents=True)
    (folder / "state.pt").write_bytes(b"")
    found = Checkpoint(
        folder=folder,
        run_id=run.run_id,
        started_at=run.started_at or 0.0,
        update=update,
        epoch=0,
        step=update,
        elapsed_s=1.0,
        threads=1,
        config=run.config,
        data="",
        frozen="",
        versions={},
    )
    write_meta(found, folder)
    return found


@pytest.mark.parametrize("size", SIZES)
async def test_the_model_of_the_run_that_ended_goes_where_the_person_says(
    size: tuple[int, int], tmp_path: Path
) -> None:
    async with stage(size, [], started(7), training(7), update(7, 1), finished(7)) as s:
        await s.press("W")
        assert "Save the model of run 7 in" in s.text
        assert "transformers and peft load it" in s.dialog
        await s.press("enter")
        assert s.session.models == [(7, str(tmp_path / "models" / "run-7"))]
        assert "saving the model of run 7" in s.lines[-1]
        await s.feed(Saved(run_id=7, what="model", update=1, path="/models/run-7", seconds=0.5))
        assert "model at update 1 kept in 0.5 s: /models/run-7" in s.lines[-1]
        await s.press("W", "ctrl+u", *"mine", "enter")
        assert s.session.models[-1] == (7, str(Path("mine").absolute()))
        await s.press("W", "escape")
        assert len(s.session.models) == 2


async def test_there_is_nothing_to_save_before_and_in_a_run() -> None:
    async with stage((120, 40), [record(1)]) as s:
        await s.press("W")
        assert "no run has ended here whose model could be saved" in s.lines[-1]
        await s.feed(started(7), training(7))
        await s.press("W")
        assert "no run has ended here" in s.lines[-1]
        assert not s.session.models


async def test_the_model_of_several_gpus_is_gone_before_it_is_asked_where_to() -> None:
    async with stage((120, 40), [], *begun(2), update_of(2, 1), out_of_memory(2)) as s:
        await s.press("W")
        assert "--output-dir" in s.lines[-1]
        assert s.app.controllers.desk.shows_panes


async def test_what_could_not_be_written_is_told_and_the_run_goes_on() -> None:
    problem = "The checkpoint at update 40 could not be written to /x (No space left on device): the run goes on."
    async with stage((120, 40), [], started(7), training(7), update(7, 1)) as s:
        await s.feed(Saved(run_id=7, what="checkpoint", update=40, path="/x", seconds=0.1, problem=problem))
        assert "No space left on device" in s.text
        assert s.app.state.running
        await s.press("l")
        assert "update 40 could not be written" in s.text


@pytest.mark.parametrize("outcome", [Outcome.INTERRUPTED, Outcome.STOPPED, Outcome.FAILED, Outcome.OUT_OF_MEMORY])
async def test_a_run_that_was_cut_short_goes_on(outcome: Outcome, tmp_path: Path) -> None:
    run = replace(record(5, config=CONFIG, outcome=outcome), started_at=1.0)
    found = checkpoint_of(run, 40, tmp_path)
    async with stage((120, 40), [run]) as s:
        await s.press("C")
        await s.until("run 5 goes on after update 40")
        assert s.session.resumed == [(found, CONFIG)]
        await s.press("C")  # it is under way by then
        assert len(s.session.resumed) == 1


async def test_what_cannot_go_on_is_told_in_a_sentence(tmp_path: Path) -> None:
    whole, cut = record(4, config=CONFIG), record(5, config=CONFIG, outcome=Outcome.INTERRUPTED)
    async with stage((120, 40), []) as s:
        await s.press("C")
        assert "no run to go on with" in s.lines[-1]
    async with stage((120, 40), [whole]) as s:
        await s.press("C")
        assert "run 4 came to its end: there is nothing to go on with" in s.lines[-1]
    async with stage((120, 40), [whole, cut]) as s:
        await s.press("C")
        await s.until("run 5 left no checkpoint")
        assert not s.session.resumed
    theirs = checkpoint_of(replace(cut, started_at=99.0), 20, tmp_path)  # of another history's run 5
    assert json.loads((theirs.folder / "checkpoint.json").read_text())["run_id"] == 5
    async with stage((120, 40), [cut]) as s:
        await s.press("C")
        await s.until("run 5 left no checkpoint")
