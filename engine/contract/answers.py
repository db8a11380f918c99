"""What an answering run comes to: the figures beside those that both jobs have. Standard library only.

Named as vLLM's and llama-bench's users know them. Seconds, tokens per second, bytes; None means unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

LOOP_TOKENS = 4
"""Tokens in a row that tell whether an answer says again what it has said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """Of seconds."""

    p50: float
    p90: float
    p99: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerShares:
    """Seconds by what they were spent on; they sum to the wall time that they are told for."""

    prefill: float = 0.0
    decode: float = 0.0
    draft: float = 0.0
    """Guessing."""
    sampling: float = 0.0
    """Choosing tokens from scores, checking guesses, and all that the host does between two forwards."""

    @property
    def total(self) -> float:
        """All of it together."""
        return self.prefill + self.decode + self.draft + self.sampling

    def plus(self, more: AnswerShares) -> AnswerShares:
        """With more seconds."""
        return AnswerShares(
            prefill=self.prefill + more.prefill,
            decode=self.decode + more.decode,
            draft=self.draft + more.draft,
            sampling=self.sampling + more.sampling,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerFigures:
    """Of a run that answers, without its warm-up. Of a classifier only what has no token in it."""

    n_requests: int = 0
    """That are answered."""
    planned_requests: int | None = None
    n_prompts: int = 0
    """Whose `prompt_tokens` were read: those that are answered, and those under way."""
    prompt_tokens: int = 0
    """Without padding, of requests that were computed or taken from a cache."""
    new_tokens: int = 0
    """Written, or taken from the response cache."""
    ttft: Percentiles | None = None
    """Time to first token: from a request's start to its first token."""
    tpot: Percentiles | None = None
    """Time per output token: (end to end - TTFT) / (tokens - 1), of each request."""
    itl: Percentiles | None = None
    """Inter-token latency: from one arrival of tokens to the next."""
    e2e: Percentiles | None = None
    """End-to-end latency of a request."""
    prompt_tokens_per_s: float | None = None
    """llama-bench's pp: prompt tokens / seconds of prefill, the median of the batches."""
    prompt_spread: float | None = None
    """Half the distance between the 16th and the 84th percentile."""
    generation_tokens_per_s: float | None = None
    """llama-bench's tg, of all sequences of a batch: tokens after the first / seconds after it, the median of them."""
    generation_spread: float | None = None
    requests_per_s: float | None = None
    forwards: int = 0
    """Of the model that answers, prefills among them, each counted for every sequence in its batch."""
    tokens_per_forward: float | None = None
    proposed: int | None = None
    """Tokens that were guessed; None without speculation."""
    accepted: int | None = None
    acceptance: float | None = None
    """`accepted` / `proposed`."""
    looped: float | None = None
    """Share of the runs of `LOOP_TOKENS` tokens of an answer that were in it before, 0 to 1, on average: seq-rep-4
    (Welleck et al. 2020, Neural Text Generation with Unlikelihood Training). A text that goes round is easily guessed.
    """
    hits: int | None = None
    """Requests that a cache shortened or answered; None without one."""
    hit_rate: float | None = None
    cached_tokens: int = 0
    """Prompt tokens that were not computed again."""
    kv_cache: int | None = None
    """Bytes of keys and values, the most at once."""
    held: int | None = None
    """Bytes that the prefix and the response cache keep between requests, the most at once."""
    weights: int | None = None
    """Bytes that the model is stored in, without the draft's."""
    draft_weights: int | None = None
    agreement: float | None = None
    """Share of held-out tokens at which the top token is that of the model's own weights and KV, 0 to 1."""
    perplexity: float | None = None
    own_perplexity: float | None = None
    """Of the model's own weights and KV, on the same text."""
    same_tokens: int | None = None
    """Of the tokens compared with plain `generate`, greedy, how many are the same before the first that is not."""
    compared_tokens: int | None = None
    compile_s: float | None = None
    """Seconds of the warm-up that went to torch.compile; in no other figure."""
    padding_share: float | None = None
    """Of the tokens that prompts were computed with, the share that was padding, 0 to 1."""
    shares: AnswerShares | None = None
    """Of the whole run without its warm-up."""


_NESTED = {"ttft": Percentiles, "tpot": Percentiles, "itl": Percentiles, "e2e": Percentiles, "shares": AnswerShares}


def to_plain(figures: AnswerFigures | None) -> dict[str, Any] | None:
    """As JSON can hold it."""
    return None if figures is None else asdict(figures)


def from_plain(value: object) -> AnswerFigures | None:
    """What `to_plain` made; what this version cannot read is unknown. Never raises."""
    if not isinstance(value, Mapping):
        return None
    known: dict[str, Any] = {}
    for f in fields(AnswerFigures):
        read = value.get(f.name)
        if f.name in _NESTED:
            known[f.name] = _numbers(_NESTED[f.name], read)
        elif isinstance(read, (int, float)) and not isinstance(read, bool):
            known[f.name] = read
    return AnswerFigures(**known)


def _numbers(kind: type[Any], value: object) -> Any:
    if not isinstance(value, Mapping):
        return None
    known = {f.name: value.get(f.name) for f in fields(kind)}
    return kind(**known) if all(isinstance(each, (int, float)) for each in known.values()) else None
