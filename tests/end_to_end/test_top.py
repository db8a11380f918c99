"""`traintop top` in a real terminal, over the stand-in for the driver's library; and what it prints without one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.programs import COMMAND, ROOT, environment, traintop
from tests.end_to_end.terminal import Terminal
from tests.engine.telemetry.nvml_machine import LIBRARY, Machine, machine

_OWN = "import ctypes, sys; ctypes.CDLL(sys.argv[1]); sys.stdout.write('.'); sys.stdout.flush(); sys.stdin.read()"


@pytest.fixture
def seen(tmp_path: Path) -> Machine:
    made = machine(tmp_path, 4)
    made.card(0, used=7072, gpu=97, memory=61, power=72_500, celsius=61, throttle=4)
    made.card(1, used=143_000, gpu=100, throttle=0x40, ecc=2)
    made.process(1, 4_000_000, used=142_000, sm=99)
    made.card(2, used=500)
    made.slice(2, name="NVIDIA A100 MIG 3g.20gb", uuid="MIG-2", gi=2, ci=0, total=20096, used=480)
    return made.write()


@pytest.fixture
def home(tmp_path: Path, seen: Machine) -> dict[str, str]:
    return {**environment(tmp_path / "home"), **seen.environment}


@pytest.fixture
def own(tmp_path: Path, seen: Machine) -> Iterator[subprocess.Popen[bytes]]:
    """A process of this user's that is on card 0; with a libcuda, by which it is believed inside a container too."""
    library = tmp_path / "libcuda.so.1"
    shutil.copy(tmp_path / LIBRARY, library)
    process = subprocess.Popen(
        [sys.executable, "-c", _OWN, str(library)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.read(1) == b"."
    seen.process(0, process.pid, used=6900, sm=87)
    seen.write()
    yield process
    process.kill()
    process.wait(60)


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)])
def test_a_line_a_card_and_below_it_who_is_on_it(
    home: dict[str, str], own: subprocess.Popen[bytes], size: tuple[int, int]
) -> None:
    with Terminal([*COMMAND, "top"], columns=size[0], rows=size[1], env=home) as terminal:
        text = terminal.wait_for(lambda text: "4 cards" in text and "Tesla T4" in text and "close" in text)
        lines = text.splitlines()
        at = {index: next(i for i, line in enumerate(lines) if line.startswith(f" {index:>2} ")) for index in range(4)}
        assert "7069 / 7611" in lines[at[0]]
        assert "power cap" in lines[at[0]]
        assert str(own.pid) in lines[at[0] + 1]
        assert lines[at[0] + 1].split()[0] == "*"
        assert "too hot" in lines[at[1]]
        assert "not visible from here" in lines[at[1] + 1]
        assert "3g.20gb" in lines[at[2] + 1]
        assert len(lines) <= size[1]
        terminal.press("q")
        assert terminal.wait_exit() == 0
        assert terminal.restored


def test_it_follows_the_cards_and_marks_a_lost_one(home: dict[str, str], seen: Machine) -> None:
    with Terminal([*COMMAND, "top"], env=home) as terminal:
        terminal.wait_for("4 cards")
        seen.card(3, used=12_348)
        seen.write()
        terminal.wait_for("12345 / 15360")
        seen.lost.add(1)
        seen.card(3, used=12_349)
        seen.write()
        terminal.wait_for("1 lost")
        terminal.wait_for("12346 / 15360")
        assert "lost" in terminal.line_with("H200")
        terminal.press("q")
        assert terminal.wait_exit() == 0


def test_details_and_ending_a_process_of_ones_own_after_asking(
    home: dict[str, str], own: subprocess.Popen[bytes]
) -> None:
    with Terminal([*COMMAND, "top"], env=home) as terminal:
        terminal.wait_for(str(own.pid))
        terminal.press("down", "enter")
        assert "6900 MiB on this card" in terminal.wait_for(f"Process {own.pid} on gpu 0")
        terminal.press("q")
        terminal.wait_for(lambda text: "on this card" not in text)
        terminal.press("k")
        terminal.wait_for("SIGTERM")
        assert own.poll() is None
        terminal.press("w")
        terminal.wait_for(lambda text: "SIGTERM" not in text)
        assert own.poll() is None
        terminal.press("k")
        terminal.wait_for("SIGTERM")
        terminal.press("t")
        terminal.wait_for(f"process {own.pid} has ended")
        assert own.wait(60) == -15
        terminal.press("down", "down", "k")
        terminal.wait_for("cannot be ended from here")
        terminal.press("q")
        assert terminal.wait_exit() == 0


