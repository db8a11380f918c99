"""The entries of runs that answer: what their tables have beside those of `figures`. Standard library only.

Named as llama-bench's and vLLM's users know them: pp and tg in tokens/s, TTFT and TPOT in ms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from engine.contract import figures
from engine.contract.answers import AnswerFigures, Percentiles
from engine.contract.figures import Entry
from engine.contract.knob import ANSWER, JOBS, SCRIPT, TRAIN
from engine.contract.numbers import UNKNOWN, fixed, number, of_hundred, percent, rate
from engine.contract.records import RunRecord
from engine.contract.text import one_line
from engine.gpus.units import to_mib


def _figure(read: Callable[[AnswerFigures], Any]) -> Callable[[RunRecord], Any]:
    """Of a run's answers; None of one that has none."""
    return lambda record: None if record.answer is None else read(record.answer)


def _share(value: float | None) -> str:
    """Of 0 to 1; what is not all has a digit more, so that it is not taken for it."""
    return percent(of_hundred(value), 1 if value is not None and 0.99 <= value < 1 else 0)


def prompt_tokens_of(record: RunRecord) -> int | None:
    """Of a prompt, or of a text that is scored, on average; before any is read, of dummy prompts."""
    config, answer = record.config, record.answer
    read = 0 if answer is None else answer.n_prompts or answer.n_requests  # a row of before has the answered alone
    if answer is not None and read:
        return round(answer.prompt_tokens / read)
    return config.known_prompt_len


def _kv(record: RunRecord) -> str | None:
    config = record.config
    if config.task == "classification":
        return None
    return config.kv_cache + (f" {config.kv_dtype}" if config.kv_dtype != "model" and config.kv_cache != "off" else "")


def _speculation(record: RunRecord) -> str | None:
    config = record.config
    if config.task == "classification":
        return None
    return "off" if config.speculate == "off" else f"{config.speculate} {config.speculate_tokens}"


def _words(value: str | None) -> str:
    return UNKNOWN if value is None else one_line(value)


def per_token(record: RunRecord) -> float | None:
    """Joules that the card took for one new token; None where they are unknown."""
    if record.energy is None or record.answer is None or not record.answer.new_tokens:
        return None
    return record.energy / record.answer.new_tokens


WEIGHTS = figures.WEIGHTS
BATCH = figures.BATCH
PROMPT = Entry(name="prompt_tokens_each", label="prompt", read=prompt_tokens_of, write=number)
NEW = Entry(
    name="max_new_tokens",
    label="new",
    read=lambda r: None if r.config.task == "classification" else r.config.max_new_tokens,
    write=number,
)
KV = Entry(name="kv", label="KV", read=_kv, write=_words, left=True)
SPECULATION = Entry(name="speculation", label="speculate", short="spec", read=_speculation, write=_words, left=True)
PP = Entry(
    name="prompt_tokens_per_s",
    label="pp",
    unit="tokens/s",
    short="pp t/s",
    read=_figure(lambda a: a.prompt_tokens_per_s),
    write=rate,
    is_timed=True,
)
"""Prompt processing."""
TG = Entry(
    name="generation_tokens_per_s",
    label="tg",
    unit="tokens/s",
    short="tg t/s",
    read=_figure(lambda a: a.generation_tokens_per_s),
    write=rate,
    is_timed=True,
)
"""Token generation, of all sequences of a batch together."""


def _latency(field: str, which: str, label: str, short: str) -> Entry:
    def read(answer: AnswerFigures) -> float | None:
        percentiles: Percentiles | None = getattr(answer, field)
        return None if percentiles is None else 1000 * getattr(percentiles, which)

    return Entry(
        name=f"{field}_{which}",
        label=f"{label} {which}",
        unit="ms",
        short=short,
        read=_figure(read),
        write=rate,
        is_timed=True,
    )


