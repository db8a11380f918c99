"""The sentences that the experiments with answers end in, from their rows' own figures. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

from engine.compare.answers import costs, in_circles
from engine.contract.answers import AnswerFigures, Percentiles
from engine.contract.marks import why_no_verdict
from engine.contract.numbers import number, rate
from engine.contract.records import Outcome, RunRecord
from engine.gpus.units import to_mib
from engine.plans.answering import (
    CACHE,
    DRAFT,
    DRAWN,
    DRAWN_LOOKUP,
    INT8,
    LOOKUP,
    NO_CACHE,
    PREFIX,
    REPEATING,
    RESPONSE,
    STATIC,
)
from engine.plans.lecture import rows_of
from engine.plans.types import Plan, PlannedRun

Read = Callable[[AnswerFigures], float | None]


def three_ideas(plan: Plan, records: Sequence[RunRecord]) -> str | None:
    """What each idea gained and cost beside the row with the KV cache alone, or the same text without guesses."""
    rows = {run.label: _Answered(run, own) for run, own in rows_of(plan, records)}
    base = rows.get(CACHE)
    if base is None or not base.records:
        return None
    text = rows.get(REPEATING, base)
    ideas = {
        "space for computation": [_kv_cache(base, rows.get(NO_CACHE)), _static(base, rows.get(STATIC))],
        "the common case": [
            _prefix(base, rows.get(PREFIX)),
            _response(base, rows.get(RESPONSE)),
            _int8(base, rows.get(INT8)),
        ],
        "speculation": [
            _guessed(text, rows.get(LOOKUP)),
            _guessed(rows.get(DRAWN), rows.get(DRAWN_LOOKUP), "lookup on random text"),
            _guessed(text, rows.get(DRAFT)),
        ],
    }
    told = [f"{idea}: {', '.join(filter(None, found))}" for idea, found in ideas.items() if any(found)]
    return f"{'; '.join(told)}{_marked(records)}" if told else None


def throughput_latency(plan: Plan, records: Sequence[RunRecord]) -> str | None:
    """What the batch gains for all, and costs each, from the smallest to the largest that ran."""
    rows = [_Answered(run, own) for run, own in rows_of(plan, records)]
    done = sorted((row for row in rows if row.records), key=lambda row: row.run.config.batch_size)
    if len(done) < 2:
        return None
    first, last = done[0], done[-1]
    parts = [
        _times(last.speed, first.speed, "the tokens/s"),
        _change(first, last, _TTFT, "time to first token"),
        _change(first, last, _TPOT, "time per output token"),
        _change(first, last, _KV, "KV cache"),
    ]
    failed = min((row.run.config.batch_size for row in rows if row.did_not_fit), default=None)
    parts += [f"batch {failed} is out of memory"] if failed is not None else []
    best = max(done, key=lambda row: row.speed or 0.0)
    if best is not last and best.speed:
        parts.append(f"most tokens/s at {best.run.config.batch_size}: {rate(best.speed)}")
    sizes = f"batch {first.run.config.batch_size} → {last.run.config.batch_size}"
    return f"{sizes}: {', '.join(filter(None, parts))}{_marked(records)}"


def prompt_length(plan: Plan, records: Sequence[RunRecord]) -> str | None:
    """What a longer prompt costs, and where it ended."""
    rows = [_Answered(run, own) for run, own in rows_of(plan, records)]
    done = [row for row in rows if row.records]
    if len(done) < 2:
        return None
    first, last = done[0], done[-1]
    parts = [
        _change(first, last, _TTFT, "time to first token"),
        _change(first, last, _TPOT, "time per output token"),
        _change(first, last, _KV, "KV cache"),
    ]
    failed = next((row for row in rows if row.did_not_fit), None)
    parts += [f"{number(failed.run.config.prompt_len)} tokens are out of memory{failed.where}"] if failed else []
    sizes = f"prompt {number(first.run.config.prompt_len)} → {number(last.run.config.prompt_len)} tokens"
    return f"{sizes}: {', '.join(filter(None, parts))}{_marked(records)}"


SENTENCES: dict[str, Callable[[Plan, Sequence[RunRecord]], str | None]] = {
    "three-ideas": three_ideas,
    "throughput-latency": throughput_latency,
    "prompt-length": prompt_length,
}
"""By the experiment's name."""

# a row ------------------------------------------------------------------------------------------------------------


class _Answered:
    """A row of the plan with those of its runs that came to their end."""

    def __init__(self, run: PlannedRun, records: Sequence[RunRecord]) -> None:
        self.run = run
        self.records = [r for r in records if r.outcome is Outcome.COMPLETED and r.answer is not None]
        self._failed = [r for r in records if r.outcome is Outcome.OUT_OF_MEMORY]

    @property
    def did_not_fit(self) -> bool:
        return bool(self._failed)

    @property
    def where(self) -> str:
        """` in prefill`: where it ran out of memory; empty where that is unknown."""
        phase = next((r.failed_phase for r in self._failed), None)
        return f" in {phase.value}" if phase is not None else ""

    def median(self, read: Read) -> float | None:
        """Of its repeats; None where no run tells."""
        known = [value for r in self.records if r.answer is not None and (value := read(r.answer)) is not None]
        return median(known) if known else None

    @property
    def speed(self) -> float | None:
        """Tokens/s of generation."""
        return self.median(lambda figures: figures.generation_tokens_per_s)


