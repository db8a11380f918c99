"""The lecture's tables as data, to set this machine's beside them. Standard library only.

Source: ECE 459, lecture 24 "Large Language Models" (University of Waterloo, winter 2023). One Tesla P4 (7,611 MiB,
driver 470.199.02, CUDA 11.4), PyTorch 2.0, transformers 4.33 and its Trainer: AdamW with foreach, learning rate 5e-5
with linear decay, clipping at 1.0, fp32, eager attention. Memory is what NVML says of the whole device after training.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from engine.contract.config import RunConfig, Value
from engine.contract.records import Outcome, RunRecord
from engine.plans.search import config_of_try
from engine.plans.types import Plan, PlannedRun, label_of

SOURCE = 'ECE 459 Lecture 24 "Large Language Models", University of Waterloo, Winter 2023; Tesla P4'
MEMORY_MIB = 7611
"""The Tesla P4's, as NVML reports it; the tables' percentages are of this."""

CONFIG = RunConfig(
    model="bert-base-uncased",
    workload="dummy",
    batch_size=8,
    optimizer_implementation="foreach",
    attention="eager",
    padding="max_length",
    seq_len=512,
    samples=512,
)
"""What the lecture's tables hold fixed: 512 samples of 512 random tokens, batch 8 unless the table says otherwise."""

REVIEWS = CONFIG.with_values(workload="reviews", samples=1000, eval_samples=1000, epochs=3)
"""Its Yelp reviews: 1,000 to train on, 1,000 held out, padded to 512 tokens. Three epochs by time × samples/s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LectureRow:
    """One row as printed; None where the lecture has no number."""

    knobs: dict[str, Value]
    """What tells it from the table's other rows."""
    time_s: float | None = None
    samples_per_s: float | None = None
    memory_mib: int | None = None
    train_loss: float | None = None
    eval_accuracy: float | None = None
    outcome: Outcome = Outcome.COMPLETED


