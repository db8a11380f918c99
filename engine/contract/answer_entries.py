"""What tables say of a run that answers, entry by entry, as `figures` has it for every run. Standard library only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from engine.contract.answering_knobs import DEFAULT_PROMPT_LEN, DUMMY_PROMPTS
from engine.contract.answers import AnswerFigures, Percentiles
from engine.contract.config import Value
from engine.contract.figures import Entry, knob_entry
from engine.contract.numbers import fixed, number, percent, rate
from engine.contract.records import RunRecord
from engine.gpus.units import to_mib


def _of(read: Callable[[AnswerFigures], Value]) -> Callable[[RunRecord], Value]:
    """A figure of the answers; None of a run that does not answer."""
    return lambda record: None if record.answer is None else read(record.answer)


def _ms(which: Callable[[AnswerFigures], Percentiles | None], end: str) -> Callable[[RunRecord], Value]:
    """A percentile in milliseconds."""

    def read(record: RunRecord) -> Value:
        found = which(record.answer) if record.answer is not None else None
        return None if found is None else 1000 * float(getattr(found, end))

    return read


def _share(value: float | None) -> str:
    return percent(None if value is None else 100 * value)


def _mib(value: float | None) -> str:
    """MiB, with a decimal where there are few: keys and values of small models are less than one."""
    return fixed(value, 0 if value is None or value >= 10 or not value else 1)


def prompt_tokens_of(record: RunRecord) -> int | None:
    """Of a prompt: as they were on average, else as the knobs say."""
    figures, config = record.answer, record.config
    if figures is not None and figures.n_requests and figures.prompt_tokens:
        return round(figures.prompt_tokens / figures.n_requests)
    is_dummy = config.prompts == DUMMY_PROMPTS and config.prompt is None
    return config.prompt_len or (DEFAULT_PROMPT_LEN if is_dummy else None)


def guessing_of(record: RunRecord) -> str:
    """`lookup 4`: how tokens are guessed and how many at a time; `off`."""
    config = record.config
    return config.speculate if config.speculate == "off" else f"{config.speculate} {config.speculate_tokens}"


def caching_of(record: RunRecord) -> str:
    """`dynamic`, `static int8`: how keys and values are kept."""
    config = record.config
    return config.kv_cache if config.kv_dtype == "model" else f"{config.kv_cache} {config.kv_dtype}"


PROMPT_TOKENS = Entry(name="mean_prompt_tokens", label="prompt", read=prompt_tokens_of, write=number)
NEW_TOKENS = replace(knob_entry("max_new_tokens"), label="new", unit="")
KV = Entry(name="caching", label="KV", read=caching_of, write=str, left=True)
GUESSING = Entry(name="guessing", label="speculate", read=guessing_of, write=str, left=True)
REQUESTS = Entry(name="n_requests", label="requests", read=_of(lambda f: f.n_requests), write=number)
GENERATION = Entry(
    name="generation_tokens_per_s",
    label="tg",
    unit="tokens/s",
    short="tg t/s",
    read=_of(lambda f: f.generation_tokens_per_s),
    write=rate,
    is_timed=True,
)
"""llama-bench's tg, of all sequences of a batch together."""
PROMPT = Entry(
    name="prompt_tokens_per_s",
    label="pp",
    unit="tokens/s",
    short="pp t/s",
    read=_of(lambda f: f.prompt_tokens_per_s),
    write=rate,
    is_timed=True,
)
TTFT = Entry(name="ttft_p50_ms", label="TTFT", unit="ms", read=_ms(lambda f: f.ttft, "p50"), write=rate, is_timed=True)
TTFT_P99 = Entry(
    name="ttft_p99_ms", label="TTFT p99", unit="ms", read=_ms(lambda f: f.ttft, "p99"), write=rate, is_timed=True
)
TPOT = Entry(name="tpot_p50_ms", label="TPOT", unit="ms", read=_ms(lambda f: f.tpot, "p50"), write=rate, is_timed=True)
TPOT_P99 = Entry(
    name="tpot_p99_ms", label="TPOT p99", unit="ms", read=_ms(lambda f: f.tpot, "p99"), write=rate, is_timed=True
)
E2E = Entry(name="e2e_p50_ms", label="E2E", unit="ms", read=_ms(lambda f: f.e2e, "p50"), write=rate, is_timed=True)
PER_FORWARD = Entry(
    name="tokens_per_forward", label="tok/fwd", read=_of(lambda f: f.tokens_per_forward), write=lambda v: fixed(v, 2)
)
ACCEPTANCE = Entry(name="acceptance", label="accepted", short="acc", read=_of(lambda f: f.acceptance), write=_share)
HIT_RATE = Entry(name="hit_rate", label="hits", read=_of(lambda f: f.hit_rate), write=_share)
KV_MIB = Entry(
    name="kv_cache_mib", label="KV", unit="MiB", read=_of(lambda f: to_mib(f.kv_cache)), write=_mib, short="KV"
)
HELD_MIB = Entry(name="held_mib", label="held", unit="MiB", read=_of(lambda f: to_mib(f.held)), write=_mib)
WEIGHTS_MIB = Entry(name="weights_mib", label="weights", unit="MiB", read=_of(lambda f: to_mib(f.weights)), write=_mib)
AGREEMENT = Entry(name="agreement", label="agree", read=_of(lambda f: f.agreement), write=_share)
PERPLEXITY = Entry(name="perplexity", label="perplexity", read=_of(lambda f: f.perplexity), write=rate)
OWN_PERPLEXITY = Entry(name="own_perplexity", label="of its own", read=_of(lambda f: f.own_perplexity), write=rate)
PADDED = Entry(name="padding_share", label="padding", read=_of(lambda f: f.padding_share), write=_share)
COMPILING = Entry(name="compile_s", label="compiling", unit="s", read=_of(lambda f: f.compile_s), write=rate)
SAME = Entry(
    name="same_tokens",
    label="as plain generate",
    read=_of(lambda f: None if not f.compared_tokens or f.same_tokens is None else f.same_tokens / f.compared_tokens),
    write=_share,
)


def energy_per_token(record: RunRecord) -> float | None:
    """Joules that the card took for one new token; None where they are unknown."""
    figures = record.answer
    return record.energy / figures.new_tokens if record.energy and figures is not None and figures.new_tokens else None


PER_TOKEN = Entry(name="energy_j_per_token", label="J/token", read=energy_per_token, write=rate)

ANSWER_ENTRIES = (
    *(PROMPT_TOKENS, NEW_TOKENS, KV, GUESSING, REQUESTS, GENERATION, PROMPT, TTFT, TTFT_P99, TPOT, TPOT_P99, E2E),
    *(PER_FORWARD, ACCEPTANCE, HIT_RATE, KV_MIB, HELD_MIB, WEIGHTS_MIB, AGREEMENT, PERPLEXITY, OWN_PERPLEXITY),
    *(PADDED, COMPILING, SAME, PER_TOKEN),
)
"""All that tables can say of answers beside what they say of every run."""
