"""What a script prints, as lines: progress bars, floods, escape sequences, and files that cannot be written."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from engine.contract.events import Logged
from engine.contract.paths import data_dir, script_errors, script_log
from engine.process.run_files import KEPT_RUNS
from engine.scripts.log_file import BAR_S, Printed, shown


class _Case:
    def __init__(self, run_id: int = 1) -> None:
        self.now = 0.0
        self.printed = Printed(run_id, lambda: self.now)

    def write(self, text: str | bytes, stream: int = 0) -> None:
        os.write(self.printed.descriptors[stream], text.encode() if isinstance(text, str) else text)

    def news(self) -> list[tuple[str, str]]:
        return _said(self.printed.news())

    def rest(self) -> list[tuple[str, str]]:
        return _said(self.printed.rest())


def _said(lines: Iterable[Logged]) -> list[tuple[str, str]]:
    return [(line.source, line.text) for line in lines]


def test_lines_come_when_they_have_ended_each_from_its_stream() -> None:
    case = _Case()
    case.write("one\ntw")
    case.write("warning\n", 1)
    assert case.news() == [("stdout", "one"), ("stderr", "warning")]
    case.write("o\n\n")
    assert case.news() == [("stdout", "two")]
    case.write("last")
    assert case.news() == []
    assert case.rest() == [("stdout", "last")]
    assert case.printed.last_errors == ("warning",)
    assert script_log(1).read_text() == "one\ntwo\n\nlast"
    case.printed.close()


def test_of_a_progress_bar_the_last_state_counts() -> None:
    case = _Case()
    case.write("".join(f"\r{n:3d}%|####" for n in range(50)), 1)
    assert case.news() == [("stderr", " 49%|####")]
    case.now += BAR_S - 1
    case.write("\r 50%|####", 1)
    assert case.news() == []
    case.now += 1
    assert case.news() == [("stderr", " 50%|####")]
    case.write("\r100%|####\nnext\r\n", 1)
    assert case.news() == [("stderr", "100%|####"), ("stderr", "next")]
    case.printed.close()


def test_what_a_terminal_would_obey_is_not_shown() -> None:
    assert shown(b"\x1b[1;31mred\x1b[0m \x1b]0;title\x07\x1b[A\x1b(Bx\x07\ttab\xff") == "red x\ufffd  tab\ufffd"
    assert shown(b"\r\r") == ""
    assert len(shown(b"x" * 10_000)) == 500


def test_what_comes_too_fast_is_left_out_and_counted() -> None:
    case = _Case()
    case.write("".join(f"line {n}\n" for n in range(1000)))
    said = case.news()
    assert said[0] == ("left out", f"… 960 lines left out: all are in {script_log(1)}")
    assert [text for _, text in said[1:]] == [f"line {n}" for n in range(960, 1000)]
    case.write("more\n")
    assert case.news() == []
    case.now += 1.0
    case.write("".join(f"again {n}\n" for n in range(30)))
    said = case.news()
    assert said[0][1].startswith("… 11 lines left out")
    assert len(said) == 1 + 20
    case.write("".join(f"end {n}\n" for n in range(100)))
    assert [text for _, text in case.rest()][1:] == [f"end {n}" for n in range(85, 100)]
    case.printed.close()


def test_who_prints_on_and_on_is_shown_two_lines_a_second() -> None:
    case = _Case()
    shown_lines = 0
    for _ in range(500):
        case.now += 1.0
        case.write("".join(f"{n}\n" for n in range(20)))
        shown_lines += sum(source == "stdout" for source, _ in case.news())
    assert shown_lines <= 2_000 + 2 * 500
    case.printed.close()


def test_a_flood_takes_no_memory_and_no_line_of_it_is_lost_in_the_count() -> None:
    import tracemalloc

    case = _Case()
    line = b"x" * 99 + b"\n"
    for _ in range(100):
        case.write(line * 10_000)  # 100 MB in all
    tracemalloc.start()
    said: list[tuple[str, str]] = []
    while os.stat(script_log(1)).st_size > os.lseek(case.printed._tails[0]._file, 0, os.SEEK_CUR):
        case.now += 0.1
        said += case.news()
    said += case.rest()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    left_out = sum(int(text.split()[1].replace(",", "")) for source, text in said if source == "left out")
    assert left_out + sum(source == "stdout" for source, _ in said) == 1_000_000
    assert peak < 16 * 2**20
    case.printed.close()
    script_log(1).unlink()


def test_the_newest_runs_keep_theirs_and_an_empty_one_of_errors_goes() -> None:
    for run_id in range(1, KEPT_RUNS + 3):
        case = _Case(run_id)
        case.write("x\n", run_id % 2)
        case.printed.close()
        os.utime(script_log(run_id), (run_id, run_id))
        if run_id % 2:
            os.utime(script_errors(run_id), (run_id, run_id))
    there = {path.name for path in (data_dir() / "scripts").iterdir()}
    runs = range(3, KEPT_RUNS + 3)
    assert there == {f"run-{n}.log" for n in runs} | {f"run-{n}.err.log" for n in runs if n % 2}


def test_where_none_can_be_written_what_is_printed_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TRAINTOP_HOME", str(tmp_path / "file"))
    case = _Case()
    case.write("x\n")
    assert (case.printed.path, case.news(), case.rest(), case.printed.last_errors) == (None, [], [], ())
    case.printed.let_go()
    case.printed.close()
