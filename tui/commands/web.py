"""The web server of `traintop serve`: a page, and behind every browser that opens it a process of its own.

The terminal in the page and the way the process talks are those of textual-serve.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import html
import logging
import os
import shlex
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from string import Template
from urllib.parse import quote, urlsplit

import textual_serve
from aiohttp import WSMsgType, web
from textual_serve.app_service import AppService
from textual_serve.download_manager import DownloadManager

from engine.contract import paths
from engine.session.capture import log_to_file
from tui.command_line import exit_codes
from tui.commands.addresses import is_loopback
from tui.drawing.text import clean

MAX_VIEWERS = 16
"""Each is a process of about 60 MB."""
WIDEST, HIGHEST = 500, 200
"""Cells of a viewer's screen: memory and time grow with both."""
MAX_MESSAGE = 64 * 1024
"""Bytes of one message of a browser: a paste, at most."""
END_S = 2.0
"""How long a process that was told to end may take before it is killed."""

_STATIC = Path(textual_serve.__file__).with_name("static")
_PAGE = Path(__file__).with_name("page.html")
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self' 'unsafe-inline'; "
    "style-src 'self' 'unsafe-inline'; font-src 'self'; img-src 'self' data:; connect-src 'self' ws: wss:; "
    "base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",  # the address has the token in it
    "X-Content-Type-Options": "nosniff",
}
_NO_TOKEN = "This page needs the token: open the whole address that traintop serve has printed.\n"

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def within(width: object, height: object) -> tuple[int, int]:
    """A size in cells that a viewer's screen may have, whatever a browser asks for."""
    return _between(width, WIDEST, 80), _between(height, HIGHEST, 24)


def _between(asked: object, most: int, otherwise: int) -> int:
    try:
        return max(1, min(most, int(asked)))  # type: ignore[call-overload, no-any-return]
    except (TypeError, ValueError, OverflowError):
        return otherwise


