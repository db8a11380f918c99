"""Hostile text in data, names and prints, in a real terminal: shown as text, obeyed by nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.end_to_end.programs import COMMAND, environment
from tests.end_to_end.terminal import Terminal
from tests.engine.model_folders import FAMILIES

OVERRIDE = "\u202e"
MARKUP = "[bold red]mark[/bold red] [@click=app.quit]up[/]"
HOSTILE = f"\x1b]2;stolen\x07\x1b[2J\x1b[H\x1b[31m{MARKUP} {OVERRIDE}abc\x9b31m\x07"
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


def test_hostile_text_is_text(env: dict[str, str], tmp_path: Path) -> None:
    knobs = ["--device", "cpu", "--batch-size", "2", "--samples", "8", "--eval-samples", "4", "--seq-len", "16"]
    names = ["--model", str(hostile_model(tmp_path)), "--data", str(hostile_data(tmp_path))]
    with Terminal([*COMMAND, *knobs, *names], env=env) as terminal:
        terminal.wait_for("press r to run", 180)
        terminal.press("r")
        terminal.wait_for(lambda text: re.search(r"│ 1 .* completed", text), 180)
        terminal.press("l")
        terminal.wait_for("evaluated 4 samples")
        for key, there in (("tab", "↑↓ row"), ("tab", "older lines")):  # over the results to the log
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
