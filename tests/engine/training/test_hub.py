"""A hub that does not answer is asked once."""

from __future__ import annotations

import http.server
import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from engine.training import hub as hub_module
from engine.training.hub import Hub


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            asked.append(self.path)
            self.send_response(404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}", asked
        httpd.shutdown()
        thread.join()


def test_a_hub_that_answers_is_reachable(server: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", server[0])
    hub = Hub()
    hub.probe()
    assert hub.reachable()
    assert hub.reachable()
    assert len(server[1]) == 1


def test_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    hub = Hub()
    hub.probe()
    assert not hub.reachable()
    assert hub.problem == "the hub at http://127.0.0.1:9 does not answer"


def test_switched_off_is_not_asked(server: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server[0])
    hub = Hub()
    hub.probe()
    assert not hub.reachable()
    assert server[1] == []


def test_a_silent_hub_costs_the_deadline_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    waits: list[float] = []

    class Silent(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout or 0)
            return False

    hub = Hub()
    hub._answered = Silent()
    now = itertools.chain([100.0, 100.0], itertools.repeat(100 + hub_module.DEADLINE_S))
    monkeypatch.setattr(hub_module, "time", SimpleNamespace(monotonic=lambda: next(now)))
    assert not hub.reachable()
    assert not hub.reachable()
    assert waits == [hub_module.DEADLINE_S, 0]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert not hub.reachable()
    assert len(waits) == 2  # nobody waits for one that is switched off


def test_who_asks_while_another_waits_gets_the_same_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    both_wait = threading.Barrier(3)
    answer = threading.Event()

    class Watched(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            both_wait.wait(60)
            return super().wait(60)  # not the deadline, which a busy machine might miss

    hub = Hub()
    hub._answered = Watched()
    monkeypatch.setattr(hub_module, "_answers", lambda endpoint: answer.wait(60))
    with ThreadPoolExecutor(3) as pool:
        probe = pool.submit(hub.probe)
        asked = [pool.submit(hub.reachable) for _ in range(2)]
        both_wait.wait(60)
        answer.set()
        probe.result(60)
        assert [future.result(60) for future in asked] == [True, True]
