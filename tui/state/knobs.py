"""The knobs of the next run: what a turn does, typing, refusals, undo. Pure: no Textual, no engine thread."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass

from engine.contract import knob as knob_text
from engine.contract.answering_knobs import DUMMY_PROMPTS
from engine.contract.by_job import for_job, goes_without_saying
from engine.contract.config import DEFAULT_SAMPLES, KNOBS, ConfigError, Knob, RunConfig, Value, coerce
from engine.contract.device_name import gpus_of_device
from engine.contract.numbers import n_of
from engine.contract.own_data import is_own_file
from engine.contract.own_models import own_name
from engine.contract.presets import PRESETS, model_name
from engine.contract.records import Outcome, RunRecord
from tui.drawing.text import clean
from tui.state.knob_list import ORDER, KnobList

UNDO_LIMIT = 200

_SHORT = {
    "every-second": "every 2nd",
    "classification": "classify",
    "token-classification": "classify token",
    "question-answering": "find answers",
    "max_length": "max length",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a value or a run was refused, and the knob at fault (empty when it is none)."""

    knob: str
    message: str


class KnobEditor:
    """The configuration of the next run, the list with its cursor, and the way back."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.list = KnobList()
        self.problem: Problem | None = None
        self._past: list[RunConfig] = []
        self._left: dict[str, RunConfig] = {}
        """By job, the knobs as they were when it was left for the other one."""
        self._taken: dict[str, str] = {}
        """By the name of a run's model that was taken, what that run trained further."""

    @property
    def selected(self) -> str:
        """The knob under the cursor; empty on the heading of a group."""
        return self.list.cursor.knob

    def move(self, delta: int) -> None:
        """Move the cursor; it stops at the ends."""
        self.list.move(delta, self.config.job)

    def select(self, name: str) -> None:
        """Put the cursor on a knob; its group opens."""
        self.list.select(name, self.config.job)

    def refuse(self, knob: str, message: str) -> None:
        """Show why a run was refused, with the cursor on the knob at fault."""
        if knob:
            self.select(knob)
        self.problem = Problem(knob, message)

    def step(self, name: str, direction: int, *, wrap: bool = False) -> bool:
        """Turn a knob to its next value (direction 1) or the one before (-1). False when nothing changed."""
        self.select(name)
        now = getattr(self.config, name)
        if name == "prompt_len" and now is None:
            now = self.config.known_prompt_len
        value = stepped(KNOBS[name], now, direction, wrap=wrap)
        if value is None:
            self.problem = Problem(name, _no_step(KNOBS[name], direction))
            return False
        return self.set_value(name, value)

    def type(self, name: str, text: str) -> bool:
        """Give a knob what a person typed. False, with `problem` set, when it is refused."""
        self.select(name)
        try:
            value = coerce(KNOBS[name], text)
        except ConfigError as error:
            self.problem = Problem(error.knob, clean(error.message, 400))
            return False
        return self.set_value(name, value)

    def set_value(self, name: str, value: Value) -> bool:
        """Give a knob a value. False, with `problem` set, when the configuration cannot run."""
        if name == "job":
            return self.take_job(str(value))
        try:
            config = self.config.with_values(**{name: value, **self._implied(name, value)})
        except ConfigError as error:
            self.problem = Problem(error.knob or name, clean(error.message, 400))
            return False
        self.problem = None
        self.replace(config)
        return True

    def take_job(self, job: str) -> bool:
        """Turn to a job: with the knobs that it was left with, on the device of now, or else as it begins.

        False, with `problem` set, where they cannot run.
        """
        now = self.config
        if job == now.job:
            return True
        try:
            before = self._left.get(job)
            config = for_job(now, job)
            if before is not None:
                config = before.with_values(device=now.device, vram_limit=now.vram_limit)
        except ConfigError as error:
            self.problem = Problem(error.knob or "job", clean(error.message, 400))
            return False
        self._left[now.job] = now
        self.problem = None
        self.replace(config)
        return True

    def take_trained(self, record: RunRecord) -> bool:
        """Where a job has just begun with the model that a run trained further: take it as that run left it.

        So too in place of what was taken of an earlier run, whose model that training has pushed out.
        """
        config, trained, name = self.config, record.config, own_name(record.run_id)
        if not config.answers or trained.answers or record.outcome is not Outcome.COMPLETED or config.model == name:
            return False
        if (self._taken.get(config.model, config.model), config.task) != (trained.model, trained.task):
            return False
        self._taken[name] = trained.model
        return self.set_value("model", name)

    def _implied(self, name: str, value: Value) -> dict[str, Value]:
        """Whoever turns to a file of their own trains on all of it, unless they have set a number; whoever names GPUs
        takes all of them.
        """
        before = self.config
        if name == "device":
            return {**gpus_of_device({"device": value})}
        if name in ("prompt", "prompts") and value not in (None, DUMMY_PROMPTS):
            return goes_without_saying({name: value})
        if name not in ("workload", "data") or before.samples != DEFAULT_SAMPLES:
            return {}
        workload = str(value) if name == "workload" else before.workload
        data = before.data if name == "workload" else None if value is None else str(value)
        came = is_own_file(workload, data) and not is_own_file(before.workload, before.data)
        return {"samples": None} if came else {}

    def replace(self, config: RunConfig) -> None:
        """Take a whole configuration; undo brings the one before back."""
        if config == self.config:
            return
        self._past = [*self._past, self.config][-UNDO_LIMIT:]
        self.config = config

    def load(self, config: RunConfig) -> None:
        """Take a whole configuration that a person chose, with the cursor on the first knob that it turns."""
        changed = changed_knobs(self.config, config)
        self.problem = None
        self.replace(config)
        if changed:
            self.select(changed[0])

    def follow(self, config: RunConfig) -> None:
        """Show the configuration of a run that somebody else started, with the cursor on what it changed."""
        changed = changed_knobs(self.config, config)
        self.config, self._past, self.problem = config, [], None
        if changed:
            self.select(changed[0])

    @property
    def can_undo(self) -> bool:
        """Whether there is a change to take back."""
        return bool(self._past)

    def undo(self) -> list[str]:
        """Take the last change back; the knobs that it had turned, none when there is nothing to take back."""
        if not self._past:
            return []
        before, self.config = self.config, self._past.pop()
        self.problem = None
        changed = changed_knobs(before, self.config)
        self.select(changed[0])
        return changed


