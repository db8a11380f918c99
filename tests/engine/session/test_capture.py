"""What libraries print is caught, whichever way they print it, and the terminal is given back."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.session.capture import LINE_LIMIT, log_to_file

_CHILD = """
import ctypes, os, subprocess, sys, threading
from engine.session.capture import OutputCapture
capture = OutputCapture()
lines = []
thread = threading.Thread(target=capture.pump, args=(lines.append,))
capture.start()
thread.start()
print("from python")
print("to stderr", file=sys.stderr, flush=True)
sys.stdout.flush()
libc = ctypes.CDLL(None)
libc.puts(b"from C")
libc.fflush(None)
subprocess.run(["sh", "-c", "echo from a child; echo half >&2"], check=True)
os.write(2, b"10%\\r20%\\n" + b"x" * 300_000 + b"\\n" + b"\\xff not utf-8\\n")
print("screen", file=sys.__stderr__, flush=True)
capture.stop()
thread.join()
print("given back")
for line in lines:
    print(repr(line[:40]), len(line))
"""


def test_every_kind_of_print_is_caught() -> None:
    done = subprocess.run([sys.executable, "-c", _CHILD], capture_output=True, text=True, check=True)
    assert done.stderr == "screen\n"
    given_back, *lines = done.stdout.splitlines()
    assert given_back == "given back"
    caught = {line.rsplit(" ", 1)[0] for line in lines}
    expected = ["from python", "to stderr", "from C", "from a child", "half", "10%", "20%", "\ufffd not utf-8"]
    assert caught >= {repr(text) for text in expected}
    assert [int(line.rsplit(" ", 1)[1]) for line in lines if "xxx" in line] == [LINE_LIMIT]  # once, cut


@pytest.fixture
def _fresh_logger() -> Iterator[None]:
    logger = logging.getLogger("traintop")
    kept, logger.handlers = (logger.handlers, logger.propagate), []
    logger.propagate = True  # to a logger that does not propagate pytest adds a handler of its own
    yield
    for handler in logger.handlers:
        handler.close()
    logger.handlers, logger.propagate = kept


@pytest.mark.usefixtures("_fresh_logger")
def test_tracebacks_go_to_the_log_file(tmp_path: Path) -> None:
    assert log_to_file(tmp_path / "deep" / "traintop.log") is None
    try:
        raise ValueError("the cause")
    except ValueError:
        logging.getLogger("traintop").exception("it failed")
    text = (tmp_path / "deep" / "traintop.log").read_text()
    assert "it failed" in text
    assert "Traceback" in text
    assert "ValueError: the cause" in text


@pytest.mark.usefixtures("_fresh_logger")
def test_a_log_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    problem = log_to_file(tmp_path / "file" / "traintop.log")
    assert problem is not None
    assert "TRAINTOP_HOME" in problem
    assert "\n" not in problem
