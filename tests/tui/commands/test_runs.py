"""`traintop runs` on a terminal: columns are left out, never cut."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from engine.contract.records import Outcome
from engine.history.history import History
from tests.engine.compare.test_answers import lookup, run
from tests.tui.fake_session import record
from tui import cli
from tui.commands import runs


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_a_narrow_table_leaves_columns_out_and_cuts_none(width: int) -> None:
    rows = [replace(record(number), host_cores=2.0, host_free_cores=0.5) for number in range(1, 13)]
    console = Console(width=width, file=StringIO())
    with console.capture() as capture:
        console.print(runs.table(rows, width))
    heading, *lines = capture.get().splitlines()
    assert "…" not in heading + "".join(lines)
    assert [int(line.split()[0]) for line in lines] == list(range(1, 13))
    for name in ("#", "model", "batch", "MiB", "status"):
        assert name in heading
    assert ("ckpt" in heading, "time s" in heading) == (width > 60, width >= 120)


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_a_narrow_table_of_answers_keeps_speed_latency_and_memory(width: int) -> None:
    rows = [run(1), lookup(), run(3, kv_cache="off", batch_size=16)]
    console = Console(width=width, file=StringIO())
    with console.capture() as capture:
        console.print(runs.table(rows, width))
    heading, *lines = capture.get().splitlines()
    assert "…" not in heading + "".join(lines)
    assert [int(line.split()[0]) for line in lines] == [1, 2, 3]
    for name in ("#", "tg t/s", "TTFT", "TPOT", "MiB", "status"):
        assert name in heading
    assert ("spec" in heading, "acc %" in heading) == (width > 60, width >= 120)


def test_jobs_have_a_table_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRAINTOP_HOME", str(tmp_path))
    with History() as history:
        for each in (record(1), run(2), replace(run(3), outcome=Outcome.STOPPED)):
            run_id = history.writer.begin_run(each.config, each.device, 1.0)
            history.writer.finish_run(replace(each, run_id=run_id))
    assert cli.main(["runs"]) == 0
    training, answering = capsys.readouterr().out.split("\n\n")
    assert training.splitlines()[0] == "Training"
    assert "loss" in training
    assert "tg" not in training
    assert answering.splitlines()[0] == "Answering"
    assert "tg tokens/s" in answering
    assert [line.split()[0] for line in answering.splitlines()[2:]] == ["2", "3"]
    assert cli.main(["runs", "--job", "train"]) == 0
    assert capsys.readouterr().out == training.partition("\n")[2] + "\n"
    assert cli.main(["runs", "--job", "answer", "--json", "--limit", "1"]) == 0
    newest = json.loads(capsys.readouterr().out)
    assert (newest["run_id"], newest["job"], newest["ttft_s"]["p50"]) == (3, "answer", 0.0487)
    assert cli.main(["runs", "--job", "sleep"]) == 2
    assert "use train, answer or script" in capsys.readouterr().err
