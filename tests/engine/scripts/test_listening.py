"""The socket that scripts are heard by: what comes in pieces, by many at once, and from those who mean no good."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.scripts import listening
from engine.scripts.listening import Heard, Listener


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.close()


def _connect(listener: Listener) -> socket.socket:
    assert listener.path is not None
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(listener.path)
    return connection


def _until(listener: Listener, n: int) -> list[Heard]:
    heard: list[Heard] = []
    while len(heard) < n:
        more = listener.hear(10.0)
        heard += more
    return heard


def test_lines_come_whole_whatever_pieces_they_are_sent_in(listener: Listener) -> None:
    first, second = _connect(listener), _connect(listener)
    first.sendall(b'{"kind": "a"}\n{"ki')
    assert _until(listener, 1) == [(1, {"kind": "a"})]
    second.sendall(b'{"kind": "b", "n": 1}\n')
    assert _until(listener, 1) == [(2, {"kind": "b", "n": 1})]
    first.sendall(b'nd": "c"}\n')
    first.close()
    assert _until(listener, 2) == [(1, {"kind": "c"}), (1, None)]
    assert listener.n_open == 1
    assert listener.pid_of(2) == os.getpid()
    assert listener.pids == {os.getpid()}
    second.close()
    assert _until(listener, 1) == [(2, None)]


def test_what_is_no_message_is_left_out(listener: Listener) -> None:
    speaker = _connect(listener)
    wrong = [
        b"",
        b"no json",
        b"[1]",
        b'{"n": 1}',
        b'{"kind": 1}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"kind": "a"',
        b"null",
    ]
    speaker.sendall(b"\n".join(wrong) + b'\n{"kind": "b"}\n')
    assert _until(listener, 1) == [(1, {"kind": "b"})]
    speaker.close()


def test_a_line_without_an_end_is_not_kept(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "_LONGEST_LINE", 1000)
    speaker = _connect(listener)
    speaker.sendall(b"x" * 2000)
    assert _until(listener, 1) == [(1, None)]
    assert listener.n_open == 0
    speaker.close()


def test_it_is_this_users_alone_and_gone_with_the_listener() -> None:
    listener = Listener()
    assert listener.path is not None
    folder = Path(listener.path).parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not listener.was_found
    (folder / "wire.python").write_bytes(b"")
    assert listener.was_found
    speaker = _connect(listener)
    listener.hear(10.0)
    listener.close()
    assert not folder.exists()
    assert speaker.recv(1) == b""
    speaker.close()


def test_a_long_name_of_the_temporary_folder_is_gone_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * 120)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    listener = Listener()
    assert listener.path is not None
    assert len(listener.path) <= 100
    listener.close()


def test_where_there_is_no_room_nobody_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: str) -> str:
        raise OSError("no space left")

    monkeypatch.setattr("tempfile.mkdtemp", full)
    listener = Listener()
    assert listener.path is None
    assert listener.hear(0.0) == []
    listener.close()


def test_sockets_of_who_was_killed_are_removed_and_others_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="t") as short:
        monkeypatch.setattr("tempfile.tempdir", short)
        dead = Path(short) / "traintop-dead"
        other = Path(short) / "traintop-other"
        for folder in (dead, other):
            folder.mkdir()
        with socket.socket(socket.AF_UNIX) as killed:
            killed.bind(str(dead / "wire"))
        young = Listener()  # it may be another's that begins just now
        assert dead.exists()
        young.close()
        os.utime(dead / "wire", (0, 0))
        first = Listener()
        second = Listener()
        assert (dead.exists(), other.exists()) == (False, True)
        assert first.path is not None
        assert Path(first.path).exists()
        for listener in (first, second):
            listener.close()
