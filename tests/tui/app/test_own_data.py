"""A file of one's own on the screen: its name and true size, what its accuracy is worth, and a refusal at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engine.contract.config import KNOBS, RunConfig
from engine.contract.events import EvalDone, RunRefused, ScriptMade
from tests.tui.fake_session import finished, record, started, training, update
from tests.tui.screen_text import stage
from tui.state.knobs import shown

OWN = RunConfig(workload="reviews", data="/home/me/first/train.csv", seq_len=64)
OTHER = OWN.with_values(data="/home/me/second/train.csv")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def evaluated(accuracy: float) -> EvalDone:
    return EvalDone(run_id=1, epoch=1.0, update=5, accuracy=accuracy, loss=0.6, n_samples=210, eval_s=0.1, t=6.0)


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_the_header_names_the_file_and_what_it_trains_on(size: tuple[int, int]) -> None:
    async with stage(size, config=OWN) as s:
        assert "train.csv all×64" in s.lines[0]
        await s.feed(started(config=OWN), replace(training(), n_train=960))
        assert "train.csv" in s.lines[0]
        assert "train.csv 960×64" in s.lines[0] or size[0] < 100


async def test_all_rows_until_it_is_known_how_many() -> None:
    async with stage((120, 40), config=OWN) as s:
        assert "train.csv all×64" in s.lines[0]
        assert shown(KNOBS["samples"], s.app.state.editor.config.samples) == "all"


@pytest.mark.parametrize(
    ("accuracy", "said"), [(0.762, "eval acc 0.762= majority class 0.750"), (0.9, "eval acc 0.900 (0.852–0.934)")]
)
async def test_an_accuracy_says_what_it_is_worth(accuracy: float, said: str) -> None:
    trained = replace(training(), n_eval=210, majority=0.75)
    async with stage((200, 60), (), started(config=OWN), trained, update(5), evaluated(accuracy)) as s:
        assert said in s.line("eval acc")


async def test_the_table_marks_an_accuracy_that_is_worth_nothing() -> None:
    poor = record(1, config=OWN, eval_accuracy=0.762, n_eval=210, eval_majority=0.75, n_train=840)
    async with stage((120, 40), [poor]) as s:
        assert "0.762=" in s.line("completed")
        await s.press("tab")
        assert "no better than" in s.line("run 1: Accuracy 0.762 of 210 held out")
        await s.press("enter")
        assert "95 % interval 0.700–0.815" in s.text
        assert "better than always answering the majority class" in s.dialog


async def test_files_of_one_name_are_told_apart_in_the_details() -> None:
    async with stage((120, 40), [record(1, config=OWN, n_train=840), record(2, config=OTHER, n_train=840)]) as s:
        await s.press("tab")
        assert "train.csv, 840 samples" in s.text
        await s.press("enter")
        assert "train.csv 840×64   /home/me/second/train.csv" in s.text


async def test_rows_are_found_by_the_name_of_their_file() -> None:
    runs = [record(1, config=OWN), record(2)]
    async with stage((120, 40), runs) as s:
        await s.press("tab", "slash", *"train", "full_stop", *"csv", "enter")
        assert [row.run_id for row in s.app.state.rows] == [1]


async def test_turning_to_a_file_takes_all_of_it_unless_a_number_was_set() -> None:
    async with stage((120, 40), config=RunConfig(workload="reviews")) as s:
        editor = s.app.state.editor
        assert editor.config.samples == 512
        assert editor.set_value("data", "mine.csv")
        assert editor.config.samples is None
        assert editor.set_value("samples", 100)
        assert editor.set_value("data", "yours.csv")
        assert editor.config.samples == 100
        assert editor.set_value("samples", None)
        assert editor.set_value("workload", "dummy")
        assert editor.config.samples == 512


async def test_a_file_that_is_missing_is_told_at_once() -> None:
    async with stage((120, 40), config=OWN, engine_ready=False) as s:
        message = "--data '/home/me/first/train.csv' does not exist in '/home/me': check the path."
        await s.press("r")
        await s.feed(RunRefused(run_id=None, config=OWN, knob="data", message=message))
        assert "does not exist in" in s.text
        assert s.app.state.run is None


async def test_x_in_capitals_copies_the_script_of_the_run_or_of_the_next_one() -> None:
    async with stage((120, 40), [record(1), record(2, config=OWN)], config=RunConfig(epochs=3)) as s:
        await s.press("X")
        assert s.session.handed_over == [(RunConfig(epochs=3), "the next run")]
        assert "making the script of the next run" in s.lines[-1]
        await s.press("tab", "X")
        assert s.session.handed_over[1] == (OWN, "run 2")
        await s.feed(ScriptMade(title="run 2", text="import torch\n"))
        assert s.app.clipboard == "import torch\n"
        assert "script of run 2 copied" in s.lines[-1]
        assert not list(Path().iterdir())


async def test_the_data_of_a_script_is_written_beside_it() -> None:
    async with stage((200, 60), [finished().record]) as s:
        await s.feed(ScriptMade(title="run 1", text="x = 1\n", data_name="rows.jsonl", data='{"text": "a"}\n'))
        assert Path("rows.jsonl").read_text() == '{"text": "a"}\n'
        assert "its data is in rows.jsonl" in s.lines[-1]


async def test_a_script_that_cannot_be_made_says_why() -> None:
    async with stage((200, 60)) as s:
        await s.feed(ScriptMade(title="the next run", message="'a.csv' has no rows: give others."))
        assert "no script of the next run: 'a.csv' has no rows" in s.lines[-1]
        assert s.app.clipboard == ""
