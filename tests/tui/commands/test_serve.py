"""`traintop serve`: where it listens, whom it refuses, and what a browser gets to see."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from engine.contract.config import RunConfig
from engine.history.history import History
from tests.engine.history.history_process import DEVICE, update
from tui import cli
from tui.commands import serve

aiohttp = pytest.importorskip("aiohttp")
pytest.importorskip("textual_serve")

ROOT = Path(__file__).parents[3]


@pytest.fixture
def server() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server on a free port, and that port."""
    command = [sys.executable, "-m", "tui.cli", "serve", "--port", "0"]
    process = subprocess.Popen(command, cwd=ROOT, text=True, stderr=subprocess.PIPE)
    assert process.stderr is not None
    found = re.search(r"http://127\.0\.0\.1:(\d+)/", process.stderr.readline())
    assert found is not None
    yield process, int(found[1])
    process.kill()
    process.communicate()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--host", "0.0.0.0"], ["0.0.0.0", "--public", "ssh -L"]),
        (["--host", "::"], ["--public"]),
        (["--host", "example.org"], ["--public"]),
        (["--port", "70000"], ["--port '70000'", "0 to 65,535"]),
        (["--port", "http"], ["'http'"]),
        (["--writable"], ["'--writable' is not known"]),
    ],
)
def test_refusals(words: list[str], says: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", *words]) == 2
    said = capsys.readouterr().err
    assert [part for part in says if part not in said] == []


def test_without_the_package_it_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(serve, "find_spec", lambda name: None)
    assert cli.main(["serve"]) == 4
    assert "pip install 'traintop[serve]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("localhost.example.org", False),
        ("", False),
    ],
)
def test_loopback(host: str, local: bool) -> None:
    assert serve.is_loopback(host) is local


async def test_it_answers_on_loopback_alone_and_only_to_its_own_pages(
    server: tuple[subprocess.Popen[str], int],
) -> None:
    process, port = server
    listening = [
        connection.laddr.ip
        for connection in psutil.Process(process.pid).net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening == ["127.0.0.1"]
    url = f"http://127.0.0.1:{port}/"
    async with aiohttp.ClientSession() as session:
        async with session.get(url) as page:
            assert page.status == 200
            assert f"ws://127.0.0.1:{port}/ws" in await page.text()
        async with session.get(url, headers={"Host": "localhost:9000"}) as tunnelled:
            assert "ws://localhost:9000/ws" in await tunnelled.text()
        for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
            async with session.get(url + "ws", headers=headers) as refused:
                assert refused.status == 403
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130


async def test_a_browser_watches_and_can_start_nothing(server: tuple[subprocess.Popen[str], int]) -> None:
    port = server[1]
    with History() as history:
        run_id = history.begin_run(RunConfig(batch_size=32), DEVICE, started_at=1000.0)
        history.append(update(run_id, 1))
        history.flush()
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"http://127.0.0.1:{port}/ws?width=120&height=40") as browser,
        ):

            async def until(part: bytes) -> None:
                seen = b""
                while part not in seen:
                    message = await browser.receive(timeout=60)
                    assert message.type is aiohttp.WSMsgType.BINARY, message
                    seen += message.data

            await until(b"watching")
            await browser.send_json(["stdin", "r"])
            await until(b"read-only")
            await browser.send_json(["stdin", "q"])
            while (await browser.receive(timeout=60)).type is aiohttp.WSMsgType.BINARY:
                pass
        assert [run.run_id for run in history.runs()] == [run_id]


def test_a_visit_ends_with_its_server() -> None:
    """A killed server cannot tell the processes behind the browsers; they notice."""
    command = [sys.executable, "-m", "tui.cli", "watch"]
    environment = {**os.environ, "TEXTUAL_DRIVER": "textual.drivers.web_driver:WebDriver"}
    visit = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    assert visit.stdin is not None
    assert visit.stdout is not None
    assert visit.stdout.readline() == b"__GANGLION__\n"
    visit.stdin.close()
    visit.stdout.read()
    assert visit.wait() == 0
