"""Plans in the history: what was to be run, how far it came, and which runs belong to it.

A step is recorded when its run begins, so a killed process leaves a plan that says which run was under way; going on
does that one again, and those that never began.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from engine.contract.records import RunRecord
from engine.history.records import RECORD_COLUMNS, Owner, read_record, this_process
from engine.history.store import Store
from engine.plans.course import Verdict, is_over
from engine.plans.types import Plan, from_json, to_json

COMPLETED, STOPPED = "completed", "stopped"
"""How a plan ended; none while it is under way, or when its process is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPlan:
    """A plan as the history has it."""

    plan_id: int
    plan: Plan
    started_at: float  # Unix time
    ended: str | None
    """`COMPLETED`, `STOPPED`, or None: under way, or interrupted."""
    under_way: bool
    """True while a process works on it."""
    run_ids: tuple[int, ...]
    """Its runs so far, in the order they began."""

    @property
    def can_go_on(self) -> bool:
        """Whether it was stopped, or its process is gone."""
        return self.ended != COMPLETED and not self.under_way


class Plans:
    """The plans of a history. Every method raises `HistoryError` when the file cannot be read or written."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def begin(self, plan: Plan, plan_id: int | None = None) -> int:
        """Give a plan its row and return its number; with `plan_id`, take over the plan of that number."""
        owner, now = this_process(), time.time()
        place = (owner.host, owner.machine, owner.pid, owner.process_started)
        if plan_id is not None:
            update = (
                "UPDATE plans SET ended = NULL, heartbeat = ?, host = ?, machine = ?, pid = ?, process_started = ? "
                "WHERE plan_id = ?"
            )
            self._store.change([(update, (now, *place, plan_id))])
            return plan_id
        insert = (
            "INSERT INTO plans (name, started_at, heartbeat, host, machine, pid, process_started, definition) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        )
        return self._store.change([(insert, (plan.name, now, now, *place, to_json(plan)))])

    def record_step(
        self, plan_id: int, key: tuple[int, int], *, run_id: int | None = None, skipped: bool = False, why: str = ""
    ) -> None:
        """Remember a step: the run that does it, or why there is none. Replaces what an earlier attempt left.

        On `HistoryError` it is written later.
        """
        insert = (
            "INSERT OR REPLACE INTO plan_steps (plan_id, item, tries, run_id, skipped, why) VALUES (?, ?, ?, ?, ?, ?)"
        )
        text = why.encode("utf-8", "replace").decode("utf-8")
        self._store.change_or_owe(
            [
                (insert, (plan_id, *key, run_id, int(skipped), text or None)),
                ("UPDATE plans SET heartbeat = ? WHERE plan_id = ?", (time.time(), plan_id)),
            ]
        )

    def finish(self, plan_id: int, ended: str) -> None:
        """Write how a plan ended: `COMPLETED` or `STOPPED`. On `HistoryError` it is written later."""
        update = "UPDATE plans SET ended = ?, heartbeat = ? WHERE plan_id = ?"
        self._store.change_or_owe([(update, (ended, time.time(), plan_id))])

    def steps(self, plan_id: int) -> dict[tuple[int, int], Verdict]:
        """The steps of a plan that are over, by their keys: those that going on need not do again."""
        columns = ", ".join(f"runs.{name}" for name in RECORD_COLUMNS.split(", "))
        query = (
            f"SELECT item, tries, skipped, why, {columns} FROM plan_steps LEFT JOIN runs USING (run_id) "
            "WHERE plan_id = ?"
        )
        over = {}
        for item, tries, skipped, why, *row in self._store.rows(query, (plan_id,)):
            record: RunRecord | None = None if row[0] is None else read_record(tuple(row))
            if why is not None or (record is not None and is_over(record)):
                over[item, tries] = Verdict(record=record, why=why or "", skipped=bool(skipped))
        return over

    def newest(self, *, limit: int = 50) -> list[StoredPlan]:
        """The plans that began last, the last one first; one that cannot be read is left out."""
        query = (
            "SELECT host, machine, pid, process_started, max(heartbeat, ifnull((SELECT max(runs.heartbeat) FROM "
            "plan_steps JOIN runs USING (run_id) WHERE plan_steps.plan_id = plans.plan_id), 0)), plan_id, started_at, "
            "ended, definition FROM plans ORDER BY plan_id DESC LIMIT ?"
        )
        found = []
        rows = self._store.rows(query, (limit,))
        for host, machine, pid, since, heartbeat, plan_id, started_at, ended, definition in rows:
            try:
                plan = from_json(definition)
            except ValueError:
                continue
            stored = StoredPlan(
                plan_id=plan_id,
                plan=plan,
                started_at=started_at,
                ended=ended,
                under_way=ended is None and not Owner(host, machine, pid, since).is_dead(heartbeat),
                run_ids=self._runs_of(plan_id),
            )
            found.append(stored)
        return found

    def interrupted(self) -> list[StoredPlan]:
        """Plans that were stopped or whose process is gone, newest first: those that can go on."""
        return [stored for stored in self.newest() if stored.can_go_on]

    def _runs_of(self, plan_id: int) -> tuple[int, ...]:
        query = "SELECT run_id FROM plan_steps WHERE plan_id = ? AND run_id IS NOT NULL ORDER BY run_id"
        return tuple(row[0] for row in self._store.rows(query, (plan_id,)))
