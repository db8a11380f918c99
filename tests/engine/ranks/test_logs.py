"""Log files of ranks: one for each, and no more than of the newest runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.contract.paths import data_dir
from engine.process.run_files import KEPT_RUNS
from engine.ranks.logs import files


def test_old_files_make_room() -> None:
    for run_id in range(1, KEPT_RUNS + 3):
        for path in files(run_id, 2):
            assert path is not None
            os.utime(path, (run_id, run_id))
    there = {path.name for path in (data_dir() / "ranks").iterdir()}
    assert there == {f"run-{run}-rank-{rank}.log" for run in range(3, KEPT_RUNS + 3) for rank in (0, 1)}


def test_where_none_can_be_written_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TRAINTOP_HOME", str(tmp_path / "file"))
    assert files(1, 2) == [None, None]
