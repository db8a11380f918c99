"""Knobs as the flags of a user's own script: turning them, and reading those that were typed. Standard library only.

A script that reads `transformers.TrainingArguments` has a flag for most knobs, with the names of that class. Its
command needs no placeholders: a knob that is turned gets one at the end, and a flag that was typed becomes one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import isfinite

from engine.contract.command import ANY, RUN, Command, as_text, given_values, read_command, values_text
from engine.contract.config import KNOBS, RunConfig
from engine.contract.knob import ConfigError, Value, check, coerce
from engine.contract.knob import shown as knob_shown
from engine.contract.numbers import UNKNOWN
from engine.contract.records import RunRecord
from engine.contract.script_combinations import NO_COMMAND, not_carried
from engine.contract.text import one_line

TRANSFORMERS = "transformers"
"""The value of `command_flags` for a script that reads `TrainingArguments`."""

TABLE: tuple[str, ...] = (
    "--per_device_train_batch_size={batch_size}",
    "--gradient_accumulation_steps={gradient_accumulation_steps}",
    "--gradient_checkpointing={gradient_checkpointing:on=True,off=False}",
    "--bf16={precision:bf16=True,*=False} --fp16={precision:fp16=True,*=False} "
    "{precision:tf32=--tf32=True,fp32=--tf32=False,*=}",
    "--optim={optimizer+optimizer_implementation:adamw+fused=adamw_torch_fused,adamw+foreach=adamw_torch,sgd+*=sgd,"
    "adafactor+*=adafactor,adamw-8bit+*=adamw_torch_8bit,paged-adamw-8bit+*=paged_adamw_8bit}",
    "--torch_compile={torch_compile:on=True,off=False}",
    "--num_train_epochs={epochs}",
    "--learning_rate={learning_rate}",
    "--lr_scheduler_type={lr_scheduler}",
    "--warmup_steps={warmup_steps}",
    "--weight_decay={weight_decay}",
    "--label_smoothing_factor={label_smoothing_factor}",
    "--max_grad_norm={max_grad_norm}",
    "--seed={seed}",
    "--dataloader_num_workers={dataloader_num_workers}",
    "--dataloader_pin_memory={dataloader_pin_memory:on=True,off=False}",
    "--dataloader_prefetch_factor={dataloader_prefetch_factor}",
    "--eval_strategy={eval_steps:none=epoch,*=steps} {eval_steps:none=,*=--eval_steps=*}",
    "--output_dir={output_dir}",
    "--save_strategy={save_steps:0=no,*=steps} {save_steps:0=,*=--save_steps=*}",
    "{save_total_limit:0=,*=--save_total_limit=*}",
    "--ddp_bucket_cap_mb={bucket_mib}",
)
"""Words of a command; those of one knob, or of two that are one flag, stand together. A later flag wins over earlier
ones, so a word that is added at the end holds.
"""
_TYPED: tuple[str, ...] = ("--activation_checkpointing={gradient_checkpointing:on=True,off=False}",)
"""Newer names, which hold where both stand. A knob that is turned is passed by the older one, which every version
before 6 of transformers knows.
"""
DEFAULTS: dict[str, str] = {"bf16": "False", "fp16": "False", "eval_strategy": "no", "save_strategy": "steps"}
"""Of flags that share a knob with others: what holds where they are not typed."""
_YES, _NO = ("true", "t", "yes", "y", "1"), ("false", "f", "no", "n", "0")
"""As transformers reads switches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The flags of one knob, or of those that are one flag."""

    command: Command
    """The words for them, alone."""

    @property
    def knobs(self) -> tuple[str, ...]:
        return self.command.knobs

    def flags(self, values: Mapping[str, Value]) -> dict[str, str]:
        """What is passed for these values, by flag. Raises `ConfigError` where there is no word for them."""
        words = (word[2:].partition("=") for word in self.command.filled(values))
        return {name: value for name, _, value in words}


ENTRIES: tuple[Entry, ...] = tuple(Entry(command=read_command(words, KNOBS)) for words in TABLE)
_READ: tuple[Entry, ...] = (*(Entry(command=read_command(words, KNOBS)) for words in _TYPED), *ENTRIES)
"""All that may be typed, what holds first."""
_BY_KNOB: dict[str, Entry] = {name: entry for entry in ENTRIES for name in entry.knobs}


def is_turnable(config: RunConfig, name: str) -> bool:
    """Whether `turned` can give `name` another value: a knob, or one that only the script knows."""
    command = config.script
    if command is not None and name in command.own:
        return True
    if name not in KNOBS or name == "job":
        return False
    return config.says(name) or (command is not None and config.command_flags == TRANSFORMERS and name in _BY_KNOB)


def turned(config: RunConfig, name: str, value: object) -> RunConfig:
    """A script's run with one knob at another value; see `all_turned`."""
    return all_turned(config, {name: value})


