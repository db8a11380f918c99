"""What a person changes in the history; the engine's side writes it, and tells by `HistoryChanged` what came of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """Make a run the baseline of the runs of its job; None: they have no baseline."""

    run_id: int | None
    job: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Write a note on a run; an empty text takes it off."""

    run_id: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """Take runs off the list; `Restore` undoes it."""

    run_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Restore:
    """Put deleted runs back on the list."""

    run_ids: tuple[int, ...]


Change = Pin | Note | Delete | Restore
