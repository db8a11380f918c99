"""A run as the lecture's transcript: events in, lines out. Pure.

Memory is in MiB at four moments, then come the time, the speed and the Trainer's summary.
"""

from __future__ import annotations

import math

from engine.compare.scaling import Scaling, nothing_known
from engine.contract.accuracy import accuracy_sentence
from engine.contract.best import best_sentence
from engine.contract.config import RunConfig
from engine.contract.estimate import of_run
from engine.contract.events import (
    EngineReady,
    EvalDone,
    Event,
    FigureLogged,
    MemoryMoment,
    RanksStarted,
    RunFinished,
    RunProgress,
    RunStarted,
    Saved,
    ScriptKnown,
    TrainingStarted,
    UpdateDone,
)
from engine.contract.figures import CARD_SPEED, CARD_TIME, CPU, ENERGY, PER_SAMPLE, WAITING, gpus_of, is_virtual
from engine.contract.marks import sentences
from engine.contract.numbers import mib, n_of, number, percent
from engine.contract.records import DeviceInfo, Memory, Outcome, RunRecord
from engine.contract.script_entries import UPDATE_SPEED, is_score
from engine.contract.text import capitalised
from engine.export.hand_over import flags_of
from tui.console.answers import AnswerLines, ending, figures_of
from tui.drawing.class_table import class_table
from tui.drawing.text import clean

_MAX_EXPONENT = 700.0  # beyond it, a float overflows
CLASSES = 100
"""Columns of the table of classes."""
_CPUS = f" ({CPU})"
"""Behind what was measured on a virtual GPU."""
_MOMENTS = {"start": "at start", "context": "after the context", "model": "after the model"}


