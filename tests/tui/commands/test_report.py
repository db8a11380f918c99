"""`traintop report`, through the command line and a real history file."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.contract.config import RunConfig
from engine.contract.records import DeviceInfo, Outcome, RunRecord
from engine.export.export import read_csv
from engine.history.history import History
from tui.cli import main

P4 = DeviceInfo(name="Tesla P4", kind="cuda", index=0, memory_total=7611 * 2**20)


def finish(history: History, config: RunConfig, **values: Any) -> int:
    """A run of the history that ended."""
    run_id = history.writer.begin_run(config, P4, started_at=1_700_000_000.0, planned_updates=64)
    figures: dict[str, Any] = {
        "outcome": Outcome.COMPLETED,
        "updates": 64,
        "planned_updates": 64,
        "train_runtime_s": 66.7,
        "samples_per_s": 7.68,
        "steady_samples_per_s": 7.7,
        "steady_spread": 0.03,
        "peak_used": 7069 * 2**20,
        "memory_total": 7611 * 2**20,
    }
    record = RunRecord(run_id=run_id, config=config, outcome=Outcome.RUNNING, device=P4, started_at=1_700_000_000.0)
    history.writer.finish_run(replace(record, **{**figures, **values}))
    return run_id


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A history of five runs: 1, 2 (checkpointing), 3 (a repeat of 1), 4 (deleted), 5 (out of memory)."""
    monkeypatch.setenv("TRAINTOP_HOME", str(tmp_path))
    base = RunConfig(model="bert-base-uncased")
    with History() as history:
        finish(history, base)
        finish(history, base.with_values(gradient_checkpointing="on"), peak_used=3619 * 2**20)
        finish(history, base.with_values(seed=1))
        history.delete([finish(history, base)])
        finish(history, base.with_values(batch_size=9), outcome=Outcome.OUT_OF_MEMORY, peak_used=None)
    return tmp_path


Report = Callable[..., tuple[int, str, str]]


@pytest.fixture
def report(home: Path, capsys: pytest.CaptureFixture[str]) -> Report:
    """Run the command; its exit code, stdout and stderr."""

    def run(*words: str) -> tuple[int, str, str]:
        code = main(["report", *words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def run_ids(report: Report, *words: str) -> list[int]:
    code, out, _ = report("--format", "json", *words)
    assert code == 0
    return [run["run_id"] for run in json.loads(out)]


def test_all_runs_as_markdown(report: Report) -> None:
    code, out, err = report()
    assert (code, err) == (0, "")
    assert [line.split("|")[1].strip() for line in out.splitlines()[2:6]] == ["1", "2", "3", "5"]
    assert "Δ" not in out


@pytest.mark.parametrize(
    ("which", "wanted"),
    [
        ("all", [1, 2, 3, 5]),
        ("2", [2]),
        ("3,1", [1, 3]),
        ("1,2-4", [1, 2, 3]),
        ("2-90", [2, 3, 5]),
        ("1, 1-2", [1, 2]),
        ("last:2", [3, 5]),
        ("last:99", [1, 2, 3, 5]),
    ],
)
def test_selections(report: Report, which: str, wanted: list[int]) -> None:
    assert run_ids(report, "--runs", which) == wanted


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--runs", "x"], "--runs 'x' is not a selection of runs"),
        (["--runs", ""], "is not a selection"),
        (["--runs", "5-3"], "is not a selection"),
        (["--runs", "1-9999999999"], "is not a selection"),
        (["--runs", "last:0"], "is not a selection"),
        (["--runs", "1,²"], "is not a selection"),
        (["--runs", "7"], "--runs 7: that run is not in the history"),
        (["--runs", "4"], "--runs 4: that run is not in the history"),
        (["--runs", "1,90-99"], "--runs 90-99: those runs are not in the history"),
        (["--runs", "9" * 18], "not in the history"),
        (["--baseline", "4"], "--baseline 4: that run is not in the history"),
        (["--baseline", "9" * 18], "that run is not in the history"),
        (["--baseline", "x"], "--baseline 'x' is not a run: give its number, or none"),
        (["--format", "pdf"], "--format 'pdf' is not known: use markdown, latex, csv, json."),
        (["--caption", "x"], "--caption has no place in markdown: use it with --format latex."),
        (["--format", "json", "--baseline", "1"], "--baseline has no place in json"),
        (["--format", "csv", "--repeats-as-one"], "--repeats-as-one has no place in csv"),
        (["--fromat", "csv"], "did you mean --format?"),
        (["--output", "/nowhere/at/all.md"], "cannot be written (No such file or directory): give another file."),
        (["--output", "a\0b"], "cannot be written"),
    ],
)
def test_refusals(report: Report, words: list[str], problem: str) -> None:
    code, out, err = report(*words)
    assert (code, out) == (2, "")
    assert err.startswith("traintop report: ")
    assert problem in err
    assert err.count("\n") == 1


