"""The sentence that an experiment ends in: its point in figures, beside the lecture's where it has some. Pure.

Every figure comes from the plan's runs, its rows' forecasts, or the lecture's tables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine.compare import closing_answers
from engine.compare.compare import compare
from engine.compare.rows import Quantity, Row, Verdict, fold
from engine.contract.config import KNOBS
from engine.contract.figures import ACCURACY, LOSS, MEMORY, label_of
from engine.contract.knob import shown
from engine.contract.marks import why_no_verdict
from engine.contract.numbers import n_of, number, signed
from engine.contract.records import Outcome, RunRecord
from engine.contract.text import enumerated, one_line
from engine.gpus.units import to_mib
from engine.plans.lecture import TABLES, LectureRow, rows_of
from engine.plans.named import STACK_OF_2023
from engine.plans.types import Plan, PlannedRun


def closing(plan: Plan, records: Sequence[RunRecord]) -> str | None:
    """What came of an experiment, in one sentence; None for another plan."""
    if plan.name in closing_answers.SENTENCES:
        return closing_answers.SENTENCES[plan.name](plan, records) or _NOTHING
    tell = _SENTENCES.get(plan.name)
    if tell is None:
        return None
    sides = [_Side(run, fold(own)[0] if own else None) for run, own in rows_of(plan, records)]
    return tell(sides) or _NOTHING


_NOTHING = "No comparison: a run that it needs did not come to its end."


@dataclass(frozen=True, slots=True)
class _Side:
    """A row of the plan: what was run of it, and what was forecast."""

    run: PlannedRun
    row: Row | None

    @property
    def completed(self) -> bool:
        return self.row is not None and self.row.first.outcome is Outcome.COMPLETED

    @property
    def is_forecast(self) -> bool:
        """Whether its forecast stands for the run."""
        return self.run.by_forecast and self.run.foretold is not None

    @property
    def did_not_fit(self) -> bool:
        if self.row is not None:
            return self.row.first.outcome is Outcome.OUT_OF_MEMORY
        return self.is_forecast and not (self.run.foretold and self.run.foretold.fits)

    @property
    def memory(self) -> int | None:
        """Bytes: measured, else forecast."""
        if self.row is not None:
            return self.row.peak_used
        return self.run.foretold.peak_used if self.run.foretold is not None else None

    @property
    def card_speed(self) -> float | None:
        """Samples/s of the card by forecast, where the run was not on the card itself."""
        if self.row is not None:
            return self.row.card_speed.value if self.row.card_speed is not None else None
        return self.run.foretold.samples_per_s if self.run.foretold is not None else None

    @property
    def card(self) -> str:
        """The name of the card that `card_speed` is of."""
        if self.row is not None and self.row.first.device is not None:
            return one_line(self.row.first.device.name)
        return one_line(self.run.foretold.gpu) if self.run.foretold is not None else "card"

    @property
    def updates(self) -> int | None:
        return self.row.first.updates if self.row is not None else None


def _checkpointing(sides: list[_Side]) -> str | None:
    off, on = (_at(sides, batch_size=8, gradient_checkpointing=switch) for switch in ("off", "on"))
    if off is None or on is None or not (off.completed and on.completed):
        return None
    there = _lecture("checkpointing", batch_size=8, gradient_checkpointing="off")
    with_it = _lecture("checkpointing", batch_size=8, gradient_checkpointing="on")
    saw = f"{_percent(there.memory_mib, with_it.memory_mib)}, {_percent(there.time_s, with_it.time_s)}"
    return f"checkpointing: {_cost(off, on)}; the lecture saw {saw}"


def _batch_size(sides: list[_Side]) -> str | None:
    done = sorted((side for side in sides if side.completed), key=lambda side: side.run.config.batch_size)
    if len(done) < 2:
        return None
    first, last = done[0], done[-1]
    failed = [side.run.config.batch_size for side in sides if side.did_not_fit]
    parts = [_faster(first, last), _memory(first, last), *([f"{min(failed)} is out of memory"] if failed else [])]
    one, eight = (_lecture("batch-size", batch_size=size) for size in (1, 8))
    saw = f"{_percent(one.samples_per_s, eight.samples_per_s)}, {_percent(one.memory_mib, eight.memory_mib)}"
    sizes = f"{first.run.config.batch_size} → {last.run.config.batch_size}"
    return f"batch size {sizes}: {enumerated(parts)}; the lecture, 1 → 8, saw {saw}, and 9 was out of memory"


def _accumulation(sides: list[_Side]) -> str | None:
    ends = _ends(sides)
    if ends is None:
        return None
    first, last = ends
    there, more = _lecture_ends("accumulation", last)
    saw = [
        f"loss {LOSS.write(there.train_loss)} → {LOSS.write(more.train_loss)}",
        f"{_percent(there.memory_mib, more.memory_mib)} memory",
        f"{_percent(there.time_s, more.time_s)} time",
    ]
    at = "" if _steps(last.run) == _steps_of(more) else f", 1 → {_steps_of(more)},"
    return f"{_turned(first, last)}, {_learnt(first, last)}, {_cost(first, last)}; the lecture{at} saw {', '.join(saw)}"


def _accuracy(sides: list[_Side]) -> str | None:
    ends = _ends(sides)
    if ends is None:
        return None
    first, last = ends
    there, more = _lecture_ends("accuracy", last)
    at = "" if _steps(last.run) == _steps_of(more) else f", 1 → {_steps_of(more)},"
    saw = f"{ACCURACY.write(there.eval_accuracy)} → {ACCURACY.write(more.eval_accuracy)}"
    return f"{_turned(first, last)}, {_learnt(first, last)}, {_time(first, last)}; the lecture{at} saw {saw}"


def _precision(sides: list[_Side]) -> str | None:
    full = _at(sides, precision="fp32")
    halves = [_at(sides, precision=name) for name in ("bf16", "fp16")]
    half = next((side for side in halves if side is not None and (side.completed or side.is_forecast)), None)
    if full is None or half is None or not full.completed:
        return None
    emulated = f" ({half.run.skip})" if half.is_forecast else ""
    return f"{half.run.config.precision} for fp32: {_cost(full, half)}{emulated}; {_NO_NUMBERS}"


def _preloading(sides: list[_Side]) -> str | None:
    none = next((side for side in sides if not side.run.config.dataloader_num_workers and side.completed), None)
    some = [side for side in sides if side.run.config.dataloader_num_workers and side.completed]
    if none is None or not some:
        return None
    best = max(some, key=lambda side: _rate(side, none))
    n = best.run.config.dataloader_num_workers
    workers = f"{n_of(n, 'worker')}{', the best of them,' if len(some) > 1 else ''}"
    return f"preloading: {_here(none, best, 'time', _more_time)} with {workers} against none; {_NO_NUMBERS}"


def _rate(side: _Side, other: _Side) -> float:
    both = _speeds(other, side)
    return both[1] if both is not None else 0.0


_NO_NUMBERS = "the lecture names it, without numbers"


def _bert_large(sides: list[_Side]) -> str | None:
    old = next((side for side in sides if side.run.stack == STACK_OF_2023 and side.run.foretold is not None), None)
    fits = [side for side in sides if side.completed or (side.is_forecast and not side.did_not_fit)]
    if old is None or old.run.foretold is None or not fits:
        return None
    told = old.run.foretold
    end = f"out of memory in {told.failing_phase} by forecast" if not told.fits else "it fits by forecast"
    need = f"{number(to_mib(told.peak_used))} of {number(to_mib(told.limit))} MiB"
    plain = [s for s in fits if s.run.config.batch_size == 1 and s.run.config.optimizer_implementation == "fused"]
    widest = max(fits, key=lambda side: (side.run.config.batch_size, -(side.memory or 0)))
    solved = [_fitting(side) for side in dict.fromkeys([*plain[:1], widest])]
    return (
        f"batch 1 under the lecture's PyTorch 2.0: {end} ({need}), as the lecture's run was in the optimizer; "
        f"today {enumerated(solved)}"
    )


def _fitting(side: _Side) -> str:
    by = " by forecast" if side.row is None else ""
    return f"{side.run.label} fits in {number(to_mib(side.memory))} MiB{by}"


def _gpus(sides: list[_Side]) -> str | None:
    """Each way to divide the work over the most GPUs that really ran, and the largest forecast."""
    alone = _at(sides, gpus=1)
    ran = [side.run.config.gpus or 0 for side in sides if side.completed and side.run.config.is_parallel]
    if alone is None or not alone.completed:
        return None
    told = [side.run.config.gpus or 0 for side in sides if side.is_forecast]
    n = max(ran) if ran else min(told, default=0)
    ways = [
        f"{side.run.config.parallel} {_memory(alone, side)}, {_faster(alone, side)}"
        for side in sides
        if side.run.config.gpus == n and (side.completed or (side.is_forecast and not side.did_not_fit))
    ]
    most = max((side for side in sides if side.is_forecast), key=lambda s: s.run.config.gpus or 0, default=None)
    fsdp = _at(sides, gpus=most.run.config.gpus, parallel="fsdp") if most is not None else None
    if fsdp is not None and fsdp.is_forecast and not fsdp.did_not_fit and fsdp.run.config.gpus != n:
        before, after = alone.card_speed, fsdp.card_speed
        speed = f", {after / before:.1f} × the samples/s of one" if before and after else ""
        ways.append(f"{fsdp.run.label} by forecast {number(to_mib(fsdp.memory))} MiB per GPU{speed}")
    return f"1 → {n} GPUs (memory of each): {'; '.join(ways)}; {_NO_NUMBERS}" if ways else None


_SENTENCES: dict[str, Callable[[list[_Side]], str | None]] = {
    "batch-size": _batch_size,
    "accumulation": _accumulation,
    "accuracy": _accuracy,
    "checkpointing": _checkpointing,
    "precision": _precision,
    "preloading": _preloading,
    "bert-large": _bert_large,
    "gpus": _gpus,
}

# the parts of sentences --------------------------------------------------------------------------------------------


def _at(sides: list[_Side], **knobs: object) -> _Side | None:
    return next((s for s in sides if all(getattr(s.run.config, name) == v for name, v in knobs.items())), None)


def _lecture(name: str, **knobs: object) -> LectureRow:
    return next(row for row in TABLES[name].rows if row.knobs == knobs)


def _steps(run: PlannedRun) -> int:
    return run.config.gradient_accumulation_steps


def _steps_of(row: LectureRow) -> int:
    steps = row.knobs["gradient_accumulation_steps"]
    assert isinstance(steps, int)
    return steps


def _ends(sides: list[_Side]) -> tuple[_Side, _Side] | None:
    """The rows with the fewest and the most micro-steps an update; None with fewer than two."""
    done = sorted((side for side in sides if side.completed), key=lambda side: _steps(side.run))
    return (done[0], done[-1]) if len(done) > 1 else None


def _lecture_ends(name: str, last: _Side) -> tuple[LectureRow, LectureRow]:
    """The lecture's first row, and the one with as much accumulation as `last` or the nearest below.

    Where a single update was left here, the lecture's first row of a single one.
    """
    rows, config = TABLES[name].rows, TABLES[name].config
    single = [row for row in rows if _steps_of(row) * config.batch_size >= config.n_samples]
    if last.updates == 1 and config.epochs == 1 and single:
        return rows[0], single[0]
    below = [row for row in rows[1:] if _steps_of(row) <= _steps(last.run)]
    return rows[0], below[-1] if below else rows[1]


def _turned(first: _Side, last: _Side) -> str:
    """`accumulation 1 → 32: 32 → 1 updates`."""
    knob = KNOBS["gradient_accumulation_steps"]
    steps = f"{shown(knob, _steps(first.run))} → {shown(knob, _steps(last.run))}"
    return f"{knob.label} {steps}: {number(first.updates)} → {number(last.updates)} updates"


def _learnt(first: _Side, last: _Side) -> str:
    """What was learned: the accuracy where it was scored, else the loss."""
    assert first.row is not None
    assert last.row is not None
    entry = LOSS if first.row.eval_accuracy is None or last.row.eval_accuracy is None else ACCURACY
    one, other = (side.train_loss if entry is LOSS else side.eval_accuracy for side in (first.row, last.row))
    return f"{entry.label} {entry.write(one and one.value)} → {entry.write(other and other.value)}"


def _cost(side: _Side, other: _Side) -> str:
    """`−49 % memory, +143 % time here, +38 % on the Tesla P4 by forecast`."""
    return f"{_memory(side, other)}, {_time(side, other)}"


def _memory(side: _Side, other: _Side) -> str:
    """More or less memory than `side`; a CPU's is the process's RAM, as it is called there."""
    records = [record for one in (side, other) if one.row is not None for record in one.row.records]
    label = label_of(MEMORY, records)
    label = "memory" if label == MEMORY.label else label
    return f"{_percent(side.memory, other.memory)} {label}{' by forecast' if other.is_forecast else ''}"


def _time(side: _Side, other: _Side) -> str:
    """More or less time for a sample, here and on the card by forecast."""
    return _here_and_there(side, other, "time", _more_time)


def _faster(side: _Side, other: _Side) -> str:
    """More or fewer samples/s, here and on the card by forecast."""
    return _here_and_there(side, other, "samples/s", lambda before, after: 100 * (after / before - 1))


def _more_time(before: float, after: float) -> float:
    """Percent more time for a sample, from two speeds."""
    return 100 * (before / after - 1)


def _here_and_there(side: _Side, other: _Side, what: str, change: Callable[[float, float], float]) -> str:
    here, before, after = _here(side, other, what, change), side.card_speed, other.card_speed
    if not before or not after:
        return here or f"{what} unknown"
    there = f"{signed(change(before, after))} %{'' if here else f' {what}'} on the {other.card} by forecast"
    return ", ".join(filter(None, (here, there)))


def _here(side: _Side, other: _Side, what: str, change: Callable[[float, float], float]) -> str:
    """What was measured; empty where one of the two was not run."""
    both = _speeds(side, other)
    if both is None or side.row is None or other.row is None:
        return ""
    if compare(other.row, side.row).deltas[Quantity.SPEED].verdict is Verdict.SAME:
        return f"{what} within noise here"
    disturbed = why_no_verdict((*side.row.records, *other.row.records))
    return f"{signed(change(*both))} % {what} here{f' ({disturbed})' if disturbed else ''}"


def _speeds(side: _Side, other: _Side) -> tuple[float, float] | None:
    """Samples/s of both: after warm-up where both know them, else of the whole training; None where one was not run."""
    if side.row is None or other.row is None:
        return None
    steady = side.row.steady is not None and other.row.steady is not None
    one, two = (row.steady if steady else row.samples_per_s for row in (side.row, other.row))
    return (one.value, two.value) if one is not None and two is not None and one.value and two.value else None


def _percent(before: float | None, after: float | None) -> str:
    return f"{signed(100 * (after / before - 1) if before and after is not None else None)} %"
