"""`traintop sweep`: what the flags ask for, the rows, the tables, JSON and the exit codes. No engine thread."""

from __future__ import annotations

import io
import json
from argparse import Namespace
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from engine.contract.config import ConfigError, RunConfig
from engine.contract.events import EngineFailed, Event, PlanFinished, PlanProgress, PlanStarted, RunFinished, RunRefused
from engine.contract.forecast_types import Foretold
from engine.contract.records import DeviceInfo, Outcome
from engine.contract.stop_reason import BY_USER
from engine.history.history import History
from engine.plans.course import NAMED, Plan, sweep, until_oom
from tests.tui import fake_scripts as scripts
from tests.tui.fake_session import CPU, GPU, MIB, FakeSession, finished, ready, record, started, update
from tui import cli
from tui.command_line import exit_codes
from tui.command_line.flags import Parser, UsageError
from tui.commands.headless import Interrupts, follow
from tui.commands.sweep import PlanUnderWay, Request, add_flags, request_of
from tui.console.sweep_report import SweepReport

VIRTUAL = DeviceInfo(name="Tesla P4", kind="virtual", memory_total=7611 * MIB)


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    with History(tmp_path / "history.sqlite3") as history:
        yield history


def flags(*words: str) -> Namespace:
    parser = Parser(prog="traintop sweep", description="")
    add_flags(parser)
    return parser.read(words)


def asked(history: History, *words: str, device: DeviceInfo = VIRTUAL) -> Plan:
    return request_of(flags(*words), history).plan_on(device)


def test_any_knob_takes_several_values(history: History) -> None:
    plan = asked(history, "--batch-size", "1, 2,4", "--gradient-checkpointing", "off,on", "--samples", "64")
    assert len(plan.runs) == 6
    assert {run.config.samples for run in plan.runs} == {64}
    assert plan.title == "Sweep over batch size × checkpointing"


def test_gpus_and_how_they_are_used_are_knobs_like_any_other(history: History) -> None:
    plan = asked(history, "--gpus", "1,2,all", "--parallel", "ddp, zero1,fsdp")
    assert [run.config.gpus for run in plan.runs] == [1, 2, 2, 2, None, None, None]  # one GPU shares with nobody
    assert [run.label for run in plan.runs][:3] == ["GPUs 1", "GPUs 2, parallel ddp", "GPUs 2, parallel zero1"]
    assert plan.runs[-1].label == "GPUs all, parallel fsdp"


def test_the_commas_of_a_device_are_no_list(history: History) -> None:
    (one, two) = asked(history, "--device", "cuda:0,2,3", "--batch-size", "1,2").runs
    assert {run.config.device for run in (one, two)} == {"cuda:0,2,3"}
    assert {run.config.gpus for run in (one, two)} == {3}
    plan = asked(history, "--device", "cuda:0,1,virtual:tesla-p4x4,cpu")
    assert [(run.config.device, run.config.gpus) for run in plan.runs] == [
        ("cuda:0,1", 2),
        ("virtual:tesla-p4x4", 4),
        ("cpu", 1),
    ]
    plan = asked(history, "--device", "cuda:0,1", "--gpus", "1,2")
    assert [run.config.gpus for run in plan.runs] == [1, 2]
    plan = asked(history, "--device", "virtual:tesla-p4x2,virtual:tesla-t4x2", "--gpus", "1")
    assert [run.config.gpus for run in plan.runs] == [1, 1]


def test_what_gpus_do_not_use_makes_no_further_runs(history: History) -> None:
    plan = asked(history, "--gpus", "2", "--parallel", "ddp,fsdp", "--reshard-after-forward", "on,off")
    assert [run.label for run in plan.runs] == [
        "parallel ddp",
        "parallel fsdp, reshard on",
        "parallel fsdp, reshard off",
    ]


def test_an_experiment_on_gpus_that_are_named_takes_them_all(history: History) -> None:
    plan = asked(history, "--plan", "checkpointing", "--device", "virtual:tesla-p4x2")
    assert {run.config.gpus for run in plan.runs} == {2}
    assert {run.config.gpus for run in asked(history, "--plan", "checkpointing").runs} == {1}


