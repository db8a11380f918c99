"""Rows of the history's table of runs: to and from `RunRecord`, and whose it is."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import time
from dataclasses import dataclass, fields
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

from engine.contract import answers, conditions, confusion, script_figures
from engine.contract.config import KNOBS, ConfigError, Knob, RunConfig, coerce
from engine.contract.records import DeviceInfo, Outcome, Phase, RunRecord

HEARTBEAT_S = 60.0
"""A run of another host counts as dead when its row was not touched for this long."""

RECORD_COLUMNS = "run_id, outcome, started_at, host, config, device, figures"

_NESTED = ("conditions", "answer", "script", "eval_confusion", "label_names", "peak_used_by_rank")
_OWN_COLUMNS = ("run_id", "config", "outcome", "device", "started_at", "host")


def to_figures(record: RunRecord) -> str:
    """All of a record that has no column of its own, as JSON (which, unlike a column, keeps NaN)."""
    figures = {f.name: getattr(record, f.name) for f in fields(record) if f.name not in _OWN_COLUMNS}
    own = {
        "conditions": conditions.to_plain(record.conditions),
        "answer": answers.to_plain(record.answer),
        "script": script_figures.to_plain(record.script),
    }
    return json.dumps({**figures, **own})


def to_device(device: DeviceInfo | None) -> str | None:
    """A device as JSON."""
    return None if device is None else json.dumps({f.name: getattr(device, f.name) for f in fields(device)})


def to_config(config: RunConfig) -> str:
    """A configuration as JSON."""
    return json.dumps(config.to_dict())


def read_record(row: tuple[Any, ...]) -> RunRecord:
    """A record from `RECORD_COLUMNS`. What this version cannot read becomes unknown; nothing raises."""
    run_id, outcome_text, started_at, host, config, device, figures = row
    types = _figure_types()
    values = _object(figures)
    known = {name: value for name, value in values.items() if type(value) in types.get(name, ())}
    known["conditions"] = conditions.from_plain(values.get("conditions"))
    known["answer"] = answers.from_plain(values.get("answer"))
    known["script"] = script_figures.from_plain(values.get("script"))
    known["eval_confusion"] = confusion.from_plain(values.get("eval_confusion"))
    known["label_names"] = _texts(values.get("label_names"))
    known["peak_used_by_rank"] = _sizes(values.get("peak_used_by_rank"))
    if "failed_phase" in known:
        known["failed_phase"] = next((phase for phase in Phase if phase.value == known["failed_phase"]), None)
    outcome = next((outcome for outcome in Outcome if outcome.value == outcome_text), None)
    if outcome is None:
        known["message"] = f"Ended as {outcome_text!r}, which this version of traintop does not know."
    return RunRecord(
        run_id=run_id,
        config=read_config(config),
        outcome=outcome or Outcome.FAILED,
        device=_device(device),
        started_at=started_at if isinstance(started_at, float) else None,
        host=host if isinstance(host, str) and host else None,
        **known,
    )


@lru_cache(maxsize=4096)
def read_config(text: str) -> RunConfig:
    """A configuration that any version wrote. Frozen and shared between equal rows.

    Unknown knobs are ignored, missing ones have this version's defaults. A value that this version refuses is
    kept when its type is right, so that the table shows what ran; it is checked again before it can run.
    """
    values = _object(text)
    if values.get("lora_rank") and "lora_targets" not in values:
        values["lora_targets"] = "all-linear"  # what LoRA had before there was a choice
    config = object.__new__(RunConfig)  # not from_dict: checking every value of every row again takes most of the time
    for name, knob in KNOBS.items():
        default = getattr(_DEFAULT_CONFIG, name)
        value = values.get(name, default)
        if not _fits(knob, value):
            with contextlib.suppress(ConfigError, ArithmeticError):
                value = coerce(knob, value)  # another version's spelling
        object.__setattr__(config, name, value if _fits(knob, value) else default)
    return config


_DEFAULT_CONFIG = RunConfig()


def _fits(knob: Knob, value: object) -> bool:
    if knob.choices and isinstance(value, str) and not value.isprintable():
        return False  # a word that no version ever had
    return type(value) is knob.kind if value is not None else knob.optional


@lru_cache(maxsize=256)
def _device(text: str | None) -> DeviceInfo | None:
    values = {name: value for name, value in _object(text).items() if name in {f.name for f in fields(DeviceInfo)}}
    if not all(isinstance(values.get(name, ""), str) for name in ("name", "kind", "memory_label")):
        return None
    if not all(isinstance(values.get(name), (int, type(None))) for name in ("index", "memory_total", "gpu_index")):
        return None
    if not all(isinstance(values.get(name), (str, type(None))) for name in ("uuid", "software")):
        return None
    return DeviceInfo(**values) if {"name", "kind"} <= values.keys() else None


def _object(text: object) -> dict[str, Any]:
    try:
        value = json.loads(text) if isinstance(text, str) else None
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


@cache
def _figure_types() -> dict[str, tuple[type, ...]]:
    accepted = {}
    for name, hint in get_type_hints(RunRecord).items():
        if name not in (*_OWN_COLUMNS, *_NESTED):
            kinds = set(get_args(hint) or (hint,)) - {type(None)}
            accepted[name] = (int, float) if float in kinds else (str,) if Phase in kinds else tuple(kinds)
    return accepted


def _texts(value: Any) -> tuple[str, ...] | None:
    """A list of texts as the tuple that it was; None for anything else."""
    return tuple(value) if isinstance(value, list) and all(isinstance(text, str) for text in value) else None


def _sizes(value: Any) -> tuple[int | None, ...]:
    """A list of bytes as the tuple that it was; empty for anything else."""
    return tuple(value) if isinstance(value, list) and all(type(size) in (int, type(None)) for size in value) else ()


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that writes a run's row."""

    host: str
    machine: str
    """Same text: same process numbers. The boot and the process-number namespace (containers), else the host."""
    pid: int
    process_started: float
    """Unix time; tells a process from a later one with the same number."""

    def is_dead(self, heartbeat: float) -> bool:
        """Whether the process is gone. On another machine only the row's last sign of life can tell."""
        if self.machine != this_machine():
            return time.time() - heartbeat > HEARTBEAT_S
        import psutil  # 20 ms that listing runs need not pay

        try:
            process = psutil.Process(self.pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return True
            return abs(process.create_time() - self.process_started) > 2.0  # the clock's steps shift it a little
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            return True
        except psutil.AccessDenied:
            return False


@cache
def this_machine() -> str:
    """See `Owner.machine`."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except (OSError, UnicodeDecodeError):
        return platform.node()


def this_process() -> Owner:
    """The process that asks."""
    import psutil

    return Owner(platform.node(), this_machine(), os.getpid(), psutil.Process().create_time())
