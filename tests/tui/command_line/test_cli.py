"""The command line: flags, files of knobs, what goes to which stream, exit codes, signals and broken pipes."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.contract import paths
from engine.contract.by_job import defaults_of
from engine.contract.config import KNOBS, ConfigError, Knob, RunConfig
from engine.contract.events import EngineFailed, EngineReady, Event, RunFinished, RunRefused, RunStarted
from engine.contract.knob import ANSWER, GROUPS, SCRIPT, TRAIN, about_group
from engine.contract.records import DeviceInfo, Outcome, RunRecord
from engine.contract.stop_reason import BY_USER, stopped
from engine.export.hand_over import flags_of
from engine.history.history import History
from tests.tui.fake_session import FakeSession
from tui import cli
from tui.command_line.flags import Parser, UsageError, add_knobs, config_of
from tui.commands import headless
from tui.console.report import Report

ROOT = Path(__file__).parents[3]
CPU = DeviceInfo(name="Intel Xeon", kind="cpu", memory_label="RAM")
RECORD = RunRecord(run_id=1, config=RunConfig(), outcome=Outcome.COMPLETED, device=CPU, started_at=0.0)


def _read(job: str | None, *words: str) -> RunConfig:
    parser = Parser(prog="traintop", description="")
    add_knobs(parser, job)
    return config_of(parser.read(words))


def _config(*words: str) -> RunConfig:
    return _read(None, *words)


def _answer(*words: str) -> RunConfig:
    return _read(ANSWER, *words)


def _refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert cli.main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def _traintop(*words: str, **options: Any) -> subprocess.Popen[str]:
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, "-m", "tui.cli", *words]
    return subprocess.Popen(command, cwd=ROOT, text=True, **(pipes | options))


# flags ------------------------------------------------------------------------------------------------------------


def test_no_flag_is_the_defaults() -> None:
    assert _config() == RunConfig()


@pytest.mark.parametrize("knob", KNOBS.values(), ids=lambda knob: knob.name)
def test_every_knob_is_a_flag_with_its_reason_and_its_bounds(knob: Knob) -> None:
    parser = Parser(prog="traintop", description="")
    add_knobs(parser)
    text = " ".join(parser.format_help().split())
    assert knob.flag in text
    assert knob.why.split()[0] in text
    default = getattr(RunConfig(), knob.name)
    if default is not None:
        typed = ("on" if default else "off") if knob.kind is bool else str(default)
        assert getattr(_config(knob.flag, typed), knob.name) == default


@pytest.mark.parametrize(("command", "job"), [("run", TRAIN), ("answer", ANSWER)])
def test_the_help_has_the_groups_of_its_job_with_every_flag_once(
    command: str, job: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    text = capsys.readouterr().out
    own = [knob for knob in KNOBS.values() if job in knob.jobs and knob.name != "job"]
    if job == TRAIN:  # a user's own script is trained too
        own = [knob for knob in KNOBS.values() if {TRAIN, SCRIPT}.intersection(knob.jobs)]
    groups = {name: about_group(name, job) for name in GROUPS if any(knob.group == name for knob in own)}
    headings = re.findall(r"^(\w+) \((.+)\):$", text, re.MULTILINE)
    assert [heading for heading in headings if heading[0] != "knobs"] == list(groups.items())
    sections = re.split(r"^\w+ \(.+\):$", text, flags=re.MULTILINE)[1:]
    for group, section in zip(groups, sections, strict=True):
        flags = re.findall(r"^  (--[\w-]+)", section.partition("\nknobs in a file")[0], re.MULTILINE)
        assert flags == [knob.flag for knob in own if knob.group == group]


def test_answering_begins_with_its_own_defaults_and_a_real_prompt_may_end_its_answer() -> None:
    assert _answer() == defaults_of(ANSWER)
    assert _config("--job", "answer") == defaults_of(ANSWER)
    assert _answer("--model", "gpt2", "--batch-size", "4") == RunConfig(
        job=ANSWER, model="gpt2", task="causal-lm", batch_size=4
    )
    assert not _answer("--prompt", "Why?").ignore_eos
    assert not _answer("--prompts", "questions.jsonl").ignore_eos
    assert _answer("--prompts", "questions.jsonl", "--ignore-eos").ignore_eos
    assert _answer("--prompts", "dummy").ignore_eos


def test_a_flag_of_the_other_job_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="--kv-cache"):
        _read(TRAIN, "--kv-cache", "off")
    with pytest.raises(UsageError, match="--gradient-accumulation-steps"):
        _read(ANSWER, "--gradient-accumulation-steps", "4")
    with pytest.raises(ConfigError, match="--kv-cache is for --job answer, and this one is to train"):
        _config("--kv-cache", "off")


@pytest.mark.parametrize(
    "words", ["--help", "--version", "doctor --help", "runs --json", "report --format csv", "doctor --json"]
)
def test_a_command_whose_output_cannot_be_written_says_so_and_fails(words: str, tmp_path: Path) -> None:
    with History(tmp_path / "history.sqlite3") as history:
        history.writer.begin_run(RunConfig(), CPU, 0.0)
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "tui.cli", *words.split()],
            cwd=ROOT,
            env={**os.environ, "TRAINTOP_HOME": str(tmp_path)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    command = words.split()[0]
    name = "traintop" if command.startswith("-") else f"traintop {command}"
    assert ended.stderr == f"{name}: The output cannot be written: No space left on device.\n"
    assert ended.returncode == 4


def test_bare_switches_are_on() -> None:
    config = _config("--gradient-checkpointing", "--dropout", "off", "--batch-size", "4")
    assert (config.gradient_checkpointing, config.dropout, config.batch_size) == ("on", False, 4)
    assert _config("--gradient-checkpointing=every-second").gradient_checkpointing == "every-second"
    assert _config("--dropout").dropout is True


def test_a_data_file_means_reviews_unless_said_otherwise() -> None:
    assert _config("--data", "a.csv").workload == "reviews"
    assert _config("--data", "a.csv", "--workload", "dummy").workload == "dummy"


def test_flags_of_a_configuration_make_it_again() -> None:
    config = RunConfig(
        workload="reviews", data="my file.csv", dropout=False, batch_size=1, gradient_checkpointing="on", seed=0
    )
    assert _config(*shlex.split(flags_of(config))) == config
    assert flags_of(RunConfig()) == ""


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--batch-size", "0"], ["--batch-size 0", "1 to 65,536"]),
        (["--batch-size", "-3"], ["--batch-size -3", "1 to 65,536"]),
        (["--batch-size", "eight"], ["--batch-size", "'eight'", "whole number"]),
        (["--batch-size"], ["--batch-size needs a value", "1 to 65,536"]),
        (["--output-dir", ""], ["--output-dir '' has no value in it: give one, or leave the flag out."]),
        (["--text-column", " "], ["--text-column ' ' has no value in it: give one, or leave the flag out."]),
        (["--precision", "fp8"], ["--precision 'fp8'", "fp32, tf32, fp16 or bf16"]),
        (["--dropout", "maybe"], ["--dropout", "on or off", "'maybe'"]),
        (["--model", ""], ["--model '' has no value in it"]),
        (["--batchsize", "8"], ["'--batchsize'", "did you mean --batch-size?"]),
        (["--batch", "8"], ["'--batch' is not known"]),
        (["--zzz"], ["'--zzz' is not known", "--help"]),
        (["--config", "nowhere.toml"], ["nowhere.toml", "No such file"]),
        (["--device", "gpu"], ["--device 'gpu'", "cuda:N"]),
        (["--workload", "reviews", "--task", "causal-lm"], ["--task causal-lm", "--task classification"]),
        (["stray"], ["'stray' is not known"]),
    ],
)
def test_wrong_usage_is_one_line_with_the_flag_the_value_and_what_is_allowed(
    capsys: pytest.CaptureFixture[str], words: list[str], says: list[str]
) -> None:
    message = _refused(capsys, "run", *words)
    assert message.startswith("traintop run: ")
    for part in says:
        assert part in message


def test_a_command_that_does_not_exist_is_answered_with_those_that_do(capsys: pytest.CaptureFixture[str]) -> None:
    message = _refused(capsys, "rnu")
    assert all(command in message for command in cli.COMMANDS)


@pytest.mark.parametrize("text", ["0", "-1", "x", "1.5", "", "٣"])
def test_a_limit_that_is_no_number_of_runs_is_refused(capsys: pytest.CaptureFixture[str], text: str) -> None:
    assert f"--limit {text!r}" in _refused(capsys, "runs", f"--limit={text}")


@pytest.mark.parametrize("command", [[], *([name] for name in cli.COMMANDS)])
def test_help_is_there_for_every_command(capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main([*command, "--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: traintop")
    if not command:
        assert all(f"  {name}" in text for name in cli.COMMANDS)
    takes_command = command in ([], ["run"], ["sweep"], ["forecast"])
    assert ("-- COMMAND" in text.splitlines()[0]) == takes_command == ("A command after --" in text)


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("traintop ")


# files of knobs ---------------------------------------------------------------------------------------------------


def test_flags_override_the_file_and_both_can_be_saved(tmp_path: Path) -> None:
    first, second = tmp_path / "first.toml", tmp_path / "second.toml"
    _config("--batch-size", "4", "--precision", "bf16", "--save-config", str(first))
    config = _config("--config", str(first), "--batch-size", "2", "--save-config", str(second))
    assert (config.batch_size, config.precision) == (2, "bf16")
    assert _config("--config", str(second)) == config


def test_gpus_that_a_flag_or_a_file_names_are_all_taken(tmp_path: Path) -> None:
    assert _config("--device", "cuda:0,2").gpus == 2
    assert _config("--device", "cuda:0,2", "--gpus", "1").gpus == 1
    path = tmp_path / "knobs.toml"
    path.write_text('device = "virtual:tesla-p4×2"\n')
    assert _config("--config", str(path)).gpus == 2
    assert _config("--config", str(path), "--device", "virtual:tesla-p4x4").gpus == 4
    assert _config("--config", str(path), "--device", "cpu").gpus == 1
    path.write_text('device = "cuda:0,1,2"\ngpus = 2\n')
    assert _config("--config", str(path)).gpus == 2
    assert _config("--config", str(path), "--gpus", "all").gpus is None


def test_a_value_at_fault_in_a_file_is_told_with_the_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "knobs.toml"
    path.write_text("batch_size = 0\n")
    assert str(path) in _refused(capsys, "run", "--config", str(path))
    assert str(path) not in _refused(capsys, "run", "--config", str(path), "--batch-size", "-1")
    assert _config("--config", str(path), "--batch-size", "4").batch_size == 4


def test_nothing_is_saved_for_a_configuration_that_cannot_run(tmp_path: Path) -> None:
    path = tmp_path / "knobs.toml"
    with pytest.raises(ValueError, match="--batch-size"):
        _config("--batch-size", "0", "--save-config", str(path))
    assert not path.exists()


# following a session ----------------------------------------------------------------------------------------------


class Scripted(FakeSession):
    """Plays one batch of events per `wait`; `on_stop` says what a stop adds."""

    def __init__(self, *batches: list[Event], on_stop: Callable[[], list[Event]] = list, label: str = "") -> None:
        super().__init__(label)
        self.batches = deque(batches)
        self.on_stop = on_stop

    def stop(self, why: str = BY_USER) -> None:
        super().stop(why)
        ending = self.on_stop()
        self.batches.append(ending)
        self.busy = bool(ending)

    def wait(self, timeout_s: float | None = None) -> list[Event]:
        assert self.batches or not self.busy, "the run would never end"
        return self.batches.popleft() if self.batches else []


def _followed(session: Scripted, interrupts: headless.Interrupts | None = None) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    code = _follow(session, Report(out, err, as_json=True), interrupts)
    return code, out.getvalue(), err.getvalue()


def _follow(session: Scripted, report: Report, interrupts: headless.Interrupts | None = None) -> int:
    if not session.label:
        session.start(RunConfig())
    interrupts = interrupts or headless.Interrupts()
    return headless.follow(session, report, interrupts, headless.run_code, never_began="the run began")


def _end(outcome: Outcome) -> RunFinished:
    return RunFinished(record=replace(RECORD, outcome=outcome))


READY = EngineReady(device=CPU, torch_version="2.13.0", import_s=1.0)
STARTED = RunStarted(run_id=1, config=RunConfig(), device=CPU, started_at=0.0)


@pytest.mark.parametrize(
    ("event", "code"),
    [
        (_end(Outcome.COMPLETED), 0),
        (RunRefused(run_id=None, config=RunConfig(), knob="precision", message="no"), 2),
        (RunRefused(run_id=None, config=RunConfig(), knob="", message="locked", no_history=True), 5),
        (_end(Outcome.OUT_OF_MEMORY), 3),
        (_end(Outcome.FAILED), 4),
        (EngineFailed(message="no torch"), 4),
        (_end(Outcome.STOPPED), 130),
    ],
)
def test_the_exit_code_says_how_the_run_ended(event: Event, code: int) -> None:
    session = Scripted([READY], [], [STARTED, event, READY])
    got, out, _ = _followed(session)
    assert got == code
    assert session.started == [RunConfig()]
    lines = [json.loads(line) for line in out.splitlines()]
    assert len(lines) == 3  # what came after the end is not told: the end is the last line


def test_an_interrupt_stops_the_run_and_waits_for_its_end() -> None:
    interrupts = headless.Interrupts()
    session = Scripted([READY, STARTED], [], on_stop=lambda: [_end(Outcome.STOPPED)])
    interrupts.count = 1
    code, out, err = _followed(session, interrupts)
    assert (code, session.stopped) == (130, 1)
    assert json.loads(out.splitlines()[-1])["outcome"] == "stopped"
    assert "Stopping; a run that has begun is kept" in err


def test_an_interrupt_before_the_run_began_ends_at_once() -> None:
    interrupts = headless.Interrupts()
    interrupts.count = 1
    session = Scripted([])
    code, out, err = _followed(session, interrupts)
    assert (code, out) == (130, "")
    assert "before the run began" in err


def test_who_only_watches_leaves_at_once_and_stops_nothing() -> None:
    interrupts = headless.Interrupts()
    interrupts.count = 1
    session = Scripted([STARTED], label="watching")
    code, out, err = _followed(session, interrupts)
    assert (code, session.stopped, err) == (130, 0, "")
    assert json.loads(out)["event"] == "run_started"


def test_a_reader_that_goes_away_stops_the_run() -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    session = Scripted([STARTED], on_stop=lambda: [_end(Outcome.STOPPED)])
    report = Report(Closed(), io.StringIO(), as_json=True)
    assert _follow(session, report) == 130
    assert (session.stopped, stopped(session.stopped_for)) == (1, "Stopped: the output could not be written.")


def test_signals_are_counted_and_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with headless.Interrupts() as interrupts:
        signal.raise_signal(signal.SIGTERM)
        assert interrupts.count == 1
        interrupts._sent._last = float("-inf")  # long ago
        signal.raise_signal(signal.SIGTERM)
        assert interrupts.count == 2
        signal.raise_signal(signal.SIGTERM)  # to the process, and at once to its group: one request
        assert interrupts.count == 2
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_warning_of_the_end_counts_once_and_a_termination_after_it_still_does() -> None:
    with headless.Interrupts() as interrupts:
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGUSR1)
        assert (interrupts.count, interrupts.overdue) == (1, False)
        signal.raise_signal(signal.SIGTERM)
        assert interrupts.count == 2
        assert "SIGUSR1" in interrupts.why  # the first


def test_a_termination_does_not_wait_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    with headless.Interrupts() as interrupts:
        signal.raise_signal(signal.SIGTERM)
        monkeypatch.setattr(headless, "STOP_WAIT_S", 0.0)
        session = Scripted([STARTED], on_stop=lambda: [READY])
        code, _, err = _followed(session, interrupts)
    assert (code, session.stopped) == (130, 1)
    assert "ends as interrupted" in err


def test_a_second_interrupt_does_not_wait_for_the_run() -> None:
    interrupts = headless.Interrupts()
    session = Scripted([STARTED], on_stop=lambda: [READY])
    interrupts.count = 2
    code, _, err = _followed(session, interrupts)
    assert (code, session.stopped) == (130, 1)
    assert "ends as interrupted" in err


def test_the_third_interrupt_ends_the_process() -> None:
    program = (
        "import signal\nfrom tui.commands.headless import Interrupts\n"
        "with Interrupts():\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "    signal.raise_signal(signal.SIGINT); print('still here', flush=True)\n"
        "    signal.raise_signal(signal.SIGINT); print('never', flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (130, "still here\n")


@pytest.mark.parametrize("writable", [True, False])
def test_what_libraries_print_goes_to_the_log_while_the_streams_are_ours(writable: bool, tmp_path: Path) -> None:
    program = (
        "import os, subprocess, sys\nfrom tui.commands.headless import own_streams\n"
        "print('before')\n"
        "with own_streams() as (out, err):\n"
        "    out.write('ours\\n'); err.write('message\\n')\n"
        "    print('python'); print('warning', file=sys.stderr); os.write(1, b'from C\\n'); os.write(2, b'too\\n')\n"
        "    subprocess.run(['sh', '-c', 'echo a child; echo its complaint >&2'], check=True)\n"
        "print('after'); print('end', file=sys.stderr)\n"
    )
    home = tmp_path if writable else tmp_path / "file" / "home"
    (tmp_path / "file").write_text("")
    environment = {**os.environ, "TRAINTOP_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.split() == ["before", "ours", "after"]
    assert done.stderr.split() == ["message", "end"]
    if writable:
        logged = set((tmp_path / "traintop.log").read_text().splitlines())
        assert logged == {"python", "warning", "from C", "too", "a child", "its complaint"}


# the history ------------------------------------------------------------------------------------------------------


def _add_runs(*records: RunRecord) -> None:
    with History() as history:
        for record in records:
            run_id = history.writer.begin_run(record.config, CPU, 0.0)
            history.writer.finish_run(replace(record, run_id=run_id))


def test_runs_are_listed_oldest_first(capsys: pytest.CaptureFixture[str]) -> None:
    known: dict[str, Any] = {
        "train_runtime_s": 66.7,
        "samples_per_s": 7.68,
        "peak_used": 7069 * 2**20,
        "memory_total": 7611 * 2**20,
    }
    _add_runs(replace(RECORD, **known), replace(RECORD, outcome=Outcome.OUT_OF_MEMORY))
    assert cli.main(["runs"]) == 0
    header, first, second = capsys.readouterr().out.splitlines()
    assert header.split()[:2] == ["#", "model"]
    assert first.split()[-7:] == ["66.70", "7.68", "7069", "92.9", "–", "–", "completed"]
    assert second.endswith("out of memory")


def test_runs_as_json_are_run_finished_objects(capsys: pytest.CaptureFixture[str]) -> None:
    _add_runs(*[replace(RECORD, config=RunConfig(batch_size=size)) for size in (1, 2, 4)])
    assert cli.main(["runs", "--json", "--limit", "2"]) == 0
    captured = capsys.readouterr()
    objects = [json.loads(line) for line in captured.out.splitlines()]
    assert [(o["event"], o["config"]["batch_size"]) for o in objects] == [("run_finished", 2), ("run_finished", 4)]
    assert captured.err == ""


def test_a_table_that_leaves_runs_out_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    _add_runs(RECORD, RECORD, RECORD)
    assert cli.main(["runs", "--limit", "1"]) == 0
    assert "The newest 1 of 3 runs" in capsys.readouterr().err


def test_an_empty_history_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["runs"]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "No runs yet" in captured.err


def test_runs_of_a_process_that_is_gone_are_listed_as_interrupted(capsys: pytest.CaptureFixture[str]) -> None:
    program = (
        "import os\nfrom engine.contract.config import RunConfig\nfrom engine.contract.records import DeviceInfo\n"
        "from engine.history.history import History\n"
        "History().writer.begin_run(RunConfig(), DeviceInfo(name='x', kind='cpu'), 0.0); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False)
    assert cli.main(["runs", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["outcome"] == "interrupted"


def test_a_history_that_cannot_be_opened_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TRAINTOP_HOME", str(tmp_path / "file"))
    assert cli.main(["runs"]) == 5
    assert "--history-dir" in capsys.readouterr().err


# the whole program ------------------------------------------------------------------------------------------------

SMALL = ("--model", "bert-tiny", "--device", "cpu", "--samples", "16", "--seq-len", "16", "--batch-size", "4")
LONG = (*SMALL, "--epochs", "10000")


@pytest.mark.slow  # end_to_end/test_app presses it in a terminal
def test_ctrl_c_ends_the_run_after_its_micro_step_and_keeps_the_row() -> None:
    process = _traintop("run", *LONG, "--json")
    assert process.stdout is not None
    last: dict[str, Any] = {}
    for line in process.stdout:
        last = json.loads(line)
        if last["event"] == "update_done" and last["update"] == 2:
            process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    assert (last["event"], last["outcome"]) == ("run_finished", "stopped")
    with History() as history:
        assert [record.outcome for record in history.runs()] == [Outcome.STOPPED]


def test_a_reader_that_closes_the_pipe_ends_the_run_quietly() -> None:
    process = _traintop("run", *LONG, "--json")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert "Traceback" not in process.stderr.read()
    assert process.wait() == 130


def test_a_dumb_terminal_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    primary, secondary = pty.openpty()
    with open(secondary, closefd=False) as terminal:
        for name in ("stdin", "stdout", "stderr"):
            monkeypatch.setattr(sys, name, terminal)
        monkeypatch.setenv("TERM", "xterm-256color")
        with_terminal = cli.has_terminal()
        monkeypatch.setenv("TERM", "dumb")
        dumb = cli.has_terminal()
        monkeypatch.undo()
    os.close(primary)
    os.close(secondary)
    assert (with_terminal, dumb) == (True, False)


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_closed_streams_do_not_put_output_into_files(closed: int) -> None:
    command = ["bash", "-c", f'exec "$@" {closed}>&-', "bash", sys.executable, "-m", "tui.cli", "runs", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    with History() as history:
        assert history.runs() == []


@pytest.mark.slow
def test_a_refusal_after_loading_exits_2_and_leaves_no_row() -> None:
    process = _traintop("run", "--device", "cpu", "--precision", "tf32", "--json")
    out, err = process.communicate()
    assert process.returncode == 2
    assert json.loads(out.splitlines()[-1])["event"] == "run_refused"
    assert "--precision tf32" in err
    with History() as history:
        assert history.runs() == []


def test_history_dir_moves_the_history_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRAINTOP_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TRAINTOP_HISTORY_DIR", "")  # put back at the end, whatever the flag sets
    monkeypatch.chdir(tmp_path)
    with History(tmp_path / "elsewhere" / "history.sqlite3") as history:
        assert RECORD.device is not None
        run_id = history.writer.begin_run(RECORD.config, RECORD.device, 1.0)
        history.writer.finish_run(replace(RECORD, run_id=run_id))
    assert cli.main(["runs", "--json"]) == 0
    assert capsys.readouterr().out == ""
    for words in (["--history-dir", "elsewhere"], ["--history-dir=elsewhere"]):
        assert cli.main(["runs", "--json", *words]) == 0
        assert json.loads(capsys.readouterr().out)["run_id"] == run_id
        assert paths.history_file() == tmp_path / "elsewhere" / "history.sqlite3"
    assert paths.log_file() == tmp_path / "home" / "traintop.log"
    assert cli.main(["runs", "--history-dir", ""]) == 2
    assert "--history-dir needs a folder" in capsys.readouterr().err
    assert cli.main(["forecast", "--history-dir", "x"]) == 2


def test_an_empty_prompt_is_no_prompt_to_answer(capsys: pytest.CaptureFixture[str]) -> None:
    message = _refused(capsys, "answer", "--prompt", "")
    assert message == "traintop answer: --prompt '' has no value in it: give one, or leave the flag out.\n"