def test_values_may_need_each_other(history: History) -> None:
    words = ("--optimizer-in-backward", "--max-grad-norm", "0,1", "--gradient-accumulation-steps", "1,2")
    plan = asked(history, *words)
    assert [run.label for run in plan.runs if not run.skip] == ["max grad norm 0, accumulation 1"]


def test_a_file_name_may_hold_a_comma(history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("good,bad.csv").write_text("text,label\na,1\n")
    plan = asked(history, "--data", "good,bad.csv", "--batch-size", "1,2")
    assert {run.config.data for run in plan.runs} == {"good,bad.csv"}


def test_a_file_that_is_missing_is_told_before_the_plan_is_made(history: History) -> None:
    with pytest.raises(ConfigError, match="nowhere' does not exist"):
        asked(history, "--data", "no/where/nowhere", "--batch-size", "1,2")


def test_the_search_begins_at_one_unless_told(history: History) -> None:
    assert [run.config.batch_size for run in asked(history, "--until-oom").runs] == [1]
    assert [run.config.batch_size for run in asked(history, "--until-oom", "--batch-size", "8").runs] == [8]
    plan = asked(history, "--until-oom", "--gradient-checkpointing", "off,on")
    assert [run.search for run in plan.runs] == ["batch_size", "batch_size"]


@pytest.mark.parametrize(
    ("device", "words", "model", "samples"),
    [
        (VIRTUAL, (), "bert-tiny", 128),
        (GPU, (), "bert-base-uncased", 512),
        (GPU, ("--device", "virtual:tesla-t4"), "bert-tiny", 128),
        (CPU, ("--device", "cpu"), "bert-tiny", 128),
        (VIRTUAL, ("--scale", "lecture"), "bert-base-uncased", 512),
        (VIRTUAL, ("--model", "bert-mini", "--samples", "9"), "bert-mini", 9),
    ],
)
def test_an_experiment_is_sized_to_the_device(
    history: History, device: DeviceInfo, words: tuple[str, ...], model: str, samples: int
) -> None:
    plan = asked(history, "--plan", "batch-size", *words, device=device)
    assert {(run.config.model, run.config.samples) for run in plan.runs} == {(model, samples)}


def test_an_experiment_may_be_repeated(history: History) -> None:
    plan = asked(history, "--plan", "checkpointing", "--repeat", "3")
    assert len(plan.runs) == 12
    assert {run.config.seed for run in plan.runs} == {42, 43, 44}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "nothing to sweep"),
        (("--batch-size", "8"), "nothing to sweep"),
        (("--batch-size", ","), "--batch-size ',' has no value"),
        (("--batch-size", "1,x"), "--batch-size needs a whole number"),
        (("--plan", "batchsize"), "use batch-size, accumulation"),
        (("--plan", "batch-size", "--scale", "big"), "use small, short, lecture"),
        (("--plan", "batch-size", "--samples", "8,16"), "give --samples one value"),
        (("--plan", "batch-size", "--until-oom"), "two plans"),
        (("--scale", "small", "--batch-size", "1,2"), "--scale sizes the runs of --plan"),
        (("--until-oom", "--repeat", "2"), "leave --repeat out"),
        (("--until-oom", "--device", "cpu"), "virtual:tesla-p4"),
        (("--until-oom", "--batch-size", "1,2"), "chooses the batch size"),
        (("--batch-size", "1,2", "--repeat", "0"), "--repeat '0'"),
        (("--batch-size", "1,2", "--repeat", "²"), "--repeat"),
        (("--resume",), "no plan was stopped or cut off"),
        (("--resume", "--batch-size", "1,2"), "leave the other flags out"),
        (("--batch-size", "1,2", "--save-config", "x.toml"), "traintop run"),
    ],
)
def test_what_cannot_be_asked_is_told_in_one_sentence(history: History, words: tuple[str, ...], message: str) -> None:
    with pytest.raises((UsageError, ConfigError)) as error:
        asked(history, *words)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_script_without_a_card_is_not_searched_for_its_limit(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(ConfigError) as error:
        asked(history, "--until-oom", "--", "python", "train.py", "--batch={batch_size}")
    assert error.value.message == (
        "no GPU is shown to the command, and a CPU has no VRAM to run out of: use a CUDA GPU."
    )


def test_wrong_usage_has_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["sweep", "--batch-size", "1,x"]) == exit_codes.WRONG_USAGE
    assert capsys.readouterr().err.startswith("traintop sweep: --batch-size needs a whole number")