class Transcript:
    """The lines of one run after the other."""

    def __init__(self, scaling: Scaling = nothing_known) -> None:
        """`scaling` knows that of a run on several GPUs."""
        self._scaling = scaling
        self._ranks = ""
        self._is_script = False
        self._model: str | None = None
        """What a script trains, once it is known."""
        self._device: DeviceInfo | None = None
        self._at_end: MemoryMoment | None = None
        self._epoch: float | None = None
        self._answers = AnswerLines()

    def lines(self, event: Event) -> list[str]:
        """What an event adds to the transcript; most add nothing."""
        match event:
            case EngineReady():
                return [f"PyTorch {event.torch_version} on {_named(event.device)}, ready in {event.import_s:.1f} s"]
            case RunStarted():
                self._device, self._at_end, self._epoch, self._ranks = event.device, None, None, ""
                self._model, self._is_script = None, event.config.is_script
                return _opening(event)
            case RanksStarted():
                self._ranks = " of rank 0"
                return _ranks(event)
            case RunProgress():
                return [clean(event.detail)] if event.detail else []
            case MemoryMoment(moment="trained" | "answered" | "end"):
                self._at_end = event  # what it is called depends on how the run ends
                return []
            case MemoryMoment(memory=Memory(used=None)) if self._is_script:
                return []  # it has not told where it computes
            case MemoryMoment():
                return [self._memory(event, _MOMENTS.get(event.moment, event.moment))]
            case TrainingStarted():
                return [_training(event)]
            case ScriptKnown():
                return self._watched(event)
            case FigureLogged():
                return _logged(event)
            case UpdateDone():
                self._epoch = event.epoch
                return []
            case EvalDone():
                return [_evaluation(event)]
            case Saved(problem=None):
                return [clean(capitalised(event.words))]
            case RunFinished():
                return self._closing(event.record)
            case _:
                return self._answers.lines(event)

    def _watched(self, event: ScriptKnown) -> list[str]:
        """What it trains, when that is known first."""
        if self._model is not None or event.model is None:
            return []
        self._model = event.model
        size = f", {number(event.n_parameters)} parameters" if event.n_parameters is not None else ""
        by = f" with {clean(event.optimizer)}" if event.optimizer else ""
        updates = f": {number(event.planned_updates)} updates" if event.planned_updates is not None else ""
        return [f"It trains {clean(event.model)}{size}{by}{updates}"]

    def _memory(self, event: MemoryMoment, when: str) -> str:
        return f"{self._label}{self._ranks} {when}: {mib(event.memory.used)} MiB"

    @property
    def _label(self) -> str:
        return self._device.memory_label if self._device else "VRAM"

    def _closing(self, record: RunRecord) -> list[str]:
        completed = record.outcome is Outcome.COMPLETED
        lines = []
        if self._at_end and not (self._is_script and self._at_end.memory.used is None):
            job = "answering" if record.config.answers else "training"
            lines.append(self._memory(self._at_end, f"after {job}" if completed else "at the end"))
        if record.config.answers:
            lines += figures_of(record)
        elif record.config.is_script and record.samples_per_s is None:
            lines += _of_updates(record)
        elif record.train_runtime_s is not None and record.samples_per_s is not None:
            runtime = record.train_runtime_s
            whose = _CPUS if is_virtual([record]) else ""
            lines += [f"Time: {runtime:.2f}{whose}", f"Samples/second: {record.samples_per_s:.2f}{whose}"]
            if record.forecast_samples_per_s is not None:
                lines.append(
                    f"The card, by forecast: time {CARD_TIME.of(record)}, samples/second {CARD_SPEED.of(record)}"
                )
            summary = _summary(
                train_runtime=runtime,
                train_samples_per_second=record.samples_per_s,
                train_steps_per_second=record.updates / runtime if runtime else None,
                train_loss=record.train_loss,
                epoch=self._epoch,
            )
            lines.append(summary)
        lines += [sentence for sentence in (accuracy_sentence(record), best_sentence(record)) if sentence]
        if record.eval_confusion is not None:
            lines += class_table(record.eval_confusion, record.label_names or (), CLASSES)
        lines += self._peaks(record)
        if (expected := of_run(record)) is not None:
            lines.append(f"Peak reached: {expected.sentence}.")
        lines += self._together(record)
        if record.energy is not None and not record.config.answers:
            per_sample = f" ({PER_SAMPLE.of(record)} {PER_SAMPLE.unit})" if PER_SAMPLE.read(record) is not None else ""
            lines.append(f"Energy: {ENERGY.of(record)} {ENERGY.unit}{per_sample}")
        lines += [clean(sentence) for sentence in sentences(record)]
        if not completed:
            lines.append(ending(record) if record.config.answers else f"Run {record.run_id}: {record.outcome.words}")
        if record.message:
            lines.append(clean(record.message))
        return lines

    def _peaks(self, record: RunRecord) -> list[str]:
        """The three memories by name, those that are known on this device, and the share of the whole."""
        known = {"used": record.peak_used, "reserved": record.peak_reserved, "allocated": record.peak_allocated}
        parts = [f"{name} {mib(size)}" for name, size in known.items() if size is not None]
        if not parts:
            return []
        line = f"Peak {self._label} in MiB: {', '.join(parts)}"
        if record.memory_total and record.peak_used is not None:
            line += f" of {mib(record.memory_total)} ({percent(100 * record.peak_used / record.memory_total, 1)})"
        return [line]

    def _together(self, record: RunRecord) -> list[str]:
        """Of a run on several GPUs: the memory of each, what was waited, and how much of their speed it got."""
        lines = []
        if record.peak_used_by_rank:
            each = ", ".join(map(mib, record.peak_used_by_rank))
            whose = "rank" if record.device is not None and record.device.kind == "cpu" else "GPU"
            lines.append(f"Peak {self._label} used by {whose}, in MiB: {each}")
        if record.wait_share is not None:
            lines.append(f"Waiting for other GPUs: {WAITING.of(record)} of the time of an update")
        share = self._scaling(record)
        if share is not None:
            whose = _CPUS if is_virtual([record]) else ""
            alone = f"{number(gpus_of(record))} times the speed of one GPU"
            lines.append(f"Scaling: {percent(100 * share)} of {alone} at this batch size{whose}")
        return lines


