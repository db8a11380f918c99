"""Whether guessing was worth it: a run beside the same run without guesses, where there is one. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from engine.compare.answers import speculation
from engine.contract.config import KEEPING, KNOBS, RunConfig
from engine.contract.figures import CPU, is_virtual
from engine.contract.marks import why_no_verdict
from engine.contract.numbers import fixed
from engine.contract.records import Outcome, RunRecord

_GUESSING = frozenset(("speculate", "speculate_tokens", "draft_model"))
_IGNORED = KEEPING | _GUESSING | {"seed", "device"}
"""Knobs that may differ; the device itself must be the same."""


def worth(run: RunRecord, others: Iterable[RunRecord]) -> str | None:
    """One sentence; None of a run that did not guess, or did not come to its end. The newest twin in `others` counts.

    Without one the sentence says what is missing.
    """
    if run.config.speculate == "off" or run.outcome is not Outcome.COMPLETED or run.answer is None:
        return None
    unknown = f"Whether the guesses of run {run.run_id} were worth it is not known"
    twins = [each for each in others if _is_twin(each, run)]
    if not twins:
        return f"{unknown}: there is no run with the same knobs and --speculate off."
    twin = max(twins, key=lambda each: each.run_id)
    assert twin.answer is not None
    one, other = run.answer.generation_tokens_per_s, twin.answer.generation_tokens_per_s
    if not one or not other:
        return f"{unknown}: run {(twin if one else run).run_id} wrote too few tokens to tell its speed."
    whose = f"{CPU} " if is_virtual((run, twin)) else ""
    paid = one > other
    times = f"{fixed(one / other, 2)} × the {whose}tokens/s of" if paid else f"{fixed(other / one, 2)} × slower than"
    told = ", ".join([f"{times} run {twin.run_id}, which made none", *speculation(run.answer, twin.answer)])
    if why := why_no_verdict((run, twin)):
        return f"{unknown}, as {why}: {told}."
    return f"The guesses of run {run.run_id} were{' ' if paid else ' not '}worth it: {told}."


def _is_twin(other: RunRecord, run: RunRecord) -> bool:
    if other.config.speculate != "off" or other.outcome is not Outcome.COMPLETED or other.answer is None:
        return False
    return _all_but_guesses(other) == _all_but_guesses(run)


def _all_but_guesses(run: RunRecord) -> tuple[object, ...]:
    config: RunConfig = run.config
    card = run.device.card if run.device is not None else None
    return card, *(getattr(config, name) for name in KNOBS if name not in _IGNORED)