def test_the_help_names_every_experiment(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["sweep", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert all(name in text for name in NAMED)


def test_resume_takes_the_newest_or_the_one_that_is_named(history: History) -> None:
    plans = [sweep(RunConfig(), {"batch_size": values}) for values in (["1", "2"], ["3", "4"])]
    for plan in plans:
        history.plans.finish(history.plans.begin(plan), "stopped")
    assert request_of(flags("--resume"), history).plan_on(GPU) == plans[1]
    request = request_of(flags("--resume", "1"), history)
    assert request.stored is not None
    assert (request.stored.plan_id, request.stored.plan) == (1, plans[0])
    with pytest.raises(UsageError, match=r"use 2 \(sweep\), 1 \(sweep\)"):
        request_of(flags("--resume", "7"), history)


# following -------------------------------------------------------------------------------------------------------


class FakePlans(FakeSession):
    """A session whose plan has these events."""

    def __init__(self, *events: Event, device: DeviceInfo = GPU) -> None:
        super().__init__()
        self._waiting: deque[list[Event]] = deque([[ready(device)]])
        self._after = events

    def start_plan(self, plan: Plan, plan_id: int | None = None) -> None:
        super().start_plan(plan, plan_id)
        self._waiting.extend([event] for event in self._after)

    def stop(self, why: str = BY_USER) -> None:
        super().stop(why)
        self.busy = False

    def wait(self, timeout_s: float | None = None) -> list[Event]:
        return self._waiting.popleft() if self._waiting else []


def follow_plan(
    session: FakePlans, request: Request, report: SweepReport, history: History, interrupts: int = 0
) -> int:
    counted = Interrupts()
    counted.count = interrupts
    under_way = PlanUnderWay(session, request, report, counted, history)
    return follow(session, report, counted, under_way.code_of, never_began="the plan began")


def followed(
    history: History, plan: Plan, *events: Event, as_json: bool = False, device: DeviceInfo = GPU
) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    report = SweepReport(out, err, as_json=as_json)
    request = Request(lambda device: plan)
    code = follow_plan(FakePlans(*events, device=device), request, report, history)
    return code, out.getvalue(), err.getvalue()


def need(config: RunConfig) -> Foretold:
    """A forecast by which batch 9 is too much."""
    peak = config.batch_size * 800 * MIB
    return Foretold(
        gpu="Tesla P4",
        limit=7611 * MIB,
        peak_used=peak,
        fits=peak <= 7 * 1024 * MIB,
        near_limit=False,
        failing_phase=None if peak <= 7 * 1024 * MIB else "optimizer",
        samples_per_s=8.0,
    )


def steps(plan: Plan, *ends: Event | str) -> list[Event]:
    """The events of a plan whose steps end so; a text skips. The lecture's experiments have their forecasts."""
    events: list[Event] = [PlanStarted(plan_id=3, name=plan.name, title=plan.title, total=plan.total)]
    for position, (run, end) in enumerate(zip(plan.runs, ends, strict=False), 1):
        skipped = end if isinstance(end, str) else None
        progress = PlanProgress(
            plan_id=3,
            position=position,
            total=plan.total,
            label=run.label,
            repeat=run.repeat,
            skipped=skipped,
            by_forecast=run.by_forecast,
            foretold=need(run.config) if plan.name in NAMED and run.is_possible else None,
        )
        events += [progress] if isinstance(end, str) else [progress, started(position, run.config), end]
    done = PlanFinished(plan_id=3, name=plan.name, completed=True, done=len(ends), total=plan.total)
    return [*events, done]


TWO = sweep(RunConfig(), {"batch_size": ["8", "9"]})


def test_rows_as_they_come(history: History) -> None:
    ends = (finished(1), finished(2, Outcome.OUT_OF_MEMORY))
    code, out, _ = followed(history, TWO, *steps(TWO, *ends))
    assert code == exit_codes.DONE
    first, *lines = out.splitlines()
    assert first == "Sweep over batch size: 2 runs (plan 3)"
    assert " ".join(lines[0].split()) == (
        "1/2 batch size 8 66.70 s 7.70 samples/s 7069 MiB VRAM 92.9 % loss 0.029 completed"
    )
    assert lines[1].startswith("2/2  batch size 9 ")
    assert lines[1].endswith("out of memory")
    assert lines[-1] == "Plan 3 done: 2 of 2 runs, 1 completed, 1 out of memory."


def test_the_memory_of_several_gpus_is_a_figure_before_its_unit(history: History) -> None:
    plan = sweep(RunConfig(gpus=2), {"batch_size": ["8"]})
    end = finished(1)
    peaks = (end.record.peak_used or 0, 1)
    of_two = replace(end.record, config=plan.runs[0].config, peak_used_by_rank=peaks)
    _, out, _ = followed(history, plan, *steps(plan, replace(end, record=of_two)))
    assert "  7069 MiB/GPU VRAM  " in out


def refused() -> RunRefused:
    return RunRefused(run_id=None, config=RunConfig(), knob="precision", message="It has no fp16.\x1b[31m")


def test_refused_and_skipped_runs_keep_their_sentence(history: History) -> None:
    code, out, err = followed(history, TWO, *steps(TWO, "It makes no sense.", refused()))
    assert "1/2  batch size 8  skipped: It makes no sense." in out
    assert "2/2  batch size 9  refused: It has no fp16." in out
    assert "\x1b" not in out + err
    assert "fp16" not in err
    assert code == exit_codes.WRONG_USAGE


@pytest.mark.parametrize(
    ("ends", "code"),
    [
        ((finished(1), finished(2)), exit_codes.DONE),
        ((finished(1, Outcome.OUT_OF_MEMORY), finished(2, Outcome.OUT_OF_MEMORY)), exit_codes.DONE),
        ((finished(1, Outcome.FAILED), finished(2)), exit_codes.FAILED),
        ((finished(1), refused()), exit_codes.DONE),
        ((finished(1, Outcome.FAILED), finished(2, Outcome.FAILED)), exit_codes.FAILED),
        ((finished(1, Outcome.FAILED), refused()), exit_codes.FAILED),
        (("no", "no"), exit_codes.DONE),
    ],
)
def test_exit_codes(history: History, ends: tuple[Event | str, ...], code: int) -> None:
    assert followed(history, TWO, *steps(TWO, *ends))[0] == code


def test_a_run_that_failed_says_why_in_its_row_and_at_the_end(history: History) -> None:
    unsaid = replace(scripts.failed(1), message="Failed in backward of update 3: ValueError: bad.")
    worse = "It ended with exit code 3: ValueError: worse. What it printed is in run-2.log."
    said = replace(scripts.failed(2), message=worse)
    plan = sweep(scripts.LOOP, {"batch_size": ["8", "16"]})
    code, out, _ = followed(history, plan, *steps(plan, RunFinished(record=unsaid), RunFinished(record=said)))
    assert code == exit_codes.FAILED
    rows = out.splitlines()
    assert rows[1].endswith(": exit code 3: Failed in backward of update 3: ValueError: bad.")
    assert rows[-3:] == [
        "Run 1 (batch size 8) failed: exit code 3: Failed in backward of update 3: ValueError: bad.",
        f"Run 2 (batch size 16) failed: {worse}",
        "Plan 3 done: 2 of 2 runs, 2 failed.",
    ]


def test_what_a_search_found_is_the_last_word_but_one(history: History) -> None:
    plan = until_oom(RunConfig(device="cuda"))
    finding = "largest batch size that fits: 8 (9 does not; 8 tries)."
    events: list[Event] = [
        PlanStarted(plan_id=3, name=plan.name, title=plan.title, total=None),
        PlanProgress(plan_id=3, position=1, total=None, label="batch size 8"),
        finished(1),
        PlanProgress(plan_id=3, position=1, total=None, label="", finding=finding),
        PlanFinished(plan_id=3, name=plan.name, completed=True, done=1, total=None, findings=(finding,)),
    ]
    code, out, _ = followed(history, plan, *events)
    assert code == exit_codes.DONE
    assert out.splitlines()[-2:] == [f"→ {finding}", "Plan 3 done: 1 runs, 1 completed."]


def test_stopping_says_how_to_go_on(history: History) -> None:
    end = PlanFinished(plan_id=3, name="sweep", completed=False, done=1, total=2, message="Stopped before its end.")
    code, out, err = followed(history, TWO, *steps(TWO, finished(1))[:-1], end)
    assert code == exit_codes.INTERRUPTED
    assert "Plan 3 stopped: 1 of 2 runs" in out
    assert err.splitlines()[-1] == "Go on with: traintop sweep --resume 3"
    assert followed(history, TWO, *steps(TWO)[:-1], replace(end, failed=True))[0] == exit_codes.FAILED


def test_control_c_before_the_engine_is_there(history: History) -> None:
    session = FakePlans()
    session._waiting.clear()
    out = io.StringIO()
    report = SweepReport(out, io.StringIO(), as_json=False)
    request = Request(lambda device: TWO)
    assert follow_plan(session, request, report, history, interrupts=1) == exit_codes.INTERRUPTED
    assert session.stopped == 1
    assert out.getvalue() == ""


def test_an_engine_that_cannot_start(history: History) -> None:
    session = FakePlans()
    session._waiting = deque([[EngineFailed(message="No torch.")]])
    err = io.StringIO()
    report = SweepReport(io.StringIO(), err, as_json=False)
    assert follow_plan(session, Request(lambda device: TWO), report, history) == exit_codes.FAILED
    assert "No torch." in err.getvalue()


def test_a_plan_that_goes_on_has_its_earlier_rows_in_the_tables(history: History) -> None:
    plan = sweep(RunConfig(), {"batch_size": ["8"]}, repeat=2)
    plan_id = history.plans.begin(plan)
    run_id = history.writer.begin_run(plan.runs[0].config, GPU, 1.0)
    history.plans.record_step(plan_id, (0, 0), run_id=run_id)
    history.writer.finish_run(record(run_id, config=plan.runs[0].config))
    history.plans.finish(plan_id, "stopped")
    out = io.StringIO()
    report = SweepReport(out, io.StringIO(), as_json=False)
    second = finished(2, config=plan.runs[1].config, steady_samples_per_s=7.74)
    session = FakePlans(*steps(plan, second)[:1], second, steps(plan, second)[-1])
    request = request_of(flags("--resume"), history)
    assert follow_plan(session, request, report, history) == exit_codes.DONE
    assert session.plans == [(plan, plan_id)]
    table = out.getvalue().splitlines()
    assert any(line.startswith("1, 2") and "7.72 ±0.03" in line for line in table)
    assert table[-1].endswith("2 completed.")


def test_the_lectures_table_stands_beside(history: History) -> None:
    plan = asked(history, "--plan", "batch-size", device=GPU)
    ends = [finished(n, config=run.config, device=GPU) for n, run in enumerate(plan.runs[:4], 1)]
    out_of_memory = finished(5, Outcome.OUT_OF_MEMORY, config=plan.runs[4].config)
    _, out, _ = followed(history, plan, *steps(plan, *ends, out_of_memory))
    lines = out.splitlines()
    row = next(line for line in lines if line.startswith("batch size 8 "))
    assert row.split()[3:] == ["8", "64", "66.70", "66.70", "7.68", "7.68", "7069", "7069", "completed", "completed"]
    last = next(line for line in lines if line.startswith("batch size 9 "))
    assert last.split()[3:] == ["9", "3", *["–"] * 6] + ["out", "of", "memory"] * 2
    assert "The lecture: bert-base-uncased, 512 samples × 512 tokens, 7611 MiB." in out
    assert "only trends" not in out
    assert "(forecast  6400 fits )" in out
    assert "(forecast  7200 not  )" in next(line for line in lines if line.startswith("5/5"))


def test_other_sizes_are_said_to_be_other_sizes(history: History) -> None:
    for device, words in ((VIRTUAL, "Another model or other sequences"), (CPU, "process's RAM")):
        plan = asked(history, "--plan", "checkpointing", "--model", "bert-mini", device=device)
        ends = [finished(n, config=run.config, device=device) for n, run in enumerate(plan.runs, 1)]
        _, out, _ = followed(history, plan, *steps(plan, *ends))
        assert words in out
        assert "small: bert-mini" in out


def test_what_the_lecture_has_no_figures_of_gets_this_machines_table(history: History) -> None:
    plan = asked(history, "--plan", "precision", device=CPU)
    end = finished(1, config=plan.runs[0].config, device=CPU)
    _, out, _ = followed(history, plan, *steps(plan, end))
    lines = out.splitlines()
    head = next(line for line in lines if line.startswith("Precision  "))
    assert head.split() == ["Precision", "batch", "updates", "s", "samples/s", "MiB", "loss", "status"]
    assert "completed" in next(line for line in lines if line.startswith("precision fp32 "))
    assert next(line for line in lines if line.startswith("precision tf32 ")).split()[2:] == ["8", *["–"] * 6]
    assert "The lecture names this technique and has no figures of it." in out


def test_rows_stand_in_the_order_of_the_knob(history: History) -> None:
    plan = sweep(RunConfig(), {"gradient_accumulation_steps": ["1", "4", "64"]})
    plan = replace(plan, name="accuracy")
    ends = [finished(n, config=run.config, device=CPU) for n, run in enumerate(plan.runs, 1)]
    _, out, _ = followed(history, plan, *steps(plan, *ends))
    table = out[out.index("Validation accuracy") :]
    rows = [line.split()[1] for line in table.splitlines() if line.startswith("accumulation ")]
    assert rows == ["1", "4", "8", "32", "64", "1024"]


def test_json_is_rare_events_the_table_and_the_end(history: History) -> None:
    plan = asked(history, "--plan", "batch-size", device=GPU)
    ends = [finished(n, config=run.config) for n, run in enumerate(plan.runs, 1)]
    events = steps(plan, *ends)
    code, out, err = followed(history, plan, *events[:3], update(), *events[3:], as_json=True)
    assert code == exit_codes.DONE
    lines = [json.loads(line) for line in out.splitlines()]
    names = [line["event"] for line in lines]
    assert names[:3] == ["engine_ready", "plan_started", "plan_progress"]
    assert lines[2]["foretold"]["peak_used_mib"] == 800
    assert names[-2:] == ["lecture_table", "plan_finished"]
    assert "update_done" not in names
    runs = [line for line in lines if line["event"] == "run_finished"]
    assert [(run["plan_id"], run["label"], run["run_id"]) for run in runs][3] == (3, "batch size 8", 4)
    table = next(line for line in lines if line["event"] == "lecture_table")
    assert table["rows"][3] == {
        "knobs": {"batch_size": 8},
        "label": "batch size 8",
        "run_ids": [4],
        "forecast": {
            "gpu": "Tesla P4",
            "stack": None,
            "stands_for_the_run": False,
            "peak_used_mib": 6400,
            "limit_mib": 7611,
            "verdict": "fits",
            "near_limit": False,
            "failing_phase": None,
            "samples_per_s": 8.0,
        },
        "lecture": {
            "time_s": 66.7,
            "samples_per_s": 7.68,
            "memory_mib": 7069,
            "train_loss": None,
            "eval_accuracy": None,
            "outcome": "completed",
        },
    }
    assert table["closing"].startswith("batch size 1 → 9: ")
    assert "{" not in err


def test_what_is_shown_by_forecast_is_said_to_be_that(history: History) -> None:
    plan = asked(history, "--plan", "bert-large")
    ends: list[Event | str] = [
        run.skip or finished(n, config=run.config, device=VIRTUAL) for n, run in enumerate(plan.runs, 1)
    ]
    code, out, _ = followed(history, plan, *steps(plan, *ends), device=VIRTUAL)
    assert code == exit_codes.DONE
    lines = out.splitlines()
    why = "(the software of 2023 does not run here)"
    assert next(line for line in lines if line.startswith("1/9")).split("AdamW")[1].strip() == (
        f"by forecast for Tesla P4: 800 of 7611 MiB, fits, ~8.00 samples/s {why}"
    )
    row = next(line for line in lines if line.startswith("as the lecture: PyTorch 2.0 AdamW  "))
    assert row.split()[6:] == ["1", "–", "~800", "–", "~0.125", "~fits", "out", "of", "memory"]
    assert "…" not in "\n".join(lines)  # nothing is cut, however wide the table is
    assert (
        "By forecast alone (~): as the lecture: PyTorch 2.0 AdamW, the same + checkpointing: "
        "the software of 2023 does not run here." in lines
    )
    assert lines[-1] == "Plan 3 done: 9 of 9 runs, 6 completed, 3 by forecast."
    assert any(
        line.startswith("→ batch 1 under the lecture's PyTorch 2.0: it fits by forecast (800 of") for line in lines
    )