def all_turned(config: RunConfig, values: Mapping[str, object]) -> RunConfig:
    """A script's run with these values of knobs, and of those that only the script knows (None: its first again).

    Values are read as `coerce` reads them. Where the script has transformers' flags, a knob that the command does not
    carry is added to it. Raises `ConfigError` on a knob that cannot be turned, with the way out.
    """
    command, text = config.script, config.command
    own = given_values(config.command_values)
    changes: dict[str, Value] = {}
    for name, value in values.items():
        if command is not None and name in command.own:
            own.pop(name, None)
            if value is not None:
                own[name] = str(value)
            continue
        if name not in KNOBS:
            raise ConfigError("command_values", f"{name} is no knob, and the command has none of that name.")
        changes[name] = coerce(KNOBS[name], value)
        check(KNOBS[name], changes[name])
        if config.says(name):
            continue
        if command is None or text is None:
            raise ConfigError("command", f"{NO_COMMAND} Only then {KNOBS[name].flag} has something to turn.")
        if not is_turnable(config, name):
            raise not_carried(KNOBS[name])
        added = _BY_KNOB[name].command.text
        if added not in text:  # two knobs may be one flag
            text = f"{text} {added}"
    return config.with_values(command=text, command_values=values_text(own), **changes)


def with_knobs(config: RunConfig, values: Mapping[str, object]) -> RunConfig:
    """A run of any job with these values of its knobs, in their types or as texts. Raises `ConfigError`."""
    if config.is_script:
        return all_turned(config, values)
    return config.with_values(**{name: coerce(KNOBS[name], value) for name, value in values.items()})


# what a run says of its knobs -------------------------------------------------------------------------------------


def told(config: RunConfig, name: str) -> Value:
    """A knob's value as the run has it, also of one that only its script knows; None of one that means nothing to it.

    Of a command the words that knobs fill are left out: they are not what tells two scripts apart.
    """
    if not config.is_script:
        return getattr(config, name) if name in KNOBS else None
    if name == "command":
        return bare(config)
    if name in KNOBS:
        return getattr(config, name) if config.says(name) else None
    return None if config.script is None else config.script.own_values(config.command_values).get(name)


def numbered(config: RunConfig, run_id: int) -> RunConfig:
    """The knobs of a script's run with its number in place of `{run}`: to be shown, as what runs it again keeps it."""
    if config.script is None:
        return config
    values = {name: getattr(config, name) for name in ("command_values", *config.script.knobs)}
    changes = {
        name: value.replace(f"{{{RUN}}}", str(run_id))
        for name, value in values.items()
        if isinstance(value, str) and f"{{{RUN}}}" in value
    }
    return config.with_values(**changes) if changes else config


def told_of(record: RunRecord, name: str) -> Value:
    """`told` of a run as it is shown."""
    return told(numbered(record.config, record.run_id), name)


def bare(config: RunConfig) -> str | None:
    """The command without the words that knobs fill: those of equal scripts are equal."""
    command = config.script
    if command is None:
        return None
    filled = (any(not isinstance(part, str) for part in parts) for parts in command.parts)
    return as_text(word for word, is_filled in zip(command.words, filled, strict=True) if not is_filled)


def own_names(*configs: RunConfig) -> list[str]:
    """The knobs that only the scripts of these runs know, in the order of their commands."""
    commands = (config.script for config in configs)
    return list(dict.fromkeys(name for command in commands if command is not None for name in command.own))


def label_of(name: str) -> str:
    """What people call a knob; one that only a script knows by its name there."""
    return KNOBS[name].label if name in KNOBS else name


def shown_of(config: RunConfig, name: str, value: Value) -> str:
    """The value of `name` in a run, in a sentence; of a script what it has by itself where its command does not say."""
    if value is None and config.is_script and told(config, name) is None:
        return "as the script has it" if name in KNOBS and not config.says(name) else UNKNOWN
    return shown(name, value, "not set")


