"""Hostile text in data, names and prints, in a real terminal: shown as text, obeyed by nothing."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest

from engine.contract.config import KNOBS, RunConfig
from engine.contract.events import Logged, MemoryMoment, RunProgress
from engine.contract.records import DeviceInfo, Memory, Outcome, Phase, RunRecord
from engine.history.history import History
from engine.plans.types import Plan, PlannedRun
from tests.end_to_end.programs import COMMAND, environment
from tests.end_to_end.terminal import Terminal
from tests.engine.history.history_process import update
from tests.engine.model_folders import FAMILIES
from tui import cli

OVERRIDE = "\u202e"
MARKUP = "[bold red]mark[/bold red] [@click=app.quit]up[/]"
HOSTILE = f"\x1b]2;stolen\x07\x1b[2J\x1b[H\x1b[31m{MARKUP} {OVERRIDE}abc\x9b31m\x07"
ROW = f"{HOSTILE} \x9d2;stolen\x9c\x1b]52;c;aGk=\x07 \u2066a\u200bb\u200d\u2028c\u200f"
"""For a row of the history."""
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
PRINTS = f"""
import os, sys
def on_event(event, arguments, told=set()):
    if event == "import" and arguments[0] == "torch" and not told:
        told.add(1)
        os.write(2, {HOSTILE!r}.encode() + b" said the library\\n")
        os.write(1, b"x" * 10_000_000 + b"\\nand after ten million letters\\n")
sys.addaudithook(on_event)
"""
"""A `sitecustomize` that writes to the descriptors themselves, as C code does."""


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    env = environment(tmp_path, OMP_NUM_THREADS="1", LANG="C.UTF-8", LC_ALL="C.UTF-8")
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(PRINTS, encoding="utf-8")
    env["PYTHONPATH"] = f"{site}:{env['PYTHONPATH']}"
    return env


def hostile_model(folder: Path) -> Path:
    """A model's folder whose name a terminal would obey."""
    path = folder / HOSTILE.replace("/", "|")
    path.mkdir()
    (path / "config.json").write_text(json.dumps(FAMILIES["bert"]))
    return path


def hostile_data(folder: Path) -> Path:
    """Reviews that a terminal would obey, one of ten million letters, in a file that is called alike."""
    path = folder / f"{OVERRIDE}\x1b[2J[red]data.csv"
    texts = [HOSTILE.replace('"', "'"), "y " * 5_000_000, *(f"review {number}" for number in range(30))]
    rows = "".join(f'"{text}",{HOSTILE[:12] if index % 2 else "good"}\n' for index, text in enumerate(texts))
    path.write_text(f"text,label\n{rows}", encoding="utf-8")
    return path


@pytest.mark.slow  # a hostile history is the quick one
def test_hostile_text_is_text(env: dict[str, str], tmp_path: Path) -> None:
    knobs = ["--device", "cpu", "--batch-size", "2", "--samples", "8", "--eval-samples", "4", "--seq-len", "16"]
    names = ["--model", str(hostile_model(tmp_path)), "--data", str(hostile_data(tmp_path))]
    with History(tmp_path / "history.sqlite3") as history:
        hostile_row(history)
    with Terminal([*COMMAND, *knobs, *names], env=env) as terminal:
        terminal.wait_for("press r to run", 180)
        terminal.press("p")
        terminal.wait_for(f"go on: {MARKUP[:20]}")
        terminal.press("escape")
        terminal.wait_for(lambda text: "go on: " not in text)
        terminal.press("r")
        terminal.wait_for(lambda text: re.search(r"│ 2 .* (completed|host busy)", text), 180)
        terminal.press("l")
        terminal.wait_for("evaluated 4 samples")
        for key, there in (("tab", "Enter details"), ("tab", "older lines")):  # over the results to the log
            terminal.press(key)
            terminal.wait_for(there)
        terminal.press("\x1b[H")
        terminal.wait_for(f"{MARKUP} abc said the library")
        terminal.press("q")
        assert terminal.wait_exit() == 0
        assert terminal.restored
    assert b"stolen" not in b"".join(re.findall(rb"\x1b\][^\x07]*", terminal.raw))
    assert b"\x1b[2J" not in terminal.raw
    assert re.sub(rb"\x1b\][^\x07]*\x07", b"", terminal.raw).count(b"\x07") == 1  # the run's end rings, no text does
    assert OVERRIDE.encode() not in terminal.raw
    assert b"\xc2\x9b" not in terminal.raw


DIALOGS = (
    ("enter", "status            failed"),
    ("e", "Run 1: failed"),
    ("N", "Note on run 1"),
    ("/", "Filter runs"),
    ("x", "Export"),
    ("K", "Configurations"),
)
"""Keys, and what is then there to read. The first one works in a recording too."""


