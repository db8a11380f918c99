"""`traintop serve`: where it listens, whom it refuses, and what a browser gets to see."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from engine.contract.config import RunConfig
from engine.history.history import History
from tests.engine.history.history_process import DEVICE, update
from tests.tui.commands.browser import open_page, program
from tui import cli
from tui.commands import serve

aiohttp = pytest.importorskip("aiohttp")
pytest.importorskip("textual_serve")

from tui.commands import web  # noqa: E402

ROOT = Path(__file__).parents[3]
PATIENCE_S = 60.0
TOKEN = "just-a-test"


class Server:
    """A server on a free port, and the address that it printed."""

    def __init__(self, *words: str) -> None:
        command = [sys.executable, "-m", "tui.cli", "serve", "--port", "0", *words]
        self.process = subprocess.Popen(command, cwd=ROOT, text=True, stderr=subprocess.PIPE)
        assert self.process.stderr is not None
        told = ""
        while "Serving" not in told:
            told = self.process.stderr.readline()
            assert told, "the server did not start"
        self.address = told.split()[2]
        found = re.match(r"http://127\.0\.0\.1:(\d+)/(?:\?token=(.*))?$", self.address)
        assert found is not None, told
        self.root, self.token = f"http://127.0.0.1:{found[1]}/", found[2]

    @property
    def visits(self) -> list[psutil.Process]:
        """The processes behind the browsers."""
        return psutil.Process(self.process.pid).children(recursive=True)


@pytest.fixture
def start() -> Iterator[Callable[..., Server]]:
    """Starts servers with the flags it is given, and ends them."""
    servers: list[Server] = []

    def start(*words: str) -> Server:
        servers.append(Server(*words))
        return servers[-1]

    yield start
    for server in servers:
        server.process.kill()
        server.process.communicate()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--host", "0.0.0.0"], ["0.0.0.0", "--public", "ssh -L"]),
        (["--host", "::"], ["--public"]),
        (["--host", "example.org"], ["--public"]),
        (["--port", "70000"], ["--port '70000'", "0 to 65,535"]),
        (["--port", "http"], ["'http'"]),
        (["--writable"], ["'--writable' is not known"]),
        (["--token", "short"], ["8 or more", "--no-token"]),
        (["--token", "with\x1bescapes"], ["visible characters"]),
        (["--token", TOKEN, "--no-token"], ["--token", "--no-token", "leave one out"]),
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


async def test_it_answers_on_loopback_alone_and_only_to_its_own_pages(start: Callable[..., Server]) -> None:
    server = start()
    listening = [
        connection.laddr.ip
        for connection in psutil.Process(server.process.pid).net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening == ["127.0.0.1"]
    host = server.root.removeprefix("http://").rstrip("/")
    async with aiohttp.ClientSession() as session:
        async with session.get(server.address) as page:
            assert page.status == 200
            assert f"ws://{host}/ws/{server.token}" in await page.text()
            assert page.headers["Referrer-Policy"] == "no-referrer"
        async with session.get(server.address, headers={"Host": "localhost:9000"}) as tunnelled:
            assert "ws://localhost:9000/ws/" in await tunnelled.text()
        for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
            async with session.get(f"{server.root}ws/{server.token}", headers=headers) as refused:
                assert refused.status == 403
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait() == 130


async def test_everything_needs_the_token(start: Callable[..., Server]) -> None:
    server = start()
    assert server.token is not None
    assert len(server.token) >= 32
    assert start("--token", f"{TOKEN} & more").token == "just-a-test%20%26%20more"
    script = "static/js/textual.js"
    async with aiohttp.ClientSession() as session:
        for path in ("", script, "static/", "ws", f"ws/{TOKEN}", f"?token={TOKEN}", f"{script}?token=", "nothing"):
            async with session.get(server.root + path) as refused:
                assert refused.status == 403, path
                assert "token" in await refused.text()
        async with session.get(f"{server.root}{script}?token={server.token}") as allowed:
            assert allowed.status == 200
    assert server.visits == []


def test_a_broken_request_says_nothing_on_the_terminal(start: Callable[..., Server]) -> None:
    server = start("--token", TOKEN)
    port = int(server.root.rsplit(":", 1)[1].rstrip("/"))
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as connection:
        connection.sendall(b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n")
        assert b" 400 " in connection.recv(100)
    server.process.terminate()
    assert server.process.communicate(timeout=PATIENCE_S)[1] == ""


async def test_without_a_token_everybody_gets_in_and_is_told_so(
    start: Callable[..., Server], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = start("--no-token")
    assert server.token is None
    async with aiohttp.ClientSession() as session, session.get(server.root) as page:
        assert page.status == 200
    monkeypatch.setattr(web, "serve", lambda *_: 0)
    assert cli.main(["serve", "--no-token"]) == 0
    assert "every user of this machine can watch" in capsys.readouterr().err
    assert cli.main(["serve", "--public", "--host", "0.0.0.0"]) == 0
    assert "plain text" in capsys.readouterr().err


async def test_a_browser_watches_and_can_start_nothing(start: Callable[..., Server]) -> None:
    server = start()
    with History() as history:
        run_id = history.writer.begin_run(RunConfig(batch_size=32), DEVICE, started_at=1000.0)
        history.writer.append(update(run_id, 1))
        history.writer.flush()
        async with aiohttp.ClientSession() as session:
            url = f"{server.root}ws/{server.token}?width=120&height=40"
            async with session.ws_connect(url) as browser:
                await until(browser, b"watching")
                await browser.send_json(["stdin", "r"])
                await until(browser, b"read-only")
                await browser.send_json(["stdin", "q"])
                await until_closed(browser)
        assert [run.run_id for run in history.runs()] == [run_id]


async def until(browser: aiohttp.ClientWebSocketResponse, part: bytes) -> bytes:
    """Wait for something to be written; all that was until then."""
    seen = b""
    while part not in seen:
        message = await browser.receive(timeout=PATIENCE_S)
        assert message.type is aiohttp.WSMsgType.BINARY, message
        seen += message.data
    return seen


async def until_closed(browser: aiohttp.ClientWebSocketResponse) -> None:
    """Wait for the server to end the visit."""
    while (await browser.receive(timeout=PATIENCE_S)).type is aiohttp.WSMsgType.BINARY:
        pass


async def test_no_browser_gets_a_screen_of_any_size_and_none_outlives_a_killed_server(
    start: Callable[..., Server],
) -> None:
    server = start()
    async with aiohttp.ClientSession() as session:
        url = f"{server.root}ws?token={server.token}&width=20000&height=20000"
        async with session.ws_connect(url) as browser:
            await until(browser, b"watching")
            [visit] = server.visits
            environment = visit.environ()
            assert (environment["COLUMNS"], environment["ROWS"]) == ("500", "200")
            assert server.token not in " ".join(visit.cmdline())
            for size in ({"width": 10**9, "height": "9" * 400}, {"width": None}, [], "x"):
                await browser.send_json(["resize", size])
            for junk in ("[", "{}", "[]", "1", '["stdin"]', '["stdin", 5]', '["nothing", []]'):
                await browser.send_str(junk)
            await browser.send_json(["resize", {"width": 60, "height": 20000}])
            seen = await until(browser, b"terminal too small: 60")
            assert "60×200".encode() in seen
            server.process.kill()
            _, alive = psutil.wait_procs([visit], timeout=PATIENCE_S)
            assert alive == []


@pytest.mark.parametrize(
    ("size", "given"),
    [
        ((120, 40), (120, 40)),
        (("120", "40"), (120, 40)),
        ((20_000, 20_000), (500, 200)),
        ((0, -5), (1, 1)),
        ((None, "x"), (80, 24)),
        ((float("inf"), float("nan")), (80, 24)),
        (([], {}), (80, 24)),
    ],
)
def test_sizes(size: tuple[object, object], given: tuple[int, int]) -> None:
    assert web.within(*size) == given


STUBBORN = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
sys.stdout.write("__GANGLION__\\n")
sys.stdout.flush()
sys.stdout.buffer.write(b"D\\0\\0\\0\\2hi")
sys.stdout.flush()
while True:
    time.sleep(1)
"""
"""Is greeted, and never ends of itself."""
BRIEF = STUBBORN.partition("while True")[0]


