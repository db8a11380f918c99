"""The knobs of the next run: what a turn does, typing, refusals, undo. Pure: no Textual, no engine thread."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass

from engine.contract import knob as knob_text
from engine.contract import script_flags
from engine.contract.answering_knobs import DUMMY_PROMPTS
from engine.contract.by_job import defaults_of, for_job, goes_without_saying
from engine.contract.config import DEFAULT_SAMPLES, KEEPING, KNOBS, ConfigError, Knob, RunConfig, Value, coerce
from engine.contract.device_name import gpus_of_device
from engine.contract.knob import JOBS, SCRIPT
from engine.contract.numbers import UNKNOWN, n_of
from engine.contract.own_data import is_own_file
from engine.contract.own_models import own_name
from engine.contract.presets import PRESETS, model_name
from engine.contract.records import DeviceInfo, Outcome, RunRecord
from engine.contract.script_combinations import not_carried
from engine.contract.script_name import script_name
from tui.drawing.cells import cut_middle
from tui.drawing.text import clean
from tui.state.knob_list import ORDER, OWN, KnobList, Row, label_of, opened_for
from tui.state.script_choices import why_not
from tui.state.script_knobs import (
    NOT_CARRIED,
    SCRIPTS_OWN,
    carried,
    is_same_command,
    may_turn,
    own_choices,
    own_step,
    own_value,
)

UNDO_LIMIT = 200
_MOST_STEPS = 64
"""Values of a number that are looked at for one that a script has a word for."""
_COMMAND = 60
"""Cells of a command among other knobs: the middle of a longer one is left out."""

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
        self.list.opened |= opened_for(config)
        self.list.settle(config)
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
        self.list.move(delta, self.config)

    def select(self, name: str, own: str = "") -> None:
        """Put the cursor on a knob; its group opens."""
        self.list.select(name, self.config, own)

    def refuse(self, knob: str, message: str) -> None:
        """Show why a run was refused, with the cursor on the knob at fault."""
        if knob:
            self.select(knob)
        self.problem = Problem(knob, message)

    def step(self, name: str, direction: int, *, wrap: bool = False, device: DeviceInfo | None = None) -> bool:
        """Turn a knob to its next value (direction 1) or the one before (-1). False when nothing changed.

        What a script cannot be given is passed over; `device`, where it is known, is where it would run.
        """
        self.select(name)
        if name == OWN and self.list.cursor.own:
            return self._step_own(self.list.cursor.own, direction)
        if name == "job":
            return self.take_job(self._next_job(direction))
        now = getattr(self.config, name)
        if name == "prompt_len" and now is None:
            now = self.config.known_prompt_len
        value = stepped(KNOBS[name], now, direction, wrap=wrap)
        if value is None:
            self.problem = Problem(name, _no_step(KNOBS[name], direction))
            return False
        if self.config.is_script and (refused := why_not(self.config, name, value, device)):
            value = self._next_possible(name, value, direction, device)
            if value is None or value == now:
                self.problem = Problem(name, clean(refused, 400))
                return False
        return self.set_value(name, value)

    def _next_possible(self, name: str, value: Value, direction: int, device: DeviceInfo | None) -> Value:
        """The first value beyond this one that the script can be given; None where there is none."""
        seen = {value}
        while (value := stepped(KNOBS[name], value, direction)) is not None and value not in seen:
            if not why_not(self.config, name, value, device):
                return value
            seen.add(value)
            if len(seen) > _MOST_STEPS:
                break
        return None

    def _step_own(self, own: str, direction: int) -> bool:
        return self._take(OWN, lambda: script_flags.turned(self.config, own, own_step(self.config, own, direction)))

    def _next_job(self, direction: int) -> str:
        """The job after (1) or before (-1) this one; a script is one where its command is known."""
        jobs = self.jobs
        return jobs[(jobs.index(self.config.job) + direction) % len(jobs)]

    @property
    def jobs(self) -> list[str]:
        """The jobs that a key turns through."""
        return [job for job in JOBS if job != SCRIPT or self.knows_command]

    @property
    def knows_command(self) -> bool:
        """Whether there is a command to turn to, or to stay with."""
        left = self._left.get(SCRIPT)
        return self.config.is_script or (left is not None and left.command is not None)

    def type(self, name: str, text: str, own: str = "") -> bool:
        """Give a knob what a person typed. False, with `problem` set, when it is refused."""
        self.select(name, own)
        if own:
            return self._take(name, lambda: script_flags.turned(self.config, own, text.strip()))
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
        if name == "command":
            return self._take(name, lambda: _with_command(self.config, value))
        if self.config.is_script:
            return self._take(name, lambda: script_flags.turned(self.config, name, value))
        return self._take(name, lambda: self.config.with_values(**{name: value, **self._implied(name, value)}))

    def _take(self, name: str, make: Callable[[], RunConfig]) -> bool:
        """Take what `make` makes of the configuration; where it cannot run, say why at the knob `name`."""
        try:
            config = make()
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
            if before is None:
                config = for_job(now, job)
            elif SCRIPT in (job, now.job):
                config = before  # a script has no virtual GPU and no limit, and those of the other job stay its own
            else:
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
        if not config.answers or not trained.trains or record.outcome is not Outcome.COMPLETED or config.model == name:
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
        if config.command != self.config.command:
            self.list.opened |= opened_for(config)
        self._past = [*self._past, self.config][-UNDO_LIMIT:]
        self.config = config

    def load(self, config: RunConfig) -> None:
        """Take a whole configuration that a person chose, with the cursor on the first knob that it turns."""
        changed = changed_rows(self.config, config)
        if config.job != self.config.job:
            self._left[self.config.job] = self.config  # the key of the job turns back to it
        self.problem = None
        self.replace(config)
        if changed:
            self.select(changed[0].knob, changed[0].own)

    def follow(self, config: RunConfig) -> None:
        """Show the configuration of a run that somebody else started, with the cursor on what it changed."""
        changed = changed_rows(self.config, config)
        self.list.opened |= opened_for(config)
        self.config, self._past, self.problem = config, [], None
        self.list.settle(config)
        if changed:
            self.select(changed[0].knob, changed[0].own)

    @property
    def can_undo(self) -> bool:
        """Whether there is a change to take back."""
        return bool(self._past)

    def undo(self) -> list[Row]:
        """Take the last change back; the knobs that it had turned, none when there is nothing to take back."""
        if not self._past:
            return []
        before, self.config = self.config, self._past.pop()
        self.problem = None
        changed = changed_rows(before, self.config)
        if changed:
            self.select(changed[0].knob, changed[0].own)
        return changed


def _with_command(config: RunConfig, value: Value) -> RunConfig:
    from engine.knobs.scripts import with_command  # reads the script's source, which no first paint needs

    return defaults_of(SCRIPT).with_values(device=config.device) if value is None else with_command(config, str(value))


def changed_rows(one: RunConfig | None, other: RunConfig) -> list[Row]:
    """Knobs in which two configurations differ, in the order of the list; none when there is no first one.

    A command that differs by the place of a knob alone differs in that knob; a script and a run of ours differ
    in the job.
    """
    if one is None:
        return []
    if one.is_script != other.is_script:
        return [Row("", "job")]
    rows: list[Row] = []
    for name in ORDER[other.job]:
        same = getattr(one, name) == getattr(other, name)
        if name == "command":
            same = is_same_command(one, other)
        elif one.is_script and other.is_script and KNOBS[name].jobs != (SCRIPT,):
            same = same and one.says(name) == other.says(name)
        if name == OWN and one.is_script:
            own = [Row("", name, each) for each in own_choices(other)]
            rows += [row for row in own if value_of(one, row) != value_of(other, row)]
        elif not same:
            rows.append(Row("", name))
    return rows


def changed_knobs(one: RunConfig | None, other: RunConfig) -> list[str]:
    """The same by the names of the fields."""
    return list(dict.fromkeys(row.knob for row in changed_rows(one, other)))


def turned(before: RunConfig, after: RunConfig, limit: int | None = None) -> str:
    """Every knob that differs, `batch size 8 → 16, checkpointing off → on`; beyond `limit` only how many more."""
    rows = changed_rows(before, after)
    told = [f"{label_of(row)} {value_of(before, row)} → {value_of(after, row)}" for row in rows[:limit]]
    more = [f"{len(rows) - len(told)} more"] if len(rows) > len(told) else []
    return ", ".join([*told, *more])


def value_of(config: RunConfig, row: Row) -> str:
    """What a knob was turned from or to."""
    if config.is_script:
        return value_before(config, row)
    return shown(KNOBS[row.knob], getattr(config, row.knob))


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
        if knob.name == "command":
            return cut_middle(clean(value), _COMMAND)
        if knob.name == "output_dir":  # its last part alone is often a number
            return clean(value, 200)
        return _SHORT.get(value) or clean(short_name(value), 200)
    return knob_text.shown(knob, value)


def said_row(config: RunConfig, row: Row) -> str:
    """The value in a line of the list."""
    return clean(own_value(config, row.own), 200) if row.own else said(config, row.knob)


def value_before(reference: RunConfig, row: Row) -> str:
    """The value in a line of the list for another configuration; of a knob that its command has not, "–"."""
    return said_row(reference, row) if not row.own or row.own in own_choices(reference) else UNKNOWN


def is_said(config: RunConfig, name: str) -> bool:
    """Whether a knob has a value of ours: a script's that its command does not carry has the script's own."""
    return not config.is_script or config.says(name)


def why(config: RunConfig, row: Row) -> str:
    """What turning the knob in a line of the list does, in a sentence or two."""
    if row.own:
        return f"A knob that only your script knows: {', '.join(own_choices(config)[row.own])}."
    if is_said(config, row.knob) or may_turn(config, row.knob):
        return KNOBS[row.knob].why_in(config.job)
    return not_carried(KNOBS[row.knob]).message


def said(config: RunConfig, name: str) -> str:
    """A knob's value in a configuration; of the precision, what is really computed in where nothing is cast.

    Of an unset prompt length, what it means: the usual one of dummy prompts, other prompts are read whole. Of a user's
    own command, whether it carries the knob at all.
    """
    if config.is_script:
        if not config.says(name):
            return SCRIPTS_OWN if may_turn(config, name) else NOT_CARRIED
        return shown(KNOBS[name], getattr(config, name))
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


def described_script(config: RunConfig) -> str:
    """A command by its name and what it carries: `train.py, batch size 8, block_size 512`."""
    parts = [f"{KNOBS[name].label} {said(config, name)}" for name in carried(config) if name not in KEEPING]
    parts += [f"{own} {said_row(config, Row('', OWN, own))}" for own in own_choices(config)]
    return ", ".join([clean(script_name(config), 40), *parts])


def describe(config: RunConfig, run_id: int | None = None) -> str:
    """A configuration in a few words: `bert-tiny, batch 8, 512 tokens, fp32`; `gpt2, batch 1, 256 + 128 tokens, …`.

    `run_id` where it is that of a run.
    """
    if config.answers:
        return _described_answer(config)
    if config.is_script:
        return described_script(config if run_id is None else script_flags.numbered(config, run_id))
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
