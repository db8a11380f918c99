"""Events as JSON: what is bytes is told in MiB, and what is a number of runs is not."""

from __future__ import annotations

from engine.contract.as_json import to_json
from engine.contract.events import MemoryMoment, PlanFinished, PlanProgress, PlanStarted
from engine.contract.records import Memory


def test_a_plans_total_is_a_number_of_runs() -> None:
    for event in (
        PlanStarted(plan_id=1, name="batch", title="Batch sizes", total=3),
        PlanProgress(plan_id=1, position=1, total=3, label="batch 1"),
        PlanFinished(plan_id=1, name="batch", completed=True, done=3, total=3),
    ):
        told = to_json(event)
        assert told["total"] == 3
        assert "total_mib" not in told


def test_memory_is_told_in_mib() -> None:
    told = to_json(MemoryMoment(run_id=1, moment="start", memory=Memory(used=3 * 2**20, total=2**30)))
    assert (told["memory"]["used_mib"], told["memory"]["total_mib"]) == (3.0, 1024.0)
