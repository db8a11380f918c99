"""The end of a growing file, and what is in the way of reading it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tui.desk import tail
from tui.desk.tail import BYTES, LINES, Tail


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "EVERY_S", 0.0)


def told(reader: Tail, path: Path) -> list[str]:
    """What it tells next."""
    deadline = time.monotonic() + 30
    while (lines := reader.look(str(path))) is None:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return lines


def test_it_tells_what_is_there_and_then_what_came(tmp_path: Path) -> None:
    path, reader = tmp_path / "rank-1.log", Tail()
    path.write_text("one\ntwo\n", encoding="utf-8")
    assert told(reader, path) == ["one", "two"]
    with path.open("a", encoding="utf-8") as file:
        file.write("three\n")
    assert told(reader, path) == ["one", "two", "three"]


def test_a_file_that_comes_later_is_told(tmp_path: Path) -> None:
    path, reader = tmp_path / "rank-1.log", Tail()
    [why] = told(reader, path)
    assert why == f"{path}: No such file or directory"
    path.write_text("here\n", encoding="utf-8")
    assert told(reader, path) == ["here"]


def test_of_a_long_file_only_the_end_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rank-1.log"
    path.write_text("".join(f"line {number:09}\n" for number in range(BYTES // 10)), encoding="utf-8")
    lines = told(Tail(), path)
    assert len(lines) == LINES
    assert lines[-1] == f"line {BYTES // 10 - 1:09}"


def test_what_a_terminal_would_obey_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "rank-1.log"
    path.write_bytes(b"\x1b]0;title\x07red \x1b[31mtext\n50 %\r100 %\nbroken \xff\n")
    assert told(Tail(), path) == ["red text", "50 %", "100 %", "broken �"]


def test_a_pipe_keeps_nobody_waiting(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    assert told(Tail(), path) == [f"{path} is no file"]


def test_another_path_begins_anew(tmp_path: Path) -> None:
    one, two, reader = tmp_path / "0.log", tmp_path / "1.log", Tail()
    one.write_text("zero\n", encoding="utf-8")
    two.write_text("one\n", encoding="utf-8")
    assert told(reader, one) == ["zero"]
    assert told(reader, two) == ["one"]
    assert told(reader, one) == ["zero"]
