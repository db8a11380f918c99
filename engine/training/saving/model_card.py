"""The README.md in a model's folder: what it is, what it learned from, with which knobs, and how well. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.contract.config import KEEPING, KNOBS
from engine.contract.knob import typed
from engine.contract.own_data import data_name
from engine.contract.presets import model_name
from engine.contract.records import RunRecord
from engine.contract.text import one_line

_PIPELINES = {
    "classification": "text-classification",
    "causal-lm": "text-generation",
    "masked-lm": "fill-mask",
    "token-classification": "token-classification",
    "question-answering": "question-answering",
}
"""By task; seq2seq has none in transformers 5."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a card is made of."""

    record: RunRecord
    """The run as far as it was."""
    kind: str
    """`best`, `last`: of the run's evaluations, of its updates."""
    label_names: tuple[str, ...]
    notes: tuple[str, ...]
    """Sentences on data and model, as the transcript has them."""
    origin: str
    """Whose weights were trained: a name on the hub, a folder, or empty where they began as random numbers."""
    base: str
    """Where an adapter's base is loaded from; empty where the folder holds a whole model."""
    versions: Mapping[str, str]


def card(facts: Facts) -> str:
    """The text of a README.md, with the metadata that the hub reads at its head."""
    record, config = facts.record, facts.record.config
    what = "LoRA adapter" if facts.base else "Model"
    parts = [
        _metadata(facts),
        f"# {one_line(model_name(config.model))}, trained on {data_name(config)}",
        f"{what} of run {record.run_id} of traintop, after update {record.updates}"
        f"{'' if record.planned_updates is None else f' of {record.planned_updates}'} ({facts.kind}).",
        _table("Figures", _figures(record)),
        _list("Labels", [f"{index}: {one_line(name)}" for index, name in enumerate(facts.label_names)]),
        _list("Data and weights", [one_line(note) for note in facts.notes]),
        _table("Knobs", [(name, one_line(typed(getattr(config, name)))) for name in KNOBS if name not in KEEPING]),
        _table("Versions", sorted(facts.versions.items())),
        _use(facts),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _metadata(facts: Facts) -> str:
    config = facts.record.config
    said = {
        "library_name": "peft" if facts.base else "transformers",
        "base_model": None if facts.origin.startswith(("/", "~", ".")) else facts.origin or None,
        "pipeline_tag": _PIPELINES.get(config.task),
        "tags": ["traintop", *(["lora"] if facts.base else [])],
    }
    # JSON is YAML
    lines = [f"{name}: {json.dumps(value)}" for name, value in said.items() if value is not None]
    return "\n".join(("---", *lines, "---"))


def _figures(record: RunRecord) -> list[tuple[str, str]]:
    values = {
        "training loss, mean": record.train_loss,
        "training loss, last update": record.last_loss,
        "held-out loss": record.eval_loss,
        "held-out accuracy": record.eval_accuracy,
        "held-out macro-F1": record.eval_macro_f1,
        "held-out samples": record.n_eval,
        "largest class of them": record.eval_majority,
        "training samples": record.n_train,
        "parameters": record.n_parameters,
    }
    rows = [
        (name, f"{value:,.4g}" if isinstance(value, float) else f"{value:,}")
        for name, value in values.items()
        if value is not None
    ]
    device = record.device
    return [*rows, *([("device", one_line(f"{device.name} ({device.kind})"))] if device is not None else [])]


def _use(facts: Facts) -> str:
    config = facts.record.config
    lines = ["## Use"]
    pipeline = _PIPELINES.get(config.task)
    if facts.base:
        lines += [
            "",
            f"An adapter: its base is loaded from `{one_line(facts.base)}`, as `adapter_config.json` names it.",
        ]
    if pipeline:
        lines += [
            "",
            "```python",
            f'from transformers import pipeline\n\nrun = pipeline("{pipeline}", model="THIS FOLDER")',
            "```",
        ]
    if config.task == "classification":
        lines += [
            "",
            f"Texts were cut at {config.seq_len} tokens, as `traintop predict --model THIS_FOLDER --data FILE` does.",
        ]
    return "\n".join(lines)


def _table(title: str, rows: Sequence[tuple[str, str]]) -> str:
    if not rows:
        return ""
    escaped = ((name, value.replace("|", "\\|")) for name, value in rows)
    return "\n".join((f"## {title}", "", "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in escaped)))


def _list(title: str, items: Sequence[str]) -> str:
    return "\n".join((f"## {title}", "", *(f"- {item}" for item in items))) if items else ""
