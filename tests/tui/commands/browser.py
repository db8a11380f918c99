"""A real browser without a window, steered through its debugging port (Chrome DevTools Protocol 1.3)."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import aiohttp

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE_S = 120.0


def program() -> str | None:
    """Where this machine has a browser that can be steered."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """One page, and every address it asked for."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.asked: list[str] = []
        self.failed: list[str] = []
        """Why a part of the page could not be had, or what its scripts complained about."""
        self._socket = socket
        self._numbers = count(1)

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Have the browser do something; what it answers."""
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            message = json.loads((await self._socket.receive(timeout=PATIENCE_S)).data)
            if message.get("id") == number:
                assert "error" not in message, message
                return dict(message["result"])
            self._note(message.get("method"), message.get("params", {}))

    def _note(self, method: str | None, told: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.asked.append(told["request"]["url"])
        elif method == "Network.webSocketCreated":
            self.asked.append(told["url"])
        elif method == "Network.loadingFailed":
            self.failed.append(told["errorText"])
        elif method == "Runtime.exceptionThrown":
            self.failed.append(str(told["exceptionDetails"]))
        elif method == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.failed.append(told["entry"]["text"])

    async def until(self, script: str) -> None:
        """Wait until a script says so."""
        asking = f"new Promise(done => {{ const look = () => ({script}) ? done(true) : setTimeout(look, 50); look() }})"
        await self.call("Runtime.evaluate", expression=asking, awaitPromise=True)

    async def value(self, script: str) -> Any:
        """What a script evaluates to."""
        answer = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        return answer["result"].get("value")


@asynccontextmanager
async def open_page(url: str, width: int = 1280, height: int = 800) -> AsyncIterator[Page]:
    """A browser that has opened `url` in a window of `width` × `height` pixels, until it is left."""
    name = program()
    assert name is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage"]
        flags += ["--disable-background-networking", "--remote-debugging-port=0", f"--user-data-dir={folder}"]
        nothing = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(
            name,
            *flags,
            f"--window-size={width},{height}",
            "about:blank",
            stdout=nothing,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stderr is not None
        try:
            said = b""
            while b"DevTools listening on" not in said:
                said = await asyncio.wait_for(process.stderr.readline(), PATIENCE_S)
                assert said, "the browser did not start"
            port = said.decode().rpartition("127.0.0.1:")[2].partition("/")[0]
            drained = asyncio.create_task(process.stderr.read())
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                    target = next(each for each in await answer.json() if each["type"] == "page")
                async with session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=2**26) as socket:
                    page = Page(socket)
                    for domain in ("Network", "Page", "Runtime", "Log"):
                        await page.call(f"{domain}.enable")
                    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
                    await page.call("Emulation.setDeviceMetricsOverride", **size)
                    await page.call("Page.navigate", url=url)
                    yield page
        finally:
            process.kill()
            await process.wait()
            drained.cancel()
