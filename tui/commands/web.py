"""The web server of `traintop serve`: textual-serve, a process a visit, for the visitors that it is meant for."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web
from textual_serve.server import Server

from tui.command_line import exit_codes
from tui.commands.addresses import is_loopback
from tui.drawing.text import clean

MAX_VIEWERS = 16
"""Each is a process of about 60 MB."""

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class WatchServer(Server):
    """Addresses are taken from each request, so that a tunnel or another name of the host works too."""

    def __init__(self, command: str, host: str) -> None:
        super().__init__(command, host=host, title="traintop")
        self._local = is_loopback(host)
        self._viewers = 0

    async def application(self) -> web.Application:
        """The routes of textual-serve behind `refuse_strangers`."""
        app = await self._make_app()
        app.middlewares.append(self.refuse_strangers)
        return app

    @web.middleware
    async def refuse_strangers(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """403 for a page of another site that makes a browser come here, be it under a name made to point here."""
        name = urlsplit(f"//{request.host}").hostname or ""
        origin = request.headers.get("Origin")
        if (self._local and not is_loopback(name)) or (origin and urlsplit(origin).netloc != request.host):
            raise web.HTTPForbidden(text="This address is not served here.")
        return await handler(request)

    async def on_startup(self, app: web.Application) -> None:
        """Nothing: `serve` tells where it listens, once it does."""

    async def handle_index(self, request: web.Request) -> Any:
        """The page, with addresses as the visitor has them."""
        self.public_url = f"{request.scheme}://{request.host}"
        return await super().handle_index(request)

    async def handle_websocket(self, request: web.Request) -> web.WebSocketResponse:
        """One viewer, from the first byte to the last."""
        if self._viewers >= MAX_VIEWERS:
            raise web.HTTPServiceUnavailable(text=f"{MAX_VIEWERS} browsers are watching already.")
        self._viewers += 1
        try:
            return await super().handle_websocket(request)
        finally:
            self._viewers -= 1


def serve(command: str, host: str, port: int) -> int:
    """Listen on `host`:`port` (0: a free one), running `command` for every visit, until SIGINT or SIGTERM."""
    return asyncio.run(_serve(WatchServer(command, host), host, port))


async def _serve(server: WatchServer, host: str, port: int) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    runner = web.AppRunner(await server.application(), shutdown_timeout=2.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        why = clean(error.strerror or str(error), 200)
        sys.stderr.write(f"traintop serve: cannot listen on {host}:{port} ({why}): give another --port.\n")
        await runner.cleanup()
        return exit_codes.FAILED
    address, actual = runner.addresses[0][:2]
    shown = f"[{address}]" if ":" in address else address
    sys.stderr.write(f"Serving on http://{shown}:{actual}/ (read-only; runs are started elsewhere). Ctrl-C ends it.\n")
    sys.stderr.flush()
    await stop.wait()
    await runner.cleanup()
    return exit_codes.INTERRUPTED