def test_many_processes_are_scrolled_through(home: dict[str, str], seen: Machine) -> None:
    for number in range(60):
        seen.process(3, 4_100_000 + number, used=60 - number)
    seen.write()
    with Terminal([*COMMAND, "top"], columns=80, rows=24, env=home) as terminal:
        terminal.wait_for("1–20 of 68")
        assert "4100059" not in terminal.text
        terminal.press(*["\x1b[6~"] * 8)
        terminal.wait_for("4100059")
        terminal.press("q")
        assert terminal.wait_exit() == 0


def test_once_as_a_table_and_as_json(home: dict[str, str], own: subprocess.Popen[bytes]) -> None:
    table = traintop("top", "--once", env=home)
    assert table.returncode == 0
    assert "7069 / 7611" in table.stdout
    assert str(own.pid) in table.stdout
    done = traintop("top", "--once", "--json", env=home)
    cards = [json.loads(line) for line in done.stdout.splitlines()]
    assert [card["gpu"] for card in cards] == [0, 1, 2, 3]
    assert cards[0]["memory_used_mib"] == 7069.0
    assert cards[0]["processes"][0]["pid"] == own.pid
    assert cards[0]["processes"][0]["mine"] is True
    assert cards[1]["throttle"] == ["too hot"]
    assert cards[2]["slices"][0]["uuid"] == "MIG-2"
    assert done.stderr == ""


def test_as_json_it_goes_on_until_the_reader_leaves(home: dict[str, str], seen: Machine) -> None:
    words = [*COMMAND, "top", "--json", "--interval", "0.1"]
    with subprocess.Popen(words, env={**os.environ, **home}, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = [json.loads(process.stdout.readline()) for _ in range(4)]
        seen.card(0, gpu=12)
        seen.write()
        for line in process.stdout:
            card = json.loads(line)
            if card["gpu"] == 0 and card["utilization"] == 12.0:
                break
        assert len({card["at"] for card in first}) == 1
        assert card["at"] > first[0]["at"]
        process.stdout.close()
        assert process.wait(60) == 0


@pytest.mark.parametrize("words", [("--once",), ("--json",), ("--once", "--json")])
def test_without_a_driver_it_says_in_a_sentence_what_is_missing(tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / LIBRARY).write_text("not a library")
    done = traintop("top", *words, env={**environment(tmp_path), "LD_LIBRARY_PATH": str(tmp_path)})
    assert done.returncode == 4
    assert done.stdout == ""
    assert done.stderr.startswith("traintop top: No NVIDIA driver")
    assert len(done.stderr.splitlines()) == 1


def test_without_a_driver_the_screen_says_so_too(tmp_path: Path) -> None:
    (tmp_path / LIBRARY).write_text("not a library")
    env = {**environment(tmp_path), "LD_LIBRARY_PATH": str(tmp_path)}
    with Terminal([*COMMAND, "top"], env=env) as terminal:
        terminal.wait_for("No NVIDIA driver")
        terminal.press("q")
        assert terminal.wait_exit() == 0


def test_a_wrong_interval_is_refused(tmp_path: Path) -> None:
    done = traintop("top", "--interval", "0", env=environment(tmp_path))
    assert (done.returncode, "--interval '0'" in done.stderr) == (2, True)


def test_nothing_of_the_training_is_imported(home: dict[str, str]) -> None:
    program = (
        "import sys; from tui.cli import main; main(['top', '--once', '--json']);"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    env = {**os.environ, **home}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=env, capture_output=True, text=True, check=True
    )
    imported = set(done.stdout.splitlines()[-1].split())
    assert not imported & {"torch", "transformers", "datasets", "numpy", "textual", "sqlite3"}
    assert "pynvml" in imported