def _of_updates(record: RunRecord) -> list[str]:
    """The time and the speed of a script whose samples were not seen."""
    if record.train_runtime_s is None or not record.updates:
        return []
    speed = f"Updates/second: {UPDATE_SPEED.of(record)}"
    return [
        f"Time: {record.train_runtime_s:.2f}",
        speed,
        _summary(train_runtime=record.train_runtime_s, train_loss=record.train_loss),
    ]


def _logged(event: FigureLogged) -> list[str]:
    """What a script's trainer logged of an evaluation."""
    scored = {name: value for name, value in event.figures.items() if is_score(name)}
    return [clean(f"Update {number(event.update)}: {_summary(**scored)}")] if scored else []


def _opening(event: RunStarted) -> list[str]:
    flags, config = flags_of(event.config), event.config
    if config.is_script:
        return [f"Run {event.run_id} on {_named(event.device)}", *([clean(f"Knobs: {flags}")] if flags else [])]
    together = f", {config.parallel}: {_effective(config)}" if config.is_parallel else ""
    return [
        f"Run {event.run_id} on {_several(event)}{together}",
        clean(f"Knobs: {flags}" if flags else "Knobs: all at their defaults"),
    ]


def _several(event: RunStarted) -> str:
    """The device, or how many of it: `2 × Tesla P4 (virtual, 7611 MiB VRAM each)`."""
    device, gpus = event.device, event.config.gpus
    if not event.config.is_parallel or not gpus:
        return _named(device)
    memory = f", {mib(device.memory_total)} MiB {device.memory_label} each" if device.memory_total is not None else ""
    return f"{gpus} × {clean(device.name)} ({device.kind}{memory})"


def _effective(config: RunConfig) -> str:
    """`16 samples an update (batch 8 × 2 GPUs)`."""
    steps = config.gradient_accumulation_steps
    parts = [f"batch {config.batch_size}", *([f"accumulation {steps}"] if steps > 1 else []), f"{config.gpus} GPUs"]
    return f"{n_of(config.effective_batch_size, 'sample')} an update ({' × '.join(parts)})"


def _ranks(event: RanksStarted) -> list[str]:
    """Which process each GPU has."""
    several = len({each.host for each in event.ranks}) > 1
    told = []
    for each in event.ranks:
        on = " of ".join(filter(None, (each.device.numbers, clean(each.host) if several else "")))
        told.append(f"rank {each.rank}{f' on {on}' if on else ''} is process {each.pid}")
    text = ", ".join(told)
    return [capitalised(text)] if text else []


def _named(device: DeviceInfo) -> str:
    memory = f", {mib(device.memory_total)} MiB {device.memory_label}" if device.memory_total is not None else ""
    return f"{clean(device.name)} ({device.numbers if device.is_of_several else device.kind}{memory})"


def _training(event: TrainingStarted) -> str:
    held_out = f", {number(event.n_eval)} held out" if event.n_eval else ""
    return (
        f"Training {number(event.n_parameters)} parameters on {n_of(event.n_train, 'sample')}{held_out}: "
        f"{n_of(event.planned_updates, 'update')}"
    )


def _evaluation(event: EvalDone) -> str:
    # without classes it was a language model, and those are compared by perplexity
    perplexity = math.exp(min(event.loss, _MAX_EXPONENT)) if event.accuracy is None else None
    return _summary(
        eval_loss=event.loss,
        eval_accuracy=event.accuracy,
        eval_macro_f1=event.macro_f1,
        eval_perplexity=perplexity,
        epoch=event.epoch,
    )


def _summary(**figures: float | None) -> str:
    """Figures as `transformers.Trainer` prints them: a dictionary, unknown ones left out."""
    return str({name: round(value, 4) for name, value in figures.items() if value is not None})