def shown(name: str, value: Value, unset: str = UNKNOWN) -> str:
    """The value of a knob, or of one that only a script knows, as people read it."""
    if name in KNOBS:
        return knob_shown(KNOBS[name], value, unset)
    return unset if value is None else one_line(str(value)) or "nothing"


# flags that were typed -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed:
    """A flag of the command, its value (a switch alone says True), and which words it is."""

    flag: str
    value: str
    at: range


def taken_in(text: str, first: int) -> tuple[str, dict[str, Value]]:
    """A command whose typed flags have become placeholders, and the values that they had.

    Only words from `first` on are the script's: those before it are the launcher's. A flag whose value is none of the
    knob's stays as it is, and so do flags that contradict each other. Raises `ConfigError` on what is no command.
    """
    command = read_command(text, KNOBS)
    typed = list(_typed(command.words, first))
    values: dict[str, Value] = {}
    words: dict[int, Sequence[str]] = {}
    for entry in _READ:
        known = _flags_of(entry)
        given = [each for each in typed if each.flag in known]
        if not given or any(name in command.knobs or name in values for name in entry.knobs):
            continue
        found = _values(entry, {each.flag: each.value for each in given})
        if found is None:
            continue
        values |= found
        words |= {at: () for each in given for at in each.at}
        words[given[0].at[0]] = entry.command.words
    if not words:
        return text, {}
    kept = (each for at, word in enumerate(command.words) for each in words.get(at, (word,)))
    return as_text(kept), values


def _typed(words: Sequence[str], first: int) -> Iterator[Typed]:
    known = {flag for entry in _READ for flag in _flags_of(entry)}
    switches = {flag for entry in _READ for flag in _switches_of(entry)}
    at = first
    while at < len(words):
        begin, word = at, words[at]
        at += 1
        if not word.startswith("--"):
            continue
        name, is_there, value = word[2:].partition("=")
        flag = name.replace("-", "_")
        following = words[at] if at < len(words) else None
        if flag.startswith("no_") and flag[3:] in switches and not is_there:
            yield Typed(flag=flag[3:], value="False", at=range(begin, at))
        elif flag not in known:
            continue
        elif is_there:
            yield Typed(flag=flag, value=value, at=range(begin, at))
        elif flag in switches and (following is None or following.lower() not in _YES + _NO):
            yield Typed(flag=flag, value="True", at=range(begin, at))
        elif following is not None and not following.startswith("--"):
            at += 1
            yield Typed(flag=flag, value=following, at=range(begin, at))


def _flags_of(entry: Entry) -> list[str]:
    """All flags of an entry, whatever its value."""
    return list(dict.fromkeys(re.findall(r"--(\w+)=", " ".join(entry.command.words))))


def _switches_of(entry: Entry) -> list[str]:
    return _flags_of(entry) if "=True" in " ".join(entry.command.words) else []


def _values(entry: Entry, typed: Mapping[str, str]) -> dict[str, Value] | None:
    """The knobs' values that pass just these flags; None where there are none."""
    for chosen in product(*(_candidates(entry, name, typed) for name in entry.knobs)):
        values = dict(zip(entry.knobs, chosen, strict=True))
        try:
            passed = entry.flags(values)
        except ConfigError:
            continue
        holds = {**DEFAULTS, **typed}
        if typed.keys() <= passed.keys() and all(_same(passed[flag], holds.get(flag)) for flag in passed):
            return values
    return None


def _candidates(entry: Entry, name: str, typed: Mapping[str, str]) -> list[Value]:
    knob = KNOBS[name]
    if knob.choices:
        return list(knob.choices)
    texts: list[object] = [True, False] if knob.kind is bool else [*_named_in(entry), *map(_whole, typed.values())]
    values: list[Value] = []
    for text in texts:
        try:
            value = coerce(knob, text)
            check(knob, value)
        except ConfigError:
            continue
        values.append(value)
    return values


def _named_in(entry: Entry) -> Iterator[str]:
    """The values that an entry has words for."""
    for place in entry.command.places:
        yield from (key for (key, *_), _ in place.words if key != ANY)


def _whole(text: str) -> str:
    """`3.0` as `3`, which a whole number is read from."""
    number = _number(text)
    return str(int(number)) if number is not None and number.is_integer() else text


def _same(passed: str, typed: str | None) -> bool:
    if typed is None:
        return False
    for switch in (_YES, _NO):
        if passed in ("True", "False") and passed.lower() in switch:
            return typed.lower() in switch
    number = _number(passed)
    return typed == passed if number is None else number == _number(typed)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if isfinite(value) else None
