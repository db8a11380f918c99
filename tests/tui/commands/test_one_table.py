"""One run has the same figures wherever it is shown: `runs`, `report`, the app's results, its details, a sweep."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.contract.config import RunConfig
from engine.contract.events import PlanFinished, PlanProgress, PlanStarted, RunFinished
from engine.contract.records import DeviceInfo, Outcome, Phase, RunRecord
from engine.history.history import History
from engine.plans.course import named_plan, sweep
from tests.tui.fake_session import CPU, GPU, MIB, record
from tests.tui.screen_text import stage
from tui.cli import main
from tui.console.sweep_report import SweepReport
from tui.console.sweep_tables import plan_table

RUNS: dict[str, RunRecord] = {
    "steady and mean differ": record(
        steady_samples_per_s=73.84, samples_per_s=67.7, eval_accuracy=0.0004, train_loss=0.0004
    ),
    "too few updates to be steady": record(updates=3, samples_per_s=67.7, steady_samples_per_s=73.84),
    "a CPU's memory is RAM": record(device=CPU, peak_used=568 * MIB, memory_total=CPU.memory_total),
    "the whole card": record(peak_used=7611 * MIB, train_loss=12345.0, samples_per_s=1234.5, steady_samples_per_s=None),
    "it did not fit": record(1, Outcome.OUT_OF_MEMORY, failed_phase=Phase.BACKWARD, peak_used=7600 * MIB),
    "nothing is known": record(1, Outcome.INTERRUPTED, peak_used=None),
}
"""Runs whose figures could be told in more than one way."""

Run = Callable[..., str]


@pytest.fixture(params=RUNS.values(), ids=list(RUNS))
def shown(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunRecord:
    """A run that a real history holds."""
    run: RunRecord = request.param
    monkeypatch.setenv("TRAINTOP_HOME", str(tmp_path))
    with History() as history:
        device = run.device or DeviceInfo(name="", kind="cpu")
        assert history.writer.begin_run(run.config, device, 1.0, planned_updates=run.planned_updates) == run.run_id
        history.writer.finish_run(run)
    return run


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Run:
    """What a command prints."""

    def run(*words: str) -> str:
        assert main(list(words)) == 0
        return capsys.readouterr().out

    return run


def by_heading(heading: str, row: str) -> dict[str, str]:
    """A row of a table whose columns are two blanks apart, the number of a run first."""
    names, cells = ([cell for cell in line.strip().split("  ") if cell.strip()] for line in (heading, row))
    return {name.strip(): cell.strip() for name, cell in zip(names, cells, strict=True)}


def markdown(text: str) -> dict[str, str]:
    """The first row of a Markdown table; a spread is left off."""
    heading, _, row = ([cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[:3])
    return {name: cell.partition(" ±")[0] for name, cell in zip(heading, row, strict=True)}


MEMORY = ("VRAM MiB", "RAM MiB")


async def test_every_table_tells_the_same_of_a_run(shown: RunRecord, command: Run) -> None:
    runs = by_heading(*command("runs").splitlines())
    report = markdown(command("report"))
    memory = next(name for name in runs if name in MEMORY)
    assert memory == ("RAM MiB" if shown.device is CPU else "VRAM MiB")
    figures = ["time s", "samples/s", memory, "%", "loss", "accuracy", "status"]
    assert {name: runs[name] for name in figures} == {name: report[name] for name in figures}

    async with stage((200, 60), [shown]) as s:
        heading = next(line for line in s.lines if "samples/s" in line and "ckpt" in line).partition("││")[2]
        row = s.lines[s.lines.index(s.line("samples/s VRAM") or s.line("samples/s  RAM")) + 1].partition("││")[2]
        names = ("time s", "samples/s", memory, "%", "loss", "accuracy")
        pane = {name: row[: heading.index(name) + len(name)].split()[-1] for name in names}
        status = row[heading.index("status") :].partition("│")[0].strip()
        assert pane == {name: runs[name] for name in names}
        assert runs["status"].startswith(status)
        await s.press("tab", "enter")
        details = s.text
        for name in ("time s", "samples/s", memory, "loss", "accuracy", "status"):
            line = next(line for line in details.splitlines() if f" {name:<16}" in line)
            text = line.partition(f"{name:<16}")[2].strip()
            assert text.partition(" ±")[0].startswith(runs[name]), (name, text, runs[name])
        assert f"% {runs['%']} " in details


def test_a_sweeps_row_tells_the_same(shown: RunRecord, command: Run) -> None:
    runs = by_heading(*command("runs").splitlines())
    out = io.StringIO()
    report = SweepReport(out, io.StringIO(), as_json=False)
    plan = sweep(RunConfig(), {"batch_size": ["8"]})
    report.begin(plan, [])
    report.show(PlanStarted(plan_id=1, name=plan.name, title=plan.title, total=1))
    report.show(PlanProgress(plan_id=1, position=1, total=1, label="batch size 8"))
    report.show(RunFinished(record=shown))
    report.show(PlanFinished(plan_id=1, name=plan.name, completed=True, done=1, total=1))
    row = " ".join(out.getvalue().splitlines()[1].split())
    label = "RAM" if shown.device is CPU else "VRAM"
    accuracy = [f"accuracy {runs['accuracy']}"] if shown.eval_accuracy is not None else []
    assert row == " ".join(
        [
            f"1/1 batch size 8 {runs['time s']} s {runs['samples/s']} samples/s {runs[f'{label} MiB']} MiB {label}",
            f"{runs['%']} % loss {runs['loss']}",
            *accuracy,
            runs["status"],
        ]
    )


def test_beside_the_lecture_stands_the_mean() -> None:
    plan = named_plan("batch-size", RunConfig(device="virtual:tesla-p4"), "lecture")
    done = record(1, config=plan.runs[0].config, device=GPU, samples_per_s=4.6, steady_samples_per_s=4.9)
    made = plan_table(plan, [done])
    assert made is not None
    cells = {str(column.header): [str(cell) for cell in column.cells] for column in made[0].columns}
    assert cells["mean\nsamples/s\nhere"][0] == "4.60"
