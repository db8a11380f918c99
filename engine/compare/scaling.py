"""How much of several GPUs' speed a run gets, by a run on one of them that was measured. Standard library only."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from engine.contract.config import KEEPING, KNOBS
from engine.contract.figures import Entry, gpus_of, scaling_entry, steady_of
from engine.contract.marks import marks_of
from engine.contract.records import Outcome, RunRecord

_MAY_DIFFER = KEEPING | {"seed", "device", *(name for name, knob in KNOBS.items() if knob.group == "parallel")}


Scaling = Callable[[RunRecord], float | None]
"""Looks up what a run is measured by."""


def nothing_known(record: RunRecord) -> None:
    """Where there is nothing to measure a run by."""
    del record


def scaling(record: RunRecord, one: RunRecord | None) -> float | None:
    """Samples/s of all GPUs ÷ (GPUs × samples/s of `one`): 1 is as fast as can be asked for.

    None where `one` is no run of the same knobs on one GPU of the same model, or where a speed is unknown. The batch
    size is per GPU on both sides, so the run on several did as many times the work in an update.
    """
    gpus = gpus_of(record)
    if one is None or gpus is None or gpus < 2 or gpus_of(one) != 1 or _key(record) != _key(one):
        return None
    speeds = [steady_of(record), steady_of(one)]
    if None in speeds:
        speeds = [record.samples_per_s, one.samples_per_s]
    here, alone = speeds
    return None if here is None or not alone else here / (gpus * alone)


class OneGpu:
    """The runs on one GPU that those on several are measured by: the newest completed one of each kind.

    The pinned baseline goes before them where it is of that kind. Runs that were disturbed are left out.
    """

    def __init__(self, records: Iterable[RunRecord], baseline: RunRecord | None = None) -> None:
        """`records` in any order: of two numbers the larger one is newer."""
        self._newest: dict[object, RunRecord] = {}
        for record in (
            *sorted(records, key=lambda record: record.run_id),
            *([baseline] if baseline is not None else ()),
        ):
            if gpus_of(record) == 1 and record.outcome is Outcome.COMPLETED and not marks_of(record):
                self._newest[_key(record)] = record

    def scaling(self, record: RunRecord) -> float | None:
        """See `scaling`; None also for a run on one GPU, and where there is none to measure it by."""
        return scaling(record, self._newest.get(_key(record)))

    @property
    def entry(self) -> Entry:
        """Its column in a table."""
        return scaling_entry(self.scaling)


def _key(record: RunRecord) -> object:
    """Equal for runs that differ in how many GPUs they took, and how. A virtual GPU is as fast as its machine's CPU."""
    device = record.device
    if device is None:
        return record.run_id
    place = None if device.kind == "cuda" else record.host
    knobs = tuple(getattr(record.config, name) for name in KNOBS if name not in _MAY_DIFFER)
    return device.kind, device.name, device.memory_total, place, knobs
