"""Whether the Hugging Face hub answers: asked once per process, with a deadline, beside the slow imports."""

from __future__ import annotations

import os
import threading
import time
import urllib.error
import urllib.request

DEADLINE_S = 5.0
"""A hub that does not answer costs a run at most this long, once."""


class Hub:
    """`probe` runs in a thread of its own; `reachable` waits for its answer, at most until the deadline.

    `answers` is what another process found; None: nobody has asked yet.
    """

    def __init__(self, answers: bool | None = None) -> None:
        self.endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
        self._answered = threading.Event()
        self._reachable = bool(answers)
        if answers is not None:
            self._answered.set()
        self._patience_ends: float | None = None
        self._lock = threading.Lock()

    def probe(self) -> None:
        """Ask the hub once. Never raises."""
        self._reachable = not _switched_off() and _answers(self.endpoint)
        self._answered.set()

    @property
    def answers(self) -> bool | None:
        """What was found so far; None where nobody knows yet."""
        return self._reachable if self._answered.is_set() else None

    def reachable(self) -> bool:
        """True when the hub answered. Whoever asks waits for `probe`, until the deadline of the first who asked.

        Nobody waits where the environment has switched it off.
        """
        if not self._answered.is_set() and _switched_off():
            return False
        with self._lock:
            if self._patience_ends is None:
                self._patience_ends = time.monotonic() + DEADLINE_S
        self._answered.wait(max(0.0, self._patience_ends - time.monotonic()))
        return self._answered.is_set() and self._reachable

    @property
    def problem(self) -> str:
        """Why only local files are used, as a clause of a sentence."""
        if _switched_off():
            return "the hub is switched off by HF_HUB_OFFLINE"
        return f"the hub at {self.endpoint} does not answer"


def _switched_off() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def _answers(endpoint: str) -> bool:
    request = urllib.request.Request(endpoint, method="HEAD", headers={"User-Agent": "traintop"})
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE_S - 1):
            return True
    except urllib.error.HTTPError:
        return True  # it refused this request, but it is there
    except (OSError, ValueError):
        return False
