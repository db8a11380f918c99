"""Events and records as the JSON that other programs rely on."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from engine.contract import estimate
from engine.contract.answer_entries import PER_TOKEN
from engine.contract.answers import AnswerFigures, AnswerShares
from engine.contract.cards import Card, CardProcess, Cards
from engine.contract.conditions import Conditions
from engine.contract.config import RunConfig
from engine.contract.confusion import class_scores
from engine.contract.events import Event, PlanFinished, PlanProgress, PlanStarted, RunFinished
from engine.contract.figures import PARALLEL, RECORDED, gpus_of
from engine.contract.records import Memory, RunRecord
from engine.gpus.units import to_mib

_BYTES = {f.name for f in fields(Memory)} - {"by_category", "alloc_retries"} | {
    "process_memory",
    "limit",
    "peak_memory",
    "memory_used",
    "memory_reserved",
    "memory_total",
    "kv_cache",
    "kv_per_token",
    "held",
    "weights",
    "draft_weights",
}
_COUNTED = (PlanStarted, PlanProgress, PlanFinished)
"""Their `total` is a number of runs."""


def event_name(event: object) -> str:
    """`run_finished` for `RunFinished`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(event).__name__).lower()


def to_json(event: Event, scaling: float | None = None) -> dict[str, Any]:
    """An event as the JSON object that `run --json` prints: sizes in MiB under names ending in `_mib`.

    `scaling` is that of a run which finished: it takes other runs to know it, see `engine.compare.scaling`.
    """
    if isinstance(event, RunFinished):
        return {"event": "run_finished", **record_to_json(event.record, scaling)}
    return {"event": event_name(event), **_plain(event)}


def record_to_json(record: RunRecord, scaling: float | None = None) -> dict[str, Any]:
    """The fields of a finished run that other programs rely on, null where unknown. `scaling` as `to_json` has it."""
    return {
        "run_id": record.run_id,
        "job": record.config.job,
        "outcome": record.outcome.value,
        "config": _config(record.config),
        "device": record.device.name if record.device else None,
        "device_kind": record.device.kind if record.device else None,
        "gpu_uuid": record.device.uuid if record.device else None,
        "host": record.host,
        "started_at": record.started_at,
        **{entry.name: entry.read(record) for entry in RECORDED},
        **answer_to_json(record),
        **script_to_json(record),
        "gpus": gpus_of(record),
        "parallel": PARALLEL.read(record),
        "peak_used_mib_by_gpu": [to_mib(used) for used in record.peak_used_by_rank] or None,
        "wait_share": record.wait_share,
        "scaling": scaling,
        "classes": _classes(record),
        "confusion": _plain(record.eval_confusion),
        "energy_source": record.energy_source,
        "contended": _contended(record.conditions),
        "throttled": _throttled(record.conditions),
        "resumed_from": record.resumed_from,
        "resumed_at": record.resumed_at,
        "failed_rank": record.failed_rank,
        "failed_phase": record.failed_phase.value if record.failed_phase else None,
        "message": record.message,
    }


LATENCIES = ("ttft", "tpot", "itl", "e2e")
"""Of answers, each with its percentiles; in JSON they end in `_s`."""
_OWN = ("shares", *LATENCIES)


def answer_to_json(record: RunRecord) -> dict[str, Any]:
    """The fields that runs which answer have beside the others', null for one that trains."""
    answer = record.answer
    plain: dict[str, Any] = {}
    for name in LATENCIES:
        plain[f"{name}_s"] = _plain(getattr(answer, name, None))
    for f in fields(AnswerFigures):
        value = getattr(answer, f.name, None)
        if f.name in _BYTES:
            plain[f"{f.name}_mib"] = to_mib(value)
        elif f.name not in _OWN:
            plain["answered" if f.name == "n_requests" else f.name] = value
    for f in fields(AnswerShares):
        plain[f"{f.name}_s"] = getattr(answer.shares, f.name) if answer is not None and answer.shares else None
    return {**plain, PER_TOKEN.name: PER_TOKEN.read(record)}


def script_to_json(record: RunRecord) -> dict[str, Any]:
    """The fields that a run of the user's own script has beside the others', null for one that is none."""
    script, command, expected = record.script, record.config.script, estimate.of_run(record)
    return {
        "own_knobs": command and command.own_values(record.config.command_values),
        "exit_code": script and script.exit_code,
        "log_path": script and script.log_path,
        "script_model": script and script.model,
        "script_optimizer": script and script.optimizer,
        "script_batch_size": script and script.batch_size,
        "script_held_mib": script and {name: to_mib(size) for name, size in script.held.items()},
        "script_figures": script and script.figures,
        "not_watched": script and script.switched_off,
        "estimate": expected and expected.to_json(),
    }


def _config(config: RunConfig) -> dict[str, Any]:
    """Its knobs by name; of a script's run null where the command does not carry them."""
    return {
        name: value if config.says(name) or not config.is_script else None for name, value in config.to_dict().items()
    }


def _classes(record: RunRecord) -> list[dict[str, Any]] | None:
    """What became of every class of the held-out samples in the last evaluation; null: unknown."""
    if record.eval_confusion is None:
        return None
    names = record.label_names or ()
    return [
        {
            "name": names[score.index] if score.index < len(names) else str(score.index),
            "precision": score.precision,
            "recall": score.recall,
            "f1": score.f1,
            "support": score.support,
        }
        for score in class_scores(record.eval_confusion)
    ]


def _contended(met: Conditions | None) -> list[dict[str, Any]] | None:
    """Other processes on the card during the run; empty: it had the card to itself; null: unknown."""
    if met is None or met.neighbours is None:
        return None
    return [_plain(each) for each in met.neighbours]


def _throttled(met: Conditions | None) -> list[dict[str, Any]] | None:
    """Why the card slowed itself down, and for which share of the training; empty: it did not; null: unknown."""
    if met is None or met.slowdowns is None:
        return None
    return [_plain(each) for each in met.throttled]


def cards_to_json(cards: Cards) -> list[dict[str, Any]]:
    """The objects that `top --json` prints, one a card, with its processes; null where unknown."""
    return [{"at": cards.at, **_card(card, cards.at)} for card in cards.cards]


def _card(card: Card, at: float) -> dict[str, Any]:
    plain = {"gpu": card.index, **_plain(card)}
    del plain["index"]
    plain["energy_j"] = plain.pop("energy")
    plain["slices"] = [_plain(part) for part in card.slices]
    known = card.processes is not None
    plain["processes"] = [_process(each, at) for each in card.processes or ()] if known else None
    return plain


def _process(process: CardProcess, at: float) -> dict[str, Any]:
    age_s = None if process.started_at is None else max(0.0, at - process.started_at)
    return {**_plain(process), "age_s": age_s}


def _plain(value: Any) -> Any:
    if isinstance(value, RunConfig):
        return _config(value)
    if isinstance(value, tuple):
        return [_plain(inner) for inner in value]
    if not is_dataclass(value):
        return value.value if isinstance(value, Enum) else value
    plain: dict[str, Any] = {}
    for f in fields(value):
        inner = getattr(value, f.name)
        if f.name in _BYTES and not is_dataclass(inner) and not isinstance(value, _COUNTED):
            plain[f"{f.name}_mib"] = to_mib(inner)
        elif f.name == "by_category":
            plain["by_category_mib"] = inner and {name: to_mib(size) for name, size in inner.items()}
        else:
            plain[f.name] = _plain(inner)
    return plain