def hostile_row(history: History) -> None:
    """A run whose every text a terminal would obey, half of a surrogate pair among them."""
    text = f"{ROW}\ud800"
    device = DeviceInfo(name=text, kind=text, memory_label=text, memory_total=2**33)
    run_id = history.writer.begin_run(RunConfig(), device, started_at=1000.0, planned_updates=3)
    memory = Memory(used=2**20, total=2**33)
    history.writer.append(RunProgress(run_id=run_id, phase=Phase.LOAD, detail=text))
    history.writer.append(MemoryMoment(run_id=run_id, moment=text, memory=memory))
    history.writer.append(Logged(source=text, text=text, level="warning"))
    for number in (1, 2, 3):
        history.writer.append(update(run_id, number))
    record = RunRecord(run_id=run_id, config=RunConfig(), outcome=Outcome.FAILED, device=device, message=text)
    history.writer.finish_run(record)
    history.note(run_id, text)
    runs = (PlannedRun(config=RunConfig(), label=ROW), PlannedRun(config=RunConfig(), label=ROW, skip=ROW))
    plan_id = history.plans.begin(Plan(name=ROW, title=ROW, runs=runs, sizes=ROW))
    history.plans.record_step(plan_id, (0, 1), run_id=run_id)
    history.plans.finish(plan_id, "stopped")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with such a row, which no version of traintop would write, and a configuration that is called alike."""
    home = tmp_path / "home"
    monkeypatch.setenv("TRAINTOP_HOME", str(home))
    with History() as history:
        hostile_row(history)
        path = history.path
    texts = {name: f"{ROW}\ud800" for name, knob in KNOBS.items() if knob.kind is str}
    connection = sqlite3.connect(path)
    connection.execute("UPDATE runs SET config = ?", (json.dumps({**RunConfig().to_dict(), **texts}),))
    connection.commit()
    connection.close()
    named = home / "configurations" / f"{HOSTILE.replace('/', '|')}.toml"
    named.parent.mkdir()
    named.write_text("batch_size = [", encoding="utf-8")
    return home


def assert_nothing_is_obeyed(raw: bytes) -> None:
    """Of what a full-screen program wrote: only its own escape sequences, and nothing that reorders or hides."""
    text = raw.decode("utf-8")  # what is no UTF-8 is an error
    titles = re.findall(r"\x1b\](\d+);([^\x07\x1b]*)(?:\x07|\x1b\\\\)", text)
    assert {number for number, _ in titles} <= {"2", "22"}  # the window's title, the pointer's shape; no clipboard
    assert all(title.startswith("traintop") for number, title in titles if number == "2")
    rest = re.sub(r"\x1b\]\d+;[^\x07\x1b]*(?:\x07|\x1b\\\\)", "", text)
    assert "\x1b]" not in rest
    assert "\x1b[2J" not in rest
    assert "\x1b[31m" not in rest  # the program writes no colour in this way
    rest = re.sub(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[P_][^\x1b]*\x1b\\\\|\x1b[=>78]", "", rest)
    assert re.findall("[^\r\n\t\x07]", "".join(OBEYED.findall(rest))) == []
    assert rest.count("\x07") == 0


@pytest.mark.parametrize("words", [(), ("watch",), ("replay", "--speed", "64")], ids=["app", "watch", "replay"])
def test_a_hostile_history_on_the_screen(words: Sequence[str], home: Path) -> None:
    env = environment(home, LANG="C.UTF-8", LC_ALL="C.UTF-8")
    with Terminal([*COMMAND, *words], env=env) as terminal:
        if words:
            terminal.wait_for("Run 1 failed")  # a dialog
            terminal.press("escape")
            terminal.wait_for(lambda text: "Run 1 failed" not in text)
        terminal.wait_for(lambda text: re.search(r"│ 1\+ .* failed", text))
        terminal.press("tab")
        terminal.wait_for("Enter details")
        for key, there in DIALOGS[: 1 if words else None]:
            terminal.press(key)
            terminal.wait_for(there)
            terminal.press("escape")
            terminal.wait_for(lambda text, there=there: there not in text)
        terminal.press("l")
        terminal.wait_for(lambda text: text.count("┌") > 7 or "Log" in text)
        terminal.press("q")
        assert terminal.wait_exit() == 0
        assert terminal.restored
    assert MARKUP[:20].encode() in terminal.raw  # it was shown
    assert_nothing_is_obeyed(terminal.raw)


@pytest.mark.parametrize(
    "words",
    [
        "runs",
        "runs --json",
        "report --format markdown",
        "report --format latex",
        "report --format csv",
        "report --format json",
        "watch 1",
        "watch 1 --json",
        "replay 1",
        "replay 1 --json",
        f"sweep --resume {ROW.replace(' ', '')}",
        f"run --model {ROW.replace(' ', '')} --precision {ROW.replace(' ', '')}",
    ],
)
def test_a_hostile_history_in_lines(words: str, home: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    cli.main(words.split())
    written = capfdbinary.readouterr()
    text = (written.out + written.err).decode("utf-8")
    assert OBEYED.findall(text) == []
    assert text
