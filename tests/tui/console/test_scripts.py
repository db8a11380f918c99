"""A script's run without the screen: what it prints is passed on, ours stands beside it."""

from __future__ import annotations

import io
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from engine.contract import paths
from engine.contract.as_json import record_to_json
from engine.contract.estimate import of_run
from engine.contract.events import Event, Logged, RunFinished
from engine.contract.records import Outcome
from engine.contract.script_figures import ScriptFigures
from tests.tui import fake_scripts as fake
from tui.command_line import exit_codes
from tui.console.passed_on import PassedOn
from tui.console.progress import Pace, ProgressLines
from tui.console.report import Report
from tui.console.transcript import Transcript

OLD = 1_000_000_000


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    monkeypatch.setenv("TRAINTOP_HOME", str(tmp_path))
    made = paths.script_log(1), paths.script_errors(1)
    made[0].parent.mkdir(parents=True)
    return made


class Bytes(io.TextIOWrapper):
    """A stream, as bytes."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", errors="replace")

    @property
    def written(self) -> bytes:
        self.flush()
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue()


def test_what_is_printed_is_passed_on_byte_by_byte_as_it_comes(files: tuple[Path, Path]) -> None:
    out, err = Bytes(), Bytes()
    passed = PassedOn(1, 0.0, out, err)
    passed.pass_on()  # there is no file yet
    files[0].write_bytes(b"\xff\x00 10 %\r 20 %\r")
    files[1].write_bytes(b"warning\n")
    passed.pass_on()
    assert (out.written, err.written) == (b"\xff\x00 10 %\r 20 %\r", b"warning\n")
    with files[0].open("ab") as file:
        file.write(b"x" * 200_000)
    passed.end()
    assert out.written == files[0].read_bytes()


def test_the_file_of_an_older_run_of_that_number_is_left_alone(files: tuple[Path, Path]) -> None:
    files[0].write_text("old")
    os.utime(files[0], (OLD, OLD))
    out = Bytes()
    passed = PassedOn(1, OLD + 10.0, out, Bytes())
    passed.pass_on()
    assert out.written == b""
    files[0].write_text("new")
    passed.end()
    assert out.written == b"new"


def test_ours_begin_on_a_line_of_their_own(files: tuple[Path, Path]) -> None:
    err = Bytes()
    passed = PassedOn(1, 0.0, Bytes(), err)
    files[0].write_bytes(b"no terminal: it is in nobody's way")
    passed.pass_on()
    passed.write("a\n")
    files[1].write_bytes(b"50 %\r")
    passed.pass_on()
    for line in "b\n", "c\n":
        passed.write(line)
    assert err.written == b"traintop: a\n50 %\r\ntraintop: b\ntraintop: c\n"


def told(report: Report, *events: Event) -> None:
    for event in events:
        report.show(event)
        report.pass_on()


def test_the_scripts_output_is_stdout_and_ours_is_told_apart_on_stderr(files: tuple[Path, Path]) -> None:
    out, err = io.StringIO(), io.StringIO()
    report = Report(out, err, as_json=False)
    told(report, replace(fake.begun(), started_at=0.0), fake.starting())
    files[0].write_text("epoch 1\n")
    files[1].write_text("a warning\n")
    told(report, fake.printed("epoch 1"), fake.known(), fake.update(1), logged("left out", "… 3 lines left out"))
    files[0].write_text("epoch 1\nthe end\n")
    told(report, RunFinished(record=fake.script_record()))
    assert out.getvalue() == "epoch 1\nthe end\n"
    theirs, ours = [], []
    for line in err.getvalue().splitlines():
        (ours if line.startswith("traintop: ") else theirs).append(line)
    assert theirs == ["a warning"]
    assert ours[0].startswith("traintop: Run 1 on Tesla P4")
    assert "traintop: It trains GPT, 123,653,376 parameters with AdamW" in ours
    assert any(line.startswith("traintop: Samples/second: ") for line in ours)


def test_json_has_stdout_for_itself_and_the_scripts_output_is_on_stderr(files: tuple[Path, Path]) -> None:
    out, err = io.StringIO(), io.StringIO()
    report = Report(out, err, as_json=True)
    told(report, replace(fake.begun(), started_at=0.0))
    files[0].write_text("epoch 1\n")
    told(report, fake.printed("epoch 1"), fake.known(), RunFinished(record=fake.script_record()))
    events = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [event["event"] for event in events] == ["run_started", "logged", "script_known", "run_finished"]
    assert err.getvalue() == "epoch 1\n"
    config = events[0]["config"]
    assert config["precision"] == "bf16"  # the command carries it
    assert config["learning_rate"] is None  # and says nothing of this


def test_a_reader_that_goes_away_is_noticed(files: tuple[Path, Path]) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    report = Report(Gone(), io.StringIO(), as_json=False)
    files[0].write_text("epoch 1\n")
    told(report, replace(fake.begun(), started_at=0.0))
    assert report.lost


def test_how_far_a_script_is_where_its_trainer_says_and_where_nobody_does() -> None:
    pace = Pace()
    for event in (fake.begun(config=fake.TRAINER), fake.known(config=fake.TRAINER)):
        pace.fold(event)
    pace.fold(fake.update(100, config=fake.TRAINER))
    assert pace.fraction == 100 / fake.PLANNED
    assert pace.text().startswith("update 100/400  loss")
    pace = Pace()
    for event in (fake.begun(config=fake.LOOP.with_values(max_updates=50)), fake.known(), fake.update(5)):
        pace.fold(event)
    assert (pace.fraction, pace.text()[:11]) == (0.1, "update 5/50")
    pace = Pace()
    for event in (fake.begun(), fake.known(), replace(fake.update(7), n_samples=None)):
        pace.fold(event)
    assert pace.fraction == 0
    assert pace.text().startswith("update 7  loss")
    assert "~" not in pace.clock()
    assert "updates/s" in pace.text()


def test_lines_come_now_and_then_where_no_end_is_known() -> None:
    stream = io.StringIO()
    lines = ProgressLines(stream)
    lines.show(fake.begun())
    lines.show(fake.known())
    for number in range(1, 121):
        lines.show(replace(fake.update(number), t=number / 2))
    written = stream.getvalue().splitlines()
    assert [line.split()[1] for line in written] == ["60", "120"]  # after 30 and 60 s
    assert all(" MiB " in line for line in written)


def test_scores_of_evaluations_are_told_and_how_fast_they_were_is_not() -> None:
    transcript = Transcript()
    transcript.lines(fake.begun())
    assert transcript.lines(fake.logged(10, eval_loss=0.25, eval_runtime=3.0, loss=0.5)) == [
        "Update 10: {'eval_loss': 0.25}"
    ]
    assert transcript.lines(fake.logged(10, loss=0.5)) == []


def test_the_last_lines_say_what_twice_the_batch_would_need() -> None:
    record = fake.script_record()
    expected = of_run(record)
    assert expected is not None
    assert expected.batch_size == 2 * record.config.batch_size
    assert f"Peak reached: {expected.sentence}." in Transcript().lines(RunFinished(record=record))
    assert record_to_json(record)["estimate"] == expected.to_json()
    early = replace(record, updates=1)  # the optimizer's states are not in its peak yet
    assert not any("Peak reached" in line for line in Transcript().lines(RunFinished(record=early)))
    assert record_to_json(early)["estimate"] is None


def test_without_samples_updates_are_told() -> None:
    record = replace(fake.script_record(), samples_per_s=None, updates=20, train_runtime_s=10.0, train_loss=0.5)
    lines = Transcript().lines(RunFinished(record=record))
    assert "Updates/second: 2.00" in lines
    assert "{'train_runtime': 10.0, 'train_loss': 0.5}" in lines


@pytest.mark.parametrize(
    ("outcome", "own", "code"),
    [
        (Outcome.COMPLETED, 0, 0),
        (Outcome.COMPLETED, 130, 0),  # ended after the updates that were asked for
        (Outcome.FAILED, 3, 3),
        (Outcome.FAILED, 137, 137),
        (Outcome.FAILED, 0, exit_codes.FAILED),
        (Outcome.FAILED, None, exit_codes.FAILED),
        (Outcome.OUT_OF_MEMORY, 1, 1),
        (Outcome.STOPPED, 1, exit_codes.INTERRUPTED),
    ],
)
def test_the_exit_code_is_the_scripts_own(outcome: Outcome, own: int | None, code: int) -> None:
    assert exit_codes.of_run(replace(fake.script_record(outcome=outcome), script=ScriptFigures(exit_code=own))) == code


def logged(source: str, text: str) -> Logged:
    return Logged(source=source, text=text)