def test_the_pinned_run_is_the_baseline(report: Report) -> None:
    with History() as history:
        history.set_baseline(1)
    assert "Δ: difference to run 1;" in report()[1]
    assert "Δ: difference to run 2;" in report("--baseline", "2")[1]
    assert "Δ" not in report("--baseline", "none")[1]
    rows = read_csv(report("--format", "csv", "--runs", "2")[1])
    assert [row["verdict_peak_used"] for row in rows] == ["better"]


def test_repeats_as_one(report: Report) -> None:
    _, out, _ = report("--repeats-as-one")
    assert [line.split("|")[1].strip() for line in out.splitlines()[2:5]] == ["1, 3", "2", "5"]


def test_latex_with_caption_and_label(report: Report) -> None:
    code, out, _ = report("--format", "latex", "--caption", "50 %", "--label", "tab:x")
    assert code == 0
    assert r"\caption{50 \%}" in out
    assert r"\label{tab:x}" in out


@pytest.mark.parametrize(
    ("name", "beginning"), [("a.md", "|"), ("a.tex", "%"), ("a.csv", '"run_id"'), ("a.JSON", "["), ("a.txt", "|")]
)
def test_the_files_ending_is_the_format(report: Report, home: Path, name: str, beginning: str) -> None:
    (home / name).write_text("what was here before" * 1000, encoding="utf-8")
    code, out, err = report("--output", str(home / name))
    assert (code, out) == (0, "")
    assert err == f"4 runs written to {home / name}.\n"
    text = (home / name).read_text(encoding="utf-8")
    assert text.startswith(beginning)
    assert "what was here before" not in text


def test_a_dash_is_stdout(report: Report) -> None:
    assert report("--output", "-")[1] == report()[1]


def test_an_empty_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TRAINTOP_HOME", str(tmp_path / "new"))
    assert main(["report", "--format", "json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == []
    assert "No runs yet" in captured.err


def test_a_damaged_history_is_told(report: Report, home: Path) -> None:
    (home / "history.sqlite3").write_bytes(b"not a database" * 1000)
    code, _, err = report("--format", "csv")
    assert code == 0
    assert "history.sqlite3" in err


def test_a_history_that_cannot_be_read(report: Report, home: Path) -> None:
    (home / "history.sqlite3").unlink()
    (home / "history.sqlite3").mkdir()
    code, out, err = report()
    assert (code, out) == (5, "")
    assert err.startswith("traintop report: ")


def test_a_terminal_without_these_characters(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    assert main(["report", "--baseline", "1"]) == 0
    assert b"7069" in raw.getvalue()
    assert b"? VRAM %" in raw.getvalue()


def test_a_run_on_several_gpus_is_measured_by_one_of_the_whole_history(report: Report) -> None:
    with History() as history:
        config = RunConfig(model="bert-base-uncased", gpus=2)
        two = finish(history, config, steady_samples_per_s=14.0, peak_used_by_rank=(2**20, 2 * 2**20), wait_share=0.1)
    _, out, _ = report("--runs", str(two), "--format", "json")
    (row,) = json.loads(out)
    assert (row["gpus"], row["scaling"]) == (2, 14.0 / (2 * 7.7))
    assert (row["peak_used_mib_by_gpu"], row["wait_share"]) == ([1.0, 2.0], 0.1)
    _, out, _ = report("--runs", str(two), "--format", "csv")
    assert read_csv(out)[0]["scaling"] == 14.0 / (2 * 7.7)
    _, out, _ = report("--runs", str(two), "--format", "latex")
    assert r"91 \%" in out
    _, out, _ = report("--runs", f"1,{two}")
    assert "| scaling |" in out
    with History() as history:
        history.set_baseline(finish(history, RunConfig(model="bert-base-uncased"), steady_samples_per_s=7.0))
        finish(history, RunConfig(model="bert-base-uncased"), steady_samples_per_s=8.0)
    _, out, _ = report("--runs", str(two), "--format", "json")
    assert json.loads(out)[0]["scaling"] == 1.0  # by the pinned one, which is not the newest


def test_runs_lists_several_gpus_with_their_scaling(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with History() as history:
        finish(history, RunConfig(model="bert-base-uncased", gpus=2), steady_samples_per_s=14.0)
    assert main(["runs"]) == 0
    heading, *rows = capsys.readouterr().out.splitlines()
    assert {"GPUs", "parallel", "scaling"} < set(heading.split())
    assert "91 %" in rows[-1]
    assert main(["runs", "--json", "--limit", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["scaling"] == 14.0 / (2 * 7.7)