@asynccontextmanager
async def serving(program: str) -> AsyncIterator[tuple[web.WatchServer, str]]:
    """A server in this process that runs `program` for every visit, and its address."""
    server = web.WatchServer([sys.executable, "-c", program], "127.0.0.1", None)
    runner = aiohttp.web.AppRunner(server.application(), shutdown_timeout=1.0)
    await runner.setup()
    await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield server, f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("program", [STUBBORN, BRIEF, "raise SystemExit(3)"], ids=["stubborn", "brief", "broken"])
async def test_a_place_is_free_again_however_a_visit_ends(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = psutil.Process().children(recursive=True)  # another test's fork server lives as long as this process
    monkeypatch.setattr(web, "MAX_VIEWERS", 1)
    monkeypatch.setattr(web, "END_S", 0.2)
    async with serving(program) as (server, url), aiohttp.ClientSession() as session:
        for leaves in (True, False):
            browser = await session.ws_connect(f"{url}ws", autoping=False)
            if program is STUBBORN:
                assert (await browser.receive(timeout=PATIENCE_S)).data == b"hi"
                async with session.get(f"{url}ws") as refused:
                    assert refused.status == 503
                if leaves:
                    await browser.close()
                else:
                    browser._response.close()  # as a browser that crashes
            else:
                await until_closed(browser)
            while server.viewers or server._expected:
                await asyncio.sleep(0.01)
    assert psutil.Process().children(recursive=True) == before


@pytest.mark.skipif(program() is None, reason="this machine has no Chromium or Chrome")
async def test_a_real_browser_needs_nothing_from_elsewhere(start: Callable[..., Server]) -> None:
    server = start("--demo")
    async with open_page(server.address) as page:
        await page.until('document.body.classList.contains("-first-byte")')
        await page.until("document.querySelector('.xterm-screen canvas') !== null")
        assert await page.value("document.fonts.check('16px \"Roboto Mono\"')")
        assert page.failed == []
        websocket = server.root.replace("http:", "ws:")
        assert [url for url in page.asked if not url.startswith((server.root, websocket))] == []
        assert any(url.startswith(websocket) for url in page.asked)
        [visit] = server.visits
        await page.call("Page.navigate", url="about:blank")
        await asyncio.get_running_loop().run_in_executor(None, visit.wait, PATIENCE_S)


def test_it_works_in_a_folder_with_modules_of_the_same_names(tmp_path: Path) -> None:
    for name in ("engine", "tui", "secrets"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong one')", encoding="utf-8")
    command = serve.command(["watch", "--help"])
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "traintop watch" in done.stdout


def test_a_busy_visit_ends_with_its_server_too() -> None:
    program = """
from tui.commands import watch
watch.LAST_S = 0.1
with watch.Visit():
    print("busy", flush=True)
    while True:
        pass
"""
    visit = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with visit:
        assert visit.stdin is not None
        assert visit.stdout is not None
        assert visit.stdout.readline() == b"busy\n"
        visit.stdin.close()
        assert visit.wait() == 0


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
