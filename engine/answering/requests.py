"""What is asked, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One prompt, as the model reads it."""

    number: int
    """Counted from 1; 0 and below warm up."""
    input_ids: tuple[int, ...]
    text: str = ""
    """As a person reads it; empty of a dummy prompt."""


@dataclass(slots=True, kw_only=True)
class Writing:
    """A request that is being answered, or was."""

    request: Request
    cached_tokens: int = 0
    """Of its prompt, whose keys and values were there already."""
    ids: list[int] = field(default_factory=list)
    """The answer so far, with the token that ends it."""
    guessed: list[bool] = field(default_factory=list)
    """Which of them are guesses that were accepted."""
    reason: str | None = None
    """As `RequestDone.reason`; None: it is being written."""
    ttft_s: float = 0.0
    e2e_s: float = 0.0
    """From its start to its last token."""
