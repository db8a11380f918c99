"""What guessing gained: the pace of the answers beside that of plain `generate`, which a sample is compared with."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from transformers.generation.streamers import BaseStreamer

from engine.answering.requests import Writing
from engine.contract.config import RunConfig

if TYPE_CHECKING:
    import torch


class Pace(BaseStreamer):  # type: ignore[misc]  # transformers is not typed
    """Listens to one `generate` after the other, as a streamer: how long the tokens after each first one took."""

    def __init__(self) -> None:
        self.tokens = 0
        self.seconds = 0.0
        self._n_put = 0
        self._last = 0.0

    def put(self, value: torch.Tensor) -> None:
        """The prompt, then token by token."""
        now = time.perf_counter()
        self._n_put += 1
        if self._n_put > 2:
            self.tokens += 1
            self.seconds += now - self._last
        self._last = now

    def end(self) -> None:
        """The next `generate` begins with its own prompt."""
        self._n_put = 0


def unmeasured(config: RunConfig, sample: Sequence[Writing], plain: Pace, *, is_virtual: bool) -> str | None:
    """Why it is not known whether guessing paid, in a sentence; None where `gained` knows."""
    reasons = (
        ("on a virtual GPU times are the CPU's", is_virtual),
        ("with --temperature plain generate writes other answers", config.temperature > 0),
        ("too few tokens were written", _later(sample) < 1 or not plain.seconds),
    )
    why = next((why for why, applies in reasons if applies), None)
    if why is None:
        return None
    return f"Whether guessing paid is not measured: {why}. Run the same with --speculate off, and compare the two rows."


def gained(config: RunConfig, sample: Sequence[Writing], plain: Pace) -> str:
    """One sentence on whether guessing paid."""
    tokens = sum(len(writing.ids) for writing in sample)
    per_token = sum(writing.e2e_s - writing.ttft_s for writing in sample) / _later(sample)
    speed_up = plain.seconds / plain.tokens / per_token
    per_forward = tokens / (tokens - sum(sum(writing.guessed) for writing in sample))
    took = per_forward / speed_up
    pace = f"{speed_up:.2f} × the tokens/s of" if speed_up >= 1 else f"{1 / speed_up:.2f} × slower than"
    sentence = (
        f"Speculation: {pace} plain generate on the answers compared. A forward with its "
        f"guesses took {took:.2f} × one without, and gave {per_forward:.2f} tokens"
    )
    if took >= config.speculate_tokens + 1:
        return f"{sentence}: it would not pay if all guesses were right."
    return f"{sentence}."


def _later(sample: Sequence[Writing]) -> int:
    """Tokens after the first of each answer."""
    return sum(len(writing.ids) - 1 for writing in sample)
