"""Runs as CSV that reads back to the same values: a line per run, a column per knob and figure."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import get_args, get_type_hints

from engine.compare.compare import Delta, Quantity, compare, row_of
from engine.compare.scaling import Scaling, nothing_known
from engine.contract.answer_entries import PER_TOKEN
from engine.contract.answers import AnswerFigures, Percentiles
from engine.contract.as_json import LATENCIES, record_to_json
from engine.contract.config import KNOBS, RunConfig, Value
from engine.contract.figures import ENERGY, PER_SAMPLE
from engine.contract.knob import TRAIN
from engine.contract.marks import in_words, slowed
from engine.contract.numbers import UNKNOWN
from engine.contract.records import Outcome, RunRecord
from engine.contract.script_figures import HELD, ScriptFigures
from engine.contract.script_flags import own_names, told
from engine.contract.text import harmless
from engine.export.table import base_of
from engine.gpus.units import to_mib

_FORMULA = re.compile("'*[=+\\-@\t\n＝＋－＠]")
"""How a text begins that a spreadsheet would compute, quoted by any number of apostrophes or none."""

_DELTAS = {
    Quantity.MEMORY: "peak_used",
    Quantity.SPEED: "samples_per_s",
    Quantity.CARD_SPEED: "forecast_samples_per_s",
    Quantity.TIME: "time",
    Quantity.ENERGY: "energy_j_per_sample",
    Quantity.LOSS: "train_loss",
    Quantity.ACCURACY: "eval_accuracy",
    Quantity.GENERATION: "generation_tokens_per_s",
    Quantity.PROMPT: "prompt_tokens_per_s",
    Quantity.TTFT: "ttft",
    Quantity.TPOT: "tpot",
    Quantity.TOKEN_ENERGY: "energy_j_per_token",
    Quantity.AGREEMENT: "agreement",
}


def to_csv(
    records: Sequence[RunRecord],
    baselines: Sequence[RunRecord] = (),
    scaling: Scaling = nothing_known,
) -> str:
    """A header and a line per run: the names of `run_finished`, its `device` as `device_name`, and every knob.

    Unknown is empty. With baselines, one for a job: differences (`delta_…`, in percent `delta_…_percent`) and verdicts.
    A text that a spreadsheet would take for a formula gets an apostrophe in front, which `read_csv` takes off; control
    characters but tab and newline become U+FFFD. `scaling` as `engine.compare.scaling` reckons it; memory by GPU is in
    one cell.
    """
    own = own_names(*(record.config for record in records))
    rows = [
        _values(record, base_of(record.config.job, baselines), scaling(record)) | _own_values(record, own)
        for record in records
    ]
    names = list(rows[0] if rows else _values(_NOTHING, base_of(TRAIN, baselines), None))
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_cell(row[name]) for name in names] for row in rows)
    return out.getvalue()


def _own_values(record: RunRecord, names: Sequence[str]) -> dict[str, Value]:
    """The knobs that only scripts know, named as there; behind `own_` where a column is called so already."""
    taken = _values(_NOTHING, None, None)
    return {f"own_{name}" if name in taken else name: told(record.config, name) for name in names}


_NOTHING = RunRecord(run_id=0, config=RunConfig(), outcome=Outcome.RUNNING)
"""Has every column."""


NO = "no"
"""A run that had its card to itself, and one that was not slowed down."""
_CONDITIONS: dict[str, Callable[[RunRecord], str]] = {
    "contended": lambda r: in_words(r.conditions.neighbours) if r.conditions and r.conditions.neighbours else "",
    "throttled": lambda r: slowed(r.conditions.throttled) if r.conditions and r.conditions.throttled else "",
}
"""What is a list in JSON, in words."""


_LATENCIES = tuple(f"{name}_s" for name in LATENCIES)
_WHICH = tuple(f.name for f in fields(Percentiles))
"""Percentiles get a column each: `ttft_s_p50`."""
_LEFT_OUT = ("classes", "confusion", "gpus", "parallel", "own_knobs")
"""Of JSON: tables, which are too much for a cell, and what knobs say in columns of their own."""


def _values(record: RunRecord, baseline: RunRecord | None, scaling: float | None) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for name, value in record_to_json(record, scaling).items():
        if name == "config":
            values |= value
        elif name == "script_held_mib":
            values |= {f"script_{category}_mib": (value or {}).get(category) for category in HELD}
        elif name == "script_figures":
            values[name] = None if value is None else " ".join(f"{key}={number}" for key, number in value.items())
        elif name in _LEFT_OUT:
            continue
        elif name == "peak_used_mib_by_gpu":
            values[name] = (
                None if value is None else " ".join(UNKNOWN if mib is None else f"{mib:.1f}" for mib in value)
            )
        elif name in _LATENCIES:
            values |= {f"{name}_{which}": (value or {}).get(which) for which in _WHICH}
        elif name in _CONDITIONS:
            values[name] = None if value is None else _CONDITIONS[name](record) or NO
        else:
            values["device_name" if name == "device" else name] = value
    return values if baseline is None else values | _deltas(record, baseline)


def _deltas(record: RunRecord, baseline: RunRecord) -> dict[str, Value]:
    comparison = compare(row_of([record]), row_of([baseline]))
    values: dict[str, Value] = {"baseline_run_id": baseline.run_id, "delta_time_is_per_sample": comparison.per_sample}
    for quantity, name in _DELTAS.items():
        delta = comparison.deltas[quantity]
        values |= {_name(delta, name): _difference(delta), f"delta_{name}_percent": delta.percent}
        values[f"verdict_{name}"] = delta.verdict.value
    return values


_UNITS = {Quantity.MEMORY: "_mib", Quantity.TIME: "_s", Quantity.TTFT: "_s", Quantity.TPOT: "_s"}


def _name(delta: Delta, name: str) -> str:
    return f"delta_{name}{_UNITS.get(delta.quantity, '')}"


def _difference(delta: Delta) -> float | None:
    if delta.quantity in (Quantity.TTFT, Quantity.TPOT) and delta.difference is not None:
        return delta.difference / 1000  # tables have ms
    return to_mib(delta.difference) if delta.quantity is Quantity.MEMORY else delta.difference


def _cell(value: Value) -> Value:
    if not isinstance(value, str):
        return value
    text = harmless(value)
    return f"'{text}" if _FORMULA.match(text) else text


def read_csv(text: str) -> list[dict[str, Value]]:
    """What `to_csv` wrote: a dictionary per run, values in their types, None where a cell is empty.

    Columns that it does not know stay text. Raises `ValueError` naming line and column where a value cannot be read.
    """
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    try:
        header = next(reader, None)
        if header is None:
            raise ValueError("The CSV is empty: it needs a line of column names.")
        return [_read_row(header, cells, reader.line_num) for cells in reader if cells]
    except csv.Error as error:
        raise ValueError(f"Line {reader.line_num} is not CSV: {error}.") from None


def _read_row(header: list[str], cells: list[str], line: int) -> dict[str, Value]:
    if len(cells) != len(header):
        raise ValueError(f"Line {line} has {len(cells)} cells, but there are {len(header)} columns.")
    return {name: _read_cell(name, cell, line) for name, cell in zip(header, cells, strict=True)}


def _read_cell(name: str, cell: str, line: int) -> Value:
    if not cell:
        return None
    kind = _kind(name)
    if kind is str:
        return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
    try:
        if kind is bool:
            return {"True": True, "False": False}[cell]
        return int(cell) if kind is int else float(cell)
    except (KeyError, ValueError):
        raise ValueError(f"Line {line}, column {name}: {cell!r} is not {_ARTICLES[kind]}.") from None


_ARTICLES: dict[type, str] = {int: "a whole number", float: "a number", bool: "True or False"}


def _kind(name: str) -> type:
    """The type of a column's values, from the fields that they come from."""
    if name in KNOBS:
        return KNOBS[name].kind
    if name == "delta_time_is_per_sample":
        return bool
    if name.startswith("verdict_"):
        return str
    if name == "baseline_run_id":
        return int
    shares = ("delta_", "eval_accuracy_")
    if name.startswith((*shares, *_LATENCIES)) or name.endswith(("_mib", "_s")) or name in _FLOATS:
        return float
    kinds = get_args(_FIELDS.get(name, str)) or (_FIELDS.get(name, str),)
    return float if float in kinds else int if int in kinds else str


_FLOATS = (ENERGY.name, PER_SAMPLE.name, PER_TOKEN.name, "scaling")
_FIELDS = {
    **get_type_hints(AnswerFigures),
    "answered": int,
    **{name: kind for name, kind in get_type_hints(ScriptFigures).items() if name == "exit_code"},
    "script_batch_size": int,
    **get_type_hints(RunRecord),
}
