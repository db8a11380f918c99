"""The way to the terminal: what waits, what has left, and what it costs; a driver that never waits for its reader."""

from __future__ import annotations

import io
import threading
from typing import Any

import pytest

from tui.state.meter import Meter
from tui.terminal.driver import LinkDriver, has_title
from tui.terminal.link import BEHIND_S, Link, TerminalStream


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class StalledFile(io.StringIO):
    """Takes nothing until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()

    def flush(self) -> None:
        self.open.wait(10)


# counting --------------------------------------------------------------------------------------------------------


def test_a_write_waits_until_it_was_flushed() -> None:
    clock = Clock()
    link = Link(clock)
    stream = TerminalStream(io.StringIO(), link)
    link.handed_over()
    link.handed_over()
    stream.write("ab")
    clock.now += 2 * BEHIND_S
    assert (link.n_waiting, link.behind, link.n_bytes) == (2, True, 0)
    assert link.waiting_s == pytest.approx(2 * BEHIND_S)
    stream.flush()
    assert (link.n_waiting, link.behind, link.n_bytes) == (1, False, 2)  # something has left: its time begins again
    stream.write("…")
    stream.flush()
    assert (link.n_waiting, link.waiting_s, link.n_bytes) == (0, 0.0, 5)


def test_what_just_left_is_not_behind() -> None:
    clock = Clock()
    link = Link(clock)
    link.handed_over()
    clock.now += BEHIND_S / 2
    assert not link.behind


def test_a_terminal_that_is_gone_takes_everything() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

        def flush(self) -> None:
            raise OSError(5, "Input/output error")

    link = Link()
    stream = TerminalStream(Gone(), link)
    link.handed_over()
    assert stream.write("x") == 1
    stream.flush()
    assert (link.n_waiting, link.n_bytes) == (0, 0)
    assert link.wait_until_sent(0.0)


# the driver ------------------------------------------------------------------------------------------------------


class Driver(LinkDriver):
    """The real driver with its writer thread, without the signals and the terminal."""

    def __init__(self, link: Link, file: Any) -> None:
        from textual.drivers._writer_thread import WriterThread

        self._link = link
        self._held: list[str] = []
        self._title = ""
        self._has_title = True
        self._writer_thread = WriterThread(TerminalStream(file, link))  # type: ignore[arg-type]
        self._writer_thread.start()


def test_the_driver_never_waits_for_a_terminal_that_does_not_read() -> None:
    link, file = Link(), StalledFile()
    driver = Driver(link, file)
    for number in range(200):  # Textual's queue holds 30, and its `put` would block here
        driver.write(f"{number} ")
    assert link.n_waiting <= 20
    file.open.set()
    driver.close()
    assert file.getvalue() == "".join(f"{number} " for number in range(200))
    assert not link.abandoned


def test_closing_gives_up_on_a_terminal_that_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui.terminal.driver._CLOSE_S", 0.0)
    link, file = Link(), StalledFile()
    driver = Driver(link, file)
    driver.write("x")
    driver.close()
    assert link.abandoned
    file.open.set()


def test_the_title_is_text_and_is_sent_when_it_changes() -> None:
    link, file = Link(), StalledFile()
    file.open.set()
    driver = Driver(link, file)
    for title in ("run 1", "run 1", "run\x07\x1b]0;2\n"):
        driver.show_title(title)
    driver.close()
    assert file.getvalue() == "\x1b]2;run 1\x07\x1b]2;run0;2\x07"


@pytest.mark.parametrize(
    ("kind", "has"),
    [("xterm-256color", True), ("tmux-256color", True), ("screen", True), ("linux", False), ("", False)],
)
def test_a_console_has_no_title(kind: str, has: bool) -> None:
    assert has_title(kind) is has


# the meter -------------------------------------------------------------------------------------------------------


def test_the_meter_tells_rates_every_two_seconds() -> None:
    meter = Meter()
    assert meter.text == "app –"
    assert not meter.read(10.0, 1.0, 1000)
    assert not meter.read(11.0, 1.5, 1500)
    assert meter.read(12.0, 1.06, 1000 + 3 * 1024)
    assert meter.text == "app 3 % of a core  1.5 KB/s"
    assert not meter.read(13.0, 2.0, 9000)
    assert meter.read(14.0, 1.06, 1000 + 3 * 1024)
    assert meter.text == "app 0 % of a core  0.0 KB/s"
