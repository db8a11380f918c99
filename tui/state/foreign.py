"""What comes in from elsewhere, made harmless where it enters the state: the history's rows, devices, notes.

A configuration stays what it is, because it may run again; whoever shows one cleans its texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from engine.contract.conditions import Conditions
from engine.contract.events import Neighbours
from engine.contract.job import BatchJob
from engine.contract.records import DeviceInfo, RankInfo, RunRecord
from engine.contract.script_figures import ScriptFigures
from tui.drawing.text import clean
from tui.state.result_rows import note_of

SENTENCE = 400
"""Columns of a sentence on how something ended."""
NAME = 80


def clean_record(record: RunRecord) -> RunRecord:
    """A run's row whose texts a terminal does not obey."""
    message = clean(record.message, SENTENCE) or None if record.message else None
    host = clean(record.host, NAME) or None if record.host else None
    device = clean_device(record.device) if record.device is not None else None
    met = _clean_conditions(record.conditions) if record.conditions is not None else None
    script = _clean_script(record.script) if record.script is not None else None
    cleaned = (message, host, device, met, script)
    if cleaned == (record.message, record.host, record.device, record.conditions, record.script):
        return record
    return replace(record, message=message, host=host, device=device, conditions=met, script=script)


def _clean_script(script: ScriptFigures) -> ScriptFigures:
    """What a script told of itself."""

    def cleaned(text: str | None) -> str | None:
        return None if text is None else clean(text, SENTENCE)

    return replace(
        script,
        log_path=cleaned(script.log_path),
        model=cleaned(script.model),
        optimizer=cleaned(script.optimizer),
        told_by=cleaned(script.told_by),
        switched_off=cleaned(script.switched_off),
        figures={clean(name, NAME): value for name, value in script.figures.items()},
    )


def _clean_conditions(met: Conditions) -> Conditions:
    if not met.neighbours and not met.slowdowns:
        return met
    neighbours = met.neighbours and tuple(
        replace(each, user=clean(each.user or "", NAME) or None, command=clean(each.command or "", SENTENCE) or None)
        for each in met.neighbours
    )
    slowdowns = met.slowdowns and tuple(replace(each, reason=clean(each.reason, NAME)) for each in met.slowdowns)
    return replace(met, neighbours=neighbours, slowdowns=slowdowns)


def clean_device(device: DeviceInfo) -> DeviceInfo:
    """A device whose names a terminal does not obey."""
    names = (device.name, device.kind, device.memory_label, device.uuid or "", device.software or "")
    if all(name.isascii() and name.isprintable() and len(name) <= NAME for name in names):
        return device
    name, kind, label, uuid, software = (clean(name, NAME) for name in names)
    return replace(device, name=name, kind=kind, memory_label=label, uuid=uuid or None, software=software or None)


def clean_rank(info: RankInfo) -> RankInfo:
    """A rank whose texts a terminal does not obey; the path of its log stays what it is, to be opened."""
    return replace(info, device=clean_device(info.device), host=clean(info.host, NAME))


def clean_job(job: BatchJob) -> BatchJob:
    """A job whose names, from the environment, a terminal does not obey."""
    node, partition = (clean(text, NAME) or None if text else None for text in (job.node, job.partition))
    return replace(job, job_id=clean(job.job_id, NAME), node=node, partition=partition)


def clean_neighbours(event: Neighbours) -> Neighbours:
    """Other people's processes, whose names a terminal does not obey."""
    processes = tuple(
        replace(each, user=clean(each.user or "", NAME) or None, command=clean(each.command or "", SENTENCE) or None)
        for each in event.processes
    )
    return replace(event, device=clean_device(event.device), processes=processes)


def clean_notes(notes: Mapping[int, str]) -> dict[int, str]:
    """People's notes, each one harmless line."""
    return {run_id: note for run_id, text in notes.items() if (note := note_of(text))}