def changed_knobs(one: RunConfig | None, other: RunConfig) -> list[str]:
    """Knobs in which two configurations differ, in the order of the list; none when there is no first one."""
    if one is None:
        return []
    return [name for name in ORDER[other.job] if getattr(one, name) != getattr(other, name)]


def turned(before: RunConfig, after: RunConfig, limit: int | None = None) -> str:
    """Every knob that differs, `batch size 8 → 16, checkpointing off → on`; beyond `limit` only how many more."""
    names = changed_knobs(before, after)
    told = [
        f"{KNOBS[name].label} {shown(KNOBS[name], getattr(before, name))} → {shown(KNOBS[name], getattr(after, name))}"
        for name in names[:limit]
    ]
    more = [f"{len(names) - len(told)} more"] if len(names) > len(told) else []
    return ", ".join([*told, *more])


def stepped(knob: Knob, value: Value, direction: int, *, wrap: bool = False) -> Value:
    """The value one step from `value`; None where there is none. A value between two steps goes to the nearer side."""
    choices: tuple[Value, ...] = choices_of(knob)
    if choices:
        if value not in choices:
            return choices[0] if direction > 0 else choices[-1]
        return choices[(choices.index(value) + direction) % len(choices)]
    if value is None and knob.kind is int and knob.steps:
        return knob.steps[0] if direction > 0 else knob.steps[-1]
    if not isinstance(value, (int, float)):
        return None
    steps = [step for step in knob.steps if isinstance(step, (int, float))]
    if not steps:
        return _bounded(knob, value + direction) if knob.kind is int else None
    index = bisect_right(steps, value) if direction > 0 else bisect_left(steps, value) - 1
    if 0 <= index < len(steps):
        return steps[index]
    if not wrap:
        return None
    return steps[0] if direction > 0 else steps[-1]


def choices_of(knob: Knob) -> tuple[Value, ...]:
    """Values that a knob goes round in: its choices, off and on, or the model presets; empty for numbers and texts."""
    if knob.kind is bool:
        return (False, True)
    return PRESETS if knob.name == "model" else knob.choices