@dataclass(frozen=True, slots=True, kw_only=True)
class LectureTable:
    """One table of the lecture."""

    heading: str
    config: RunConfig
    rows: tuple[LectureRow, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """A row of the lecture and the plan's with the same knobs, with its runs; one of the two may be missing."""

    knobs: dict[str, Value]
    lecture: LectureRow | None
    records: list[RunRecord] = field(default_factory=list)
    run: PlannedRun | None = None


def _batch(size: int, time_s: float, samples_per_s: float, memory_mib: int) -> LectureRow:
    return LectureRow(knobs={"batch_size": size}, time_s=time_s, samples_per_s=samples_per_s, memory_mib=memory_mib)


def _steps(steps: int, time_s: float, samples_per_s: float, memory_mib: int, **learnt: Any) -> LectureRow:
    knobs: dict[str, Value] = {"gradient_accumulation_steps": steps}
    return LectureRow(knobs=knobs, time_s=time_s, samples_per_s=samples_per_s, memory_mib=memory_mib, **learnt)


def _checkpointing(size: int, switch: str, time_s: float, memory_mib: int) -> LectureRow:
    knobs: dict[str, Value] = {"batch_size": size, "gradient_checkpointing": switch}
    return LectureRow(knobs=knobs, time_s=time_s, memory_mib=memory_mib)


def _large(switch: str) -> LectureRow:
    knobs: dict[str, Value] = {
        "batch_size": 1,
        "gradient_checkpointing": switch,
        "optimizer": "adamw",
        "optimizer_implementation": "foreach",
        "optimizer_in_backward": False,
        "lora_rank": 0,
    }
    return LectureRow(knobs=knobs, outcome=Outcome.OUT_OF_MEMORY)


TABLES: dict[str, LectureTable] = {
    "batch-size": LectureTable(
        heading="Batch size",
        config=CONFIG,
        rows=(
            _batch(1, 109.62, 4.67, 3281),
            _batch(2, 85.82, 5.97, 3391),
            _batch(4, 72.18, 7.09, 4613),
            _batch(8, 66.70, 7.68, 7069),
            LectureRow(knobs={"batch_size": 9}, outcome=Outcome.OUT_OF_MEMORY),
        ),
    ),
    "accumulation": LectureTable(
        heading="Gradient accumulation",
        config=CONFIG,
        rows=(
            _steps(1, 66.06, 7.75, 7069, train_loss=0.029),
            _steps(2, 63.96, 8.01, 7509, train_loss=0.070),
            _steps(4, 62.81, 8.15, 7509, train_loss=0.163),
            _steps(8, 62.65, 8.17, 7509, train_loss=0.169),
            _steps(16, 62.42, 8.20, 7509, train_loss=0.447),
            _steps(32, 62.44, 8.20, 7509, train_loss=0.445),
            _steps(128, 62.20, 8.23, 6637, train_loss=0.435),
            _steps(1024, 61.78, 8.29, 6637, train_loss=0.463),
            _steps(4096, 62.16, 8.24, 6637, train_loss=0.014),
        ),
    ),
    "accuracy": LectureTable(
        heading="Validation accuracy",
        config=REVIEWS,
        rows=(
            _steps(1, 538.37, 5.56, 7069, eval_accuracy=0.621),
            _steps(8, 501.89, 5.98, 7509, eval_accuracy=0.554),
            _steps(32, 429.70, 6.98, 7509, eval_accuracy=0.347),
            _steps(1024, 513.17, 5.85, 7509, eval_accuracy=0.222),
        ),
    ),
    "checkpointing": LectureTable(
        heading="Gradient checkpointing",
        config=CONFIG,
        rows=(
            _checkpointing(8, "off", 66.70, 7069),
            _checkpointing(8, "on", 93.07, 3619),
            _checkpointing(16, "on", 100.55, 3731),
        ),
    ),
    "bert-large": LectureTable(
        heading="BERT-large",
        config=CONFIG.with_values(model="bert-large-uncased", batch_size=1),
        rows=(
            _large("off"),
            _large("on"),
        ),
    ),
}
"""By the name of the plan that repeats it."""


def beside(plan: Plan, records: Iterable[RunRecord]) -> list[Pair]:
    """The rows of an experiment, each with its runs and the lecture's row of the same knobs, and what only that has.

    In the order of the knob where the lecture's table turns one, else the lecture's other rows come last. A row of the
    lecture stands beside the first of the plan's that has its knobs. Empty for a plan without a table there.
    """
    table = TABLES.get(plan.name)
    if table is None:
        return []
    left, pairs = list(table.rows), []
    names = tuple(left[0].knobs)
    for run, own in rows_of(plan, records):
        knobs: dict[str, Value] = {name: getattr(run.config, name) for name in names}
        lecture = next((row for row in left if row.knobs == knobs and not _is_unknown(run)), None)
        if lecture is not None:
            left.remove(lecture)
        pairs.append(Pair(knobs, lecture, own, run))
    pairs += [Pair(row.knobs, row) for row in left]
    if len(names) == 1:
        pairs.sort(key=lambda pair: pair.knobs[names[0]])  # type: ignore[arg-type, return-value]
    return pairs


def _is_unknown(run: PlannedRun) -> bool:
    """Whether its configuration cannot be, so that the default one stands for it."""
    return run.skip is not None and run.config == RunConfig()


def rows_of(plan: Plan, records: Iterable[RunRecord]) -> list[tuple[PlannedRun, list[RunRecord]]]:
    """Every row of a plan with its runs, repeats included; of a search the values that were tried, the least first."""
    known, rows = list(records), []
    for run in plan.runs:
        if run.repeat > 1:
            continue
        if run.search:
            tried = {getattr(r.config, run.search): r for r in known if _is_try(r.config, run)}
            rows += [
                (replace(run, config=r.config, label=label_of({run.search: value}), search=""), [r])
                for value, r in sorted(tried.items())
            ]
        else:
            own = [] if run.skip else [r for r in known if run.config.with_values(seed=r.config.seed) == r.config]
            rows.append((run, own))
    return rows


def _is_try(config: RunConfig, run: PlannedRun) -> bool:
    """Whether a run was a try of a search."""
    return config == config_of_try(run.config, run.search, getattr(config, run.search) or 1)


_COST = ("model", "seq_len", "batch_size", "precision", "attention", "padding", "workload", "task")


def same_memory(config: RunConfig, table: LectureTable) -> bool:
    """Whether a run's memory may be held against the table's: model, sequences and precision are the same."""
    names = [name for name in _COST if name not in table.rows[0].knobs]
    return all(getattr(config, name) == getattr(table.config, name) for name in names)
