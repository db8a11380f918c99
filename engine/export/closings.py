"""The closing sentences of the experiments whose runs are exported."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from engine.compare.closing import closing
from engine.contract.records import RunRecord
from engine.history.plans import COMPLETED, StoredPlan


def closings(plans: Iterable[StoredPlan], records: Sequence[RunRecord]) -> tuple[str, ...]:
    """A sentence for each of the experiments that came to its end and has all its runs among `records`.

    In the order they began.
    """
    known = {record.run_id: record for record in records}
    sentences = []
    for stored in sorted(plans, key=lambda stored: stored.plan_id):
        if stored.ended != COMPLETED or not stored.run_ids or not known.keys() >= set(stored.run_ids):
            continue
        sentence = closing(stored.plan, [known[run_id] for run_id in stored.run_ids])
        if sentence is not None:
            sentences.append(sentence)
    return tuple(sentences)