def _bounded(knob: Knob, value: float) -> Value:
    if (knob.minimum is not None and value < knob.minimum) or (knob.maximum is not None and value > knob.maximum):
        return None
    return value


def _no_step(knob: Knob, direction: int) -> str:
    if knob.kind is str:
        return f"Press Enter to type the {knob.label} ({knob.hint or 'a text'})."
    way = "larger" if direction > 0 else "smaller"
    return f"No {way} step for {knob.label}: press Enter to type another value."


def shown(knob: Knob, value: Value) -> str:
    """A knob's value in the few cells that the screen has for it: long names are shortened."""
    if isinstance(value, str):
        return _SHORT.get(value) or clean(short_name(value), 200)
    return knob_text.shown(knob, value)


def said(config: RunConfig, name: str) -> str:
    """A knob's value in a configuration; of the precision, what is really computed in where nothing is cast.

    Of an unset prompt length, what it means: the usual one of dummy prompts, other prompts are read whole.
    """
    if name == "precision" and config.computed_in != config.precision:
        return f"{config.computed_in} weights"
    if name == "prompt_len" and config.prompt_len is None and config.answers:
        return shown(KNOBS[name], config.known_prompt_len or "whole")
    return shown(KNOBS[name], getattr(config, name))


def short_name(model: str) -> str:
    """A model's name without what every model's name has: `bert-base` for `google-bert/bert-base-uncased`."""
    return model_name(model).rpartition("/")[2].removesuffix("-uncased") or model


def bounds(knob: Knob) -> str:
    """What may be typed for a knob, in one line."""
    if knob.kind is bool:
        return "on or off"
    if knob.choices:
        return ", ".join(knob.choices)
    if knob.name == "model":
        return f"{', '.join(PRESETS)}, another name below, a hub name or a local folder"
    if knob.minimum is not None and knob.maximum is not None:
        or_none = f", or {knob.none}" if knob.none else ""
        return f"{knob.minimum:,.10g} to {knob.maximum:,.10g}{' ' + knob.unit if knob.unit else ''}{or_none}"
    return f"{knob.hint}; empty: not set" if knob.optional else knob.hint


def describe(config: RunConfig) -> str:
    """A configuration in a few words: `bert-tiny, batch 8, 512 tokens, fp32`; `gpt2, batch 1, 256 + 128 tokens, …`."""
    if config.answers:
        return _described_answer(config)
    parts = [clean(model_name(config.model), 40), f"batch {config.batch_size}"]
    if config.gradient_accumulation_steps > 1:
        parts.append(f"× {config.gradient_accumulation_steps} accumulated")
    if config.is_parallel:
        parts.append(f"{config.gpus or 'all'} × {config.parallel}")
    target = "" if config.target_len is None else f" → {config.target_len}"
    parts += [f"{config.seq_len}{target} tokens", config.computed_in]
    if config.weights != "fp32":
        parts.append(f"weights {config.weights}")
    if config.gradient_checkpointing != "off":
        parts.append(f"checkpointing {config.gradient_checkpointing}")
    return ", ".join(parts)


def _described_answer(config: RunConfig) -> str:
    parts = [clean(model_name(config.model), 40)]
    if config.task == "classification":
        return ", ".join([*parts, f"batch {config.batch_size}", f"padding {config.padding}", config.weights])
    prompt = config.known_prompt_len
    parts.append(f"batch {config.batch_size}" if config.prompt is None else f"“{clean(config.prompt, 40)}”")
    new = config.max_new_tokens
    parts.append(f"{prompt} + {n_of(new, 'token')}" if prompt else n_of(new, "new token"))
    parts.append(config.weights)
    parts.append(f"KV {config.kv_cache}" if config.kv_dtype == "model" else f"KV {config.kv_cache} {config.kv_dtype}")
    parts += ["prefix cache"] * config.prefix_cache + ["response cache"] * config.response_cache
    if config.speculate != "off":
        parts.append(f"{config.speculate} {config.speculate_tokens}")
    parts += ["continuous"] * (config.batching == "continuous")
    return ", ".join(parts)
