"""Answers against a baseline's: speed, latency and quality, and what each idea gained and cost, in words. Pure.

Noise of one run on a side: the spreads of its batches, as `engine.compare.noise` has it of updates. A latency's noise
is taken to be as large a part of it as that of the speed it comes from: TTFT follows prefill, TPOT generation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from engine.compare.noise import RUN_TO_RUN, repeat_noise
from engine.compare.rows import Figure, Row, figure_of
from engine.contract.answers import AnswerFigures
from engine.contract.config import Value
from engine.contract.figures import Entry
from engine.contract.numbers import fixed, n_of, number, of_hundred, percent, rate
from engine.contract.speculation import break_even
from engine.gpus.units import to_mib

TOO_FEW = "fewer than 2 batches"
"""Why nothing is known of a run's noise."""
_CIRCLES = 0.5
"""Of an answer: more than half of it said again says more of the answer than of what guesses are worth."""


def batch_noise(one: Figure | None, other: Figure | None) -> float | None:
    """The least difference of two speeds that is not noise; None where a side's spread is unknown."""
    repeats = repeat_noise(one, other)
    if repeats is not None or one is None or other is None or one.spread is None or other.spread is None:
        return repeats
    return max(one.spread + other.spread, RUN_TO_RUN * other.value)


def latency_noise(row: Row, baseline: Row, latency: Entry, speed: Entry) -> float | None:
    """In ms; None where it is unknown."""
    own = repeat_noise(figure_of(row, latency), figure_of(baseline, latency))
    one, other, base = figure_of(row, speed), figure_of(baseline, speed), figure_of(baseline, latency)
    noise = batch_noise(one, other)
    if own is not None or noise is None or other is None or not other.value or base is None:
        return own
    return base.value * noise / other.value


def prices(row: Row, baseline: Row, changed: Mapping[str, tuple[Value, Value]]) -> list[str]:
    """What was turned, in its own figures: `2.84 tokens per forward at 19 % acceptance, 359 guesses wasted`."""
    record, base = row.first, baseline.first
    now, before = record.answer, base.answer
    if now is None or before is None:
        return []
    told: list[str] = []
    if {"speculate", "speculate_tokens", "draft_model"} & changed.keys() and now.proposed is not None:
        told += speculation(now, before)
    if {"kv_cache", "kv_dtype", "batch_size", "prompt_len", "max_new_tokens"} & changed.keys():
        told += _kv(now, before)
    if {"prefix_cache", "response_cache", "repeats", "prefix_len"} & changed.keys() and now.hits is not None:
        held = f", {number(to_mib(now.held), 1)} MiB held" if now.held else ""
        told.append(f"{percent(of_hundred(now.hit_rate))} of the requests hit a cache{held}")
    if "weights" in changed and now.weights and before.weights:
        share = percent(100 * now.weights / before.weights)
        told.append(f"weights {number(to_mib(now.weights), 1)} MiB, {share} of {number(to_mib(before.weights), 1)}")
    if {"weights", "kv_dtype"} & changed.keys() and now.agreement is not None:
        told.append(quality(now))
    if "torch_compile" in changed and now.compile_s is not None:
        told.append(f"compiled in {fixed(now.compile_s, 1)} s, which is in no other figure")
    if now.same_tokens is not None and now.compared_tokens and now.same_tokens < now.compared_tokens:
        told.append(
            f"{number(now.same_tokens)} of {number(now.compared_tokens)} tokens compared are those of plain generate"
        )
    return told


def quality(answer: AnswerFigures) -> str:
    """`the top token agrees on 97.3 %, perplexity 12.3 (own 12.0)`; empty where it was not measured."""
    if answer.agreement is None:
        return ""
    agreed = f"the top token agrees on {percent(100 * answer.agreement, 1)}"
    if answer.perplexity is None or answer.own_perplexity is None:
        return agreed
    return f"{agreed}, perplexity {rate(answer.perplexity)} (own {rate(answer.own_perplexity)})"


def in_circles(answer: AnswerFigures) -> str:
    """`the answers go round in circles (93 % of them came before), …`; empty where they do not, or nothing is known."""
    if answer.looped is None or answer.looped < _CIRCLES:
        return ""
    share = percent(100 * answer.looped)
    return f"the answers go round in circles ({share} of them came before), so guesses are easier than in other text"


def speculation(now: AnswerFigures, before: AnswerFigures) -> list[str]:
    """What guessing came to beside the run `before`, which did not, and why where it was slower."""
    if not now.proposed:
        return ["nothing was guessed: no words of the text came again"]
    wasted = now.proposed - (now.accepted or 0)
    told = [
        f"{fixed(now.tokens_per_forward, 2)} tokens per forward at {percent(of_hundred(now.acceptance))} acceptance",
        f"{n_of(wasted, 'guess', 'guesses')} wasted",
    ]
    one, other = now.generation_tokens_per_s, before.generation_tokens_per_s
    if one is not None and other is not None and one < other:
        told.append(_why_slower(now, before))
    return [*told, *filter(None, [in_circles(now)])]


def _why_slower(now: AnswerFigures, before: AnswerFigures) -> str:
    """Acceptance alone is not speed: what a guess costs has to be less than the forwards that it saves."""
    found = costs(now, before)
    if found is None:
        shares = now.shares
        draft = f" took {percent(100 * shares.draft / shares.total)} of the time" if shares and shares.total else ""
        return (
            f"slower, as guessing{draft or ' costs time'} and checking several tokens takes longer than one: more than "
            "the forwards saved"
        )
    said = f"slower, as a guess takes {fixed(found.guess, 2)} of a forward and a check {fixed(found.check, 2)}"
    if found.pays_from >= 1:
        return f"{said}: it would not pay if all guesses were right"
    return f"{said}: it pays from {percent(100 * found.pays_from)} acceptance on"


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What guessing takes, in forwards of the run without it; with what the host does around each."""

    guess: float
    """Of one token."""
    check: float
    """Of a forward over the guesses."""
    pays_from: float
    """The acceptance from which on it is faster; 1 and above: never."""


def costs(now: AnswerFigures, before: AnswerFigures) -> Costs | None:
    """As the two runs' times have it; None where they are unknown."""
    one, other = _forward_s(before), _forward_s(now)
    if not one or not other or not now.proposed or now.shares is None:
        return None
    guess, check = now.shares.draft / now.proposed / one, other / one
    guessed = now.proposed / (now.forwards - now.n_requests)
    return Costs(guess=guess, check=check, pays_from=break_even(guessed, guess, check))


def _forward_s(answer: AnswerFigures) -> float | None:
    """Seconds of a decode forward and what the host does around it, without guessing."""
    forwards = answer.forwards - answer.n_requests  # each answer begins with a prefill
    if answer.shares is None or forwards <= 0:
        return None
    return (answer.shares.decode + answer.shares.sampling) / forwards


def _kv(now: AnswerFigures, before: AnswerFigures) -> list[str]:
    if now.kv_cache is None or before.kv_cache is None or now.kv_cache == before.kv_cache:
        return []
    one, other = to_mib(now.kv_cache), to_mib(before.kv_cache)
    return [f"KV cache {number(other, 1)} → {number(one, 1)} MiB"]
