"""The signals of a stop: in their order, in their time, and sooner for who asks again or leaves."""

from __future__ import annotations

from signal import SIGINT, SIGKILL, SIGTERM

from engine.scripts.stopping import Stopping


class _Case:
    def __init__(self) -> None:
        self.now, self.hurried = 0.0, False
        self.sent: list[int] = []
        self.stopping = Stopping(
            self.sent.append, lambda n_sent: 1 if self.hurried else 10 if n_sent == 1 else 5, lambda: self.now
        )

    def at(self, now: float, asked: int = 1) -> str | None:
        self.now = now
        return self.stopping.step(asked)


def test_each_has_its_time() -> None:
    case = _Case()
    assert case.at(0.0) == "SIGINT sent: waiting for the script to end; SIGTERM in 10 s"
    assert case.at(9.9) is None
    assert case.sent == [SIGINT]
    assert case.at(10.0) == "SIGTERM sent: waiting for the script to end; SIGKILL in 5 s"
    assert case.at(14.9) is None
    assert case.at(15.0) == "SIGKILL sent: it is gone in a moment"
    assert case.at(100.0) is None
    assert case.sent == [SIGINT, SIGTERM, SIGKILL]


def test_who_asks_again_waits_no_longer() -> None:
    case = _Case()
    case.at(0.0)
    assert case.at(0.1, asked=2) is not None
    assert case.at(0.2, asked=2) is None
    assert case.sent == [SIGINT, SIGTERM]
    assert case.at(0.3, asked=5) is not None
    assert case.sent == [SIGINT, SIGTERM, SIGKILL]


def test_who_leaves_waits_a_second() -> None:
    case = _Case()
    case.at(0.0)
    case.hurried = True
    assert case.at(0.5) is None
    assert case.at(1.0) is not None
    assert case.at(2.0) is not None
    assert case.sent == [SIGINT, SIGTERM, SIGKILL]