class Viewer(AppService):
    """The process behind one browser."""

    @property
    def ended(self) -> asyncio.Task[None] | None:
        """Done when the process is; None before it has begun."""
        return self._task

    async def stop(self) -> None:
        """Tell the process to end, and see to it that it does."""
        if self._process is None:
            return
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._leave(), END_S)
        self.kill()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=END_S)
            self._task.cancel()

    async def _leave(self) -> None:
        assert self._process is not None
        await self.send_meta({"type": "quit"})
        await self._process.wait()

    def kill(self) -> None:
        """End the process, if it has not."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()


class WatchServer:
    """Runs `command` for every visit. Who has no `token` sees nothing; None lets everybody in.

    Addresses are taken from each request, so that a tunnel or another name of the host works too.
    """

    def __init__(self, command: Sequence[str], host: str, token: str | None) -> None:
        # a shell starts it, and gives way to it: the process that is killed is the one that was meant
        self._command = ("exec " if os.name == "posix" else "") + shlex.join(command)
        self._local = is_loopback(host)
        self._token = token
        self._page = Template(_PAGE.read_text(encoding="utf-8"))
        self.viewers: set[Viewer] = set()
        self._expected = 0

    def application(self) -> web.Application:
        """The page, what it is made of, and the connection of the terminal in it."""
        app = web.Application(middlewares=[self.refuse_strangers, self.ask_token])
        app.add_routes(
            [
                web.get("/", self.show_page),
                web.get("/ws", self.view),
                web.get("/ws/{token}", self.view),  # the terminal adds `?width=…` to the address it is given
                web.static("/static", _STATIC),
            ]
        )
        app.on_response_prepare.append(_add_headers)
        return app

    @web.middleware
    async def refuse_strangers(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """403 for a page of another site that makes a browser come here, be it under a name made to point here."""
        name = urlsplit(f"//{request.host}").hostname or ""
        origin = request.headers.get("Origin")
        if (self._local and not is_loopback(name)) or (origin and urlsplit(origin).netloc != request.host):
            raise web.HTTPForbidden(text="This address is not served here.\n")
        return await handler(request)

    @web.middleware
    async def ask_token(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """403 for who does not bring the token, whatever is asked for.

        It is a part of every address, and not a cookie: those go to every server on this machine, also to that of
        another person.
        """
        if self._token is not None:
            given = request.query.get("token") or request.match_info.get("token", "")
            if not hmac.compare_digest(given.encode("utf-8", "replace"), self._token.encode("utf-8", "replace")):
                raise web.HTTPForbidden(text=_NO_TOKEN)
        return await handler(request)

    async def show_page(self, request: web.Request) -> web.Response:
        """The page, with addresses as the visitor has them."""
        token = quote(self._token, safe="") if self._token is not None else ""
        scheme = "wss" if request.scheme == "https" else "ws"
        page = self._page.substitute(
            query=f"?token={token}" if token else "",
            websocket=html.escape(f"{scheme}://{request.host}/ws{f'/{token}' if token else ''}"),
            font_size=_between(request.query.get("fontsize"), 64, 16),
        )
        return web.Response(text=page, content_type="text/html")

    async def view(self, request: web.Request) -> web.WebSocketResponse:
        """One viewer, from the first byte to the last."""
        if self._expected >= MAX_VIEWERS:
            raise web.HTTPServiceUnavailable(text=f"{MAX_VIEWERS} browsers are watching already.\n")
        self._expected += 1
        browser = web.WebSocketResponse(heartbeat=15, max_msg_size=MAX_MESSAGE)
        try:
            await browser.prepare(request)
            await self._serve(browser, request.query)
            await browser.close()
        finally:
            self._expected -= 1
        return browser

    async def _serve(self, browser: web.WebSocketResponse, query: Mapping[str, str]) -> None:
        async def close() -> None:
            await browser.close()

        viewer = Viewer(
            self._command,
            write_bytes=browser.send_bytes,
            write_str=browser.send_str,
            close=close,
            download_manager=DownloadManager(),
        )
        self.viewers.add(viewer)
        try:
            await viewer.start(*within(query.get("width"), query.get("height")))
            talk = asyncio.ensure_future(_pass_on(browser, viewer))
            assert viewer.ended is not None
            try:  # until either is gone
                await asyncio.wait({talk, viewer.ended}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                talk.cancel()
                with contextlib.suppress(Exception, asyncio.CancelledError):
                    await talk
        finally:
            try:
                await viewer.stop()
            finally:
                viewer.kill()
                self.viewers.discard(viewer)


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)


async def _pass_on(browser: web.WebSocketResponse, viewer: Viewer) -> None:
    """Obey what the terminal in the page sends; what is none of it is passed over."""
    async for message in browser:
        if message.type is not WSMsgType.TEXT:
            continue
        try:
            kind, *rest = message.json()
        except (TypeError, ValueError):
            continue
        data = rest[0] if rest else None
        if kind == "stdin" and isinstance(data, str):
            await viewer.send_bytes(data.encode("utf-8", "replace"))
        elif kind == "resize" and isinstance(data, dict):
            await viewer.set_terminal_size(*within(data.get("width"), data.get("height")))
        elif kind == "ping":
            await browser.send_json(["pong", data])
        elif kind == "blur":
            await viewer.blur()
        elif kind == "focus":
            await viewer.focus()


def serve(command: Sequence[str], host: str, port: int, token: str | None) -> int:
    """Listen on `host`:`port` (0: a free one), running `command` for every visit, until SIGINT or SIGTERM."""
    _log_to_file()
    return asyncio.run(_serve(WatchServer(command, host, token), host, port, token))


def _log_to_file() -> None:
    """What the server thinks of broken requests belongs in the log file: anybody who reaches the port can send them."""
    log_to_file(paths.log_file())
    servers = logging.getLogger("aiohttp")
    servers.handlers, servers.propagate = logging.getLogger("traintop").handlers, False


async def _serve(server: WatchServer, host: str, port: int, token: str | None) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    runner = web.AppRunner(server.application(), shutdown_timeout=END_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        why = clean(error.strerror or str(error), 200)
        sys.stderr.write(f"traintop serve: cannot listen on {clean(host)}:{port} ({why}): give another --port.\n")
        await runner.cleanup()
        return exit_codes.FAILED
    address, actual = runner.addresses[0][:2]
    shown = f"http://{f'[{address}]' if ':' in address else address}:{actual}/"
    shown += f"?token={quote(token, safe='')}" if token is not None else ""
    sys.stderr.write(f"Serving on {shown} (read-only; runs are started elsewhere). Ctrl-C ends it.\n")
    sys.stderr.flush()
    try:
        await stop.wait()
    finally:
        await runner.cleanup()
        for viewer in list(server.viewers):
            viewer.kill()
    return exit_codes.INTERRUPTED