TTFT_P50 = _latency("ttft", "p50", "TTFT", "TTFT")
TTFT_P99 = _latency("ttft", "p99", "TTFT", "p99")
TPOT_P50 = _latency("tpot", "p50", "TPOT", "TPOT")
TPOT_P99 = _latency("tpot", "p99", "TPOT", "p99")
E2E_P50 = _latency("e2e", "p50", "latency", "e2e")
E2E_P99 = _latency("e2e", "p99", "latency", "p99")
"""End to end, of a request; of a classifier, of a batch."""
PER_FORWARD = Entry(
    name="tokens_per_forward",
    label="tokens/forward",
    short="t/fwd",
    read=_figure(lambda a: a.tokens_per_forward),
    write=lambda v: fixed(v, 2),
    digits=2,
)
ACCEPTANCE = Entry(
    name="acceptance", label="acceptance", short="acc %", read=_figure(lambda a: a.acceptance), write=_share
)  # 0 to 1
HIT_RATE = Entry(
    name="hit_rate", label="hit rate", short="hits", read=_figure(lambda a: a.hit_rate), write=_share
)  # 0 to 1
KV_MIB = Entry(
    name="kv_cache_mib",
    label="KV",
    unit="MiB",
    short="KV MiB",
    read=_figure(lambda a: to_mib(a.kv_cache)),
    write=lambda v: fixed(v, 0 if v is None or v >= 100 else 1),
)
HELD = Entry(
    name="held_mib",
    label="held",
    unit="MiB",
    read=_figure(lambda a: to_mib(a.held)),
    write=KV_MIB.write,
)
WEIGHTS_MIB = Entry(
    name="weights_mib",
    label="weights",
    unit="MiB",
    short="w MiB",
    read=_figure(lambda a: to_mib(a.weights)),
    write=KV_MIB.write,
)
AGREEMENT = Entry(
    name="agreement", label="agreement", short="agree", read=_figure(lambda a: a.agreement), write=_share
)  # 0 to 1
PERPLEXITY = Entry(name="perplexity", label="perplexity", short="ppl", read=_figure(lambda a: a.perplexity), write=rate)
PADDING = Entry(
    name="padding_share", label="padding", short="pad", read=_figure(lambda a: a.padding_share), write=_share
)  # 0 to 1
REQUESTS = Entry(name="answered", label="requests", read=_figure(lambda a: a.n_requests), write=number)
COMPILE = Entry(
    name="compile_s",
    label="compile",
    unit="s",
    read=_figure(lambda a: a.compile_s),
    write=lambda v: fixed(v, 1),
    is_timed=True,
)
PER_TOKEN = Entry(name="energy_j_per_token", unit="J/token", short="J/tok", read=per_token, write=rate)

KNOB_ENTRIES: tuple[Entry, ...] = (WEIGHTS, BATCH, PROMPT, NEW, KV, SPECULATION)
"""Knobs that every table of answers shows, after the model."""
ENTRIES: tuple[Entry, ...] = (
    PP,
    TG,
    TTFT_P50,
    TTFT_P99,
    TPOT_P50,
    TPOT_P99,
    figures.SPEED,
    E2E_P50,
    E2E_P99,
    PADDING,
    PER_FORWARD,
    ACCEPTANCE,
    HIT_RATE,
    KV_MIB,
    HELD,
    WEIGHTS_MIB,
    figures.MEMORY,
    figures.SHARE,
    AGREEMENT,
    PERPLEXITY,
    COMPILE,
    figures.ENERGY,
    PER_TOKEN,
)
"""The figures of answers in their order; which of them a table shows, `shown` says."""
_ALWAYS = (TG, TTFT_P50, TPOT_P50, KV_MIB, figures.MEMORY)
_WRITERS_ONLY = (PP, TG, TTFT_P50, TTFT_P99, TPOT_P50, TPOT_P99, KV_MIB, NEW, KV, SPECULATION)
_SCORERS_ONLY = (figures.SPEED, E2E_P50, E2E_P99)
_WHERE: dict[Entry, Callable[[RunRecord], bool]] = {
    PER_FORWARD: lambda record: record.config.speculate != "off",
    PADDING: lambda record: bool(PADDING.read(record)),
    WEIGHTS_MIB: lambda record: record.config.weights != "fp32",
}
"""Of which runs an entry says more than goes without saying."""


def shown(records: Sequence[RunRecord], entries: Iterable[Entry] = ENTRIES) -> list[Entry]:
    """Of these entries those that say something about runs that answer: the rest is unknown, or beside the point."""
    writes = [record for record in records if record.config.task != "classification"]
    scores = len(writes) < len(records)
    told = []
    for entry in entries:
        if (entry in _WRITERS_ONLY and records and not writes) or (entry in _SCORERS_ONLY and not scores):
            continue
        known = [record for record in records if entry.read(record) is not None]
        says = _WHERE.get(entry)
        if entry in (*_ALWAYS, *KNOB_ENTRIES) or any(says is None or says(record) for record in known):
            told.append(entry)
    return told


def by_job(records: Sequence[RunRecord]) -> list[tuple[str, list[RunRecord]]]:
    """The runs of each job, in their order: no table mixes them. Jobs without a run are left out."""
    split = [(job, [record for record in records if record.config.job == job]) for job in JOBS]
    return [(job, runs) for job, runs in split if runs]


TITLES: dict[str, str] = {TRAIN: "Training", ANSWER: "Answering", SCRIPT: "Scripts"}
"""What a job's table is called where there are both."""
