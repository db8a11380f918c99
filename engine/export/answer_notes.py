"""The sentences under a table of answers: how its figures are read, and what was looked at. Standard library only."""

from __future__ import annotations

from collections.abc import Sequence

from engine.compare.answers import quality
from engine.compare.rows import Row
from engine.compare.worth import worth
from engine.contract.numbers import number
from engine.contract.records import RunRecord


def answer_notes(rows: Sequence[Row]) -> list[str]:
    """Of rows that answer."""
    records = [record for row in rows for record in row.records]
    notes = []
    if any(record.answer is not None and record.answer.generation_tokens_per_s is not None for record in records):
        notes.append(
            "pp: prompt tokens/s of prefill, tg: tokens/s after the first, both the median ± spread of batches; TTFT: "
            "time to first token, TPOT: time per output token after it; warm-up left out."
        )
    if any(record.config.task == "classification" for record in records):
        notes.append("latency: of a batch of samples.")
    compared = [record for record in records if record.answer is not None and record.answer.compared_tokens]
    other = [text for record in compared if (text := _not_the_same(record))]
    if other:
        notes.append(f"Beside plain generate, greedy: {', '.join(other)}.")
    elif compared:
        notes.append("Beside plain generate, greedy: all tokens that were compared are the same.")
    notes += [
        f"Run {record.run_id}: {text}, on held-out text."
        for record in records
        if record.answer is not None and (text := quality(record.answer))
    ]
    return [*notes, *filter(None, (worth(record, records) for record in records))]


def _not_the_same(record: RunRecord) -> str:
    """`run 7 has 118 of 128 tokens the same`; empty where all are."""
    answer = record.answer
    if answer is None or answer.same_tokens is None or not answer.compared_tokens:
        return ""
    if answer.same_tokens >= answer.compared_tokens:
        return ""
    return f"run {record.run_id} has {number(answer.same_tokens)} of {number(answer.compared_tokens)} tokens the same"
