"""What a job begins with, and the way from one job's knobs to the other's. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from engine.contract.answering_combinations import WRITING_TASKS
from engine.contract.answering_knobs import DUMMY_PROMPTS, GENERATED_PROMPTS, HELD_OUT_PROMPTS
from engine.contract.config import RunConfig, Value
from engine.contract.device_name import read_device
from engine.contract.knob import ANSWER, SCRIPT, TRAIN
from engine.contract.own_data import GENERATED
from engine.contract.own_models import own_name

if TYPE_CHECKING:
    from engine.contract.records import RunRecord

OWN: dict[str, dict[str, Value]] = {
    TRAIN: {},
    ANSWER: {"model": "gpt2-tiny", "task": "causal-lm", "batch_size": 1},
    SCRIPT: {},
}
"""Defaults of a job where they are not those of the fields."""
_CARRIED = ("weights", "attention", "seed", "device", "vram_limit")
"""Knobs that go along from one job to the other, as they say where and how it is computed."""

ASKED_TOKENS = 64
"""The most that a model writes that was just trained."""

_DEFAULTS = {job: RunConfig(job=job, **own) for job, own in OWN.items()}  # type: ignore[arg-type]


def defaults_of(job: str) -> RunConfig:
    """What the knobs are while nobody turns them. `KeyError` on what is no job."""
    return _DEFAULTS[job]


def for_job(config: RunConfig, job: str) -> RunConfig:
    """The knobs of another job, from where `config` is: what means the same there goes along, the rest as by default.

    A model goes along where it has a task there. Raises `ConfigError` where that cannot run.
    """
    if config.job == job:
        return config
    if SCRIPT in (config.job, job):  # a script says itself what it computes, and knows no virtual GPU
        is_real = read_device(config.device).kind != "virtual"
        return defaults_of(job).with_values(**({"device": config.device} if is_real else {}))
    carried = _carried(config)
    if config.task in WRITING_TASKS:
        carried |= {"model": config.model, "task": config.task}
    if config.is_quantised and job == TRAIN:
        del carried["weights"]
    return defaults_of(job).with_values(**carried)


def _carried(config: RunConfig) -> dict[str, Value]:
    return {name: getattr(config, name) for name in _CARRIED}


def goes_without_saying(values: Mapping[str, object]) -> dict[str, Value]:
    """What knobs that are given mean for others that are not: a real prompt's answer ends where the model ends it."""
    prompts = values.get("prompts", DUMMY_PROMPTS)
    return {"ignore_eos": False} if values.get("prompt") or prompts != DUMMY_PROMPTS else {}


def asking(record: RunRecord) -> RunConfig:
    """The knobs that ask the model which a run trained: where it was trained, what it was trained on but never saw.

    Raises `ConfigError` where such a model cannot answer.
    """
    config = record.config
    own_data = config.workload != "dummy" and config.data not in (None, GENERATED)
    asks = DUMMY_PROMPTS if config.workload == "dummy" else HELD_OUT_PROMPTS if own_data else GENERATED_PROMPTS
    values: dict[str, Value] = {
        **_carried(config),
        "model": own_name(record.run_id),
        "task": config.task,
        "weights": config.stored_in,
        "prompts": asks,
        **goes_without_saying({"prompts": asks}),
    }
    if config.task != "classification":
        values["max_new_tokens"] = ASKED_TOKENS
    return defaults_of(ANSWER).with_values(**values)


def asked(config: RunConfig, prompt: str) -> RunConfig:
    """The same run for one prompt that was typed. Raises `ConfigError` where it cannot be asked."""
    alone: dict[str, Value] = {"requests": None, "prompt_len": None, "prefix_len": 0, "repeats": 0.0, "batch_size": 1}
    return config.with_values(prompt=prompt, prompts=DUMMY_PROMPTS, ignore_eos=False, **alone)