def _half(read: Callable[[AnswerFigures], Percentiles | None]) -> Read:
    def p50(figures: AnswerFigures) -> float | None:
        found = read(figures)
        return found.p50 if found is not None else None

    return p50


_TTFT, _TPOT = _half(lambda figures: figures.ttft), _half(lambda figures: figures.tpot)


def _KV(figures: AnswerFigures) -> float | None:  # noqa: N802 (a figure, as the two above)
    return figures.kv_cache


# the parts of sentences ---------------------------------------------------------------------------------------------


def _kv_cache(base: _Answered, off: _Answered | None) -> str | None:
    held = f" for {number(to_mib(kv), 1)} MiB" if (kv := base.median(_KV)) else ""
    gained = _faster(base.speed, off.speed if off is not None else None, " as none")
    return f"the KV cache {gained}{held}" if gained else None


def _static(base: _Answered, static: _Answered | None) -> str | None:
    gained = _faster(static.speed if static is not None else None, base.speed)
    held = static.median(_KV) if static is not None else None
    return f"static {gained}{f' with {number(to_mib(held), 1)} MiB' if held else ''}" if gained else None


def _prefix(base: _Answered, prefix: _Answered | None) -> str | None:
    if prefix is None:
        return None
    cold, warm = base.median(_TTFT), prefix.median(_TTFT)
    if not cold or not warm:
        return None
    held = prefix.median(lambda figures: figures.held)
    price = f" for {number(to_mib(held), 1)} MiB" if held else ""
    return f"the first token {_faster(1 / warm, 1 / cold)} with a prefix cache{price}"


def _response(base: _Answered, response: _Answered | None) -> str | None:
    hits = response.median(lambda figures: figures.hit_rate) if response is not None else None
    return f"the response cache answers {number(100 * hits)} % at once" if hits is not None else None


def _int8(base: _Answered, int8: _Answered | None) -> str | None:
    gained = _faster(int8.speed if int8 is not None else None, base.speed)
    if int8 is None or not gained:
        return None
    own, stored = (row.median(lambda figures: figures.weights) for row in (base, int8))
    agreement = int8.median(lambda figures: figures.agreement)
    return "int8 weights " + ", ".join(
        [
            gained,
            *([f"{stored / own:.2f} of the bytes"] if own and stored else []),
            *([f"the same top token {number(100 * agreement, 1)} %"] if agreement is not None else []),
        ]
    )


def _guessed(base: _Answered | None, guessed: _Answered | None, what: str = "") -> str | None:
    """What guessing came to beside the same without; where it did not run, why."""
    if guessed is None or base is None:
        return None
    what = what or guessed.run.label
    if guessed.run.skip:
        return f"no {what}: {guessed.run.skip}"
    gained = _faster(guessed.speed, base.speed)
    if not gained:
        return None
    first, before = guessed.records[0].answer, base.records[0].answer
    assert first is not None
    assert before is not None
    accepted = guessed.median(lambda figures: figures.acceptance)
    told = [f"{number(100 * accepted)} % accepted"] if accepted is not None else []
    if (guessed.speed or 0) < (base.speed or 0) and (found := costs(first, before)) is not None:
        told.append(f"a guess takes {found.guess:.2f} of a forward")
        told.append(f"it pays from {number(100 * found.pays_from)} %" if found.pays_from < 1 else "it cannot pay")
    told += filter(None, [in_circles(first)])
    return f"{what} {gained} ({', '.join(told)})" if told else f"{what} {gained}"


def _times(value: float | None, before: float | None, of: str = "") -> str:
    """`6.1 × the tokens/s`; empty where one is unknown."""
    if not value or not before:
        return ""
    return f"{_two_digits(value / before)} ×{f' {of}' if of else ''}"


def _faster(speed: float | None, before: float | None, of: str = "") -> str:
    """`6.1 × as fast`, `1.11 × slower`; empty where one is unknown. `of`, as ` as none`, follows `as fast`."""
    if not speed or not before:
        return ""
    ratio = speed / before
    return f"{_two_digits(ratio)} × as fast{of}" if ratio >= 1 else f"{_two_digits(1 / ratio)} × slower"


def _two_digits(ratio: float) -> str:
    return f"{ratio:.{1 if ratio >= 1.95 else 2}f}"


def _change(first: _Answered, last: _Answered, read: Read, what: str) -> str:
    """`time to first token 4 → 91 ms`."""
    one, other = first.median(read), last.median(read)
    if one is None or other is None:
        return ""
    if read is _KV:
        return f"{what} {number(to_mib(one), 1)} → {number(to_mib(other), 1)} MiB"
    return f"{what} {_ms(one)} → {_ms(other)} ms"


def _ms(seconds: float) -> str:
    return number(1000 * seconds, 1 if seconds < 0.01 else 0)


def _marked(records: Sequence[RunRecord]) -> str:
    why = why_no_verdict(records)
    return f" ({why})" if why else ""
