"""Speculation: tokens that are guessed, and checked in one forward."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from engine.contract.config import RunConfig


class Listener(Protocol):
    """Who is told of guesses."""

    def guess(self, begins: bool) -> None:
        """Guessing begins, or ends."""

    def guessed(self, proposed: int, accepted: int) -> None:
        """So many tokens were guessed, and so many of them were right; told before those arrive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speculation:
    """How `generate` is to guess."""

    settings: dict[str, Any] = field(default_factory=dict)
    """For `transformers.GenerationConfig`."""
    given: dict[str, Any] = field(default_factory=dict)
    """For `generate` itself."""


@contextmanager
def speculating(config: RunConfig, draft: PreTrainedModel | None, listener: Listener) -> Iterator[Speculation]:
    """Around a `generate`."""
    if config.speculate == "lookup":
        yield Speculation(settings={"prompt_lookup_num_tokens": config.speculate_tokens})
    elif config.speculate == "draft":
        yield Speculation(given={"assistant_model": draft})
    else:
        yield Speculation()
