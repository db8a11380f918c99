"""Small answering runs for tests: real models and the real `generate`, without threads or a history."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast

from engine.answering.job import AnswerJob
from engine.answering.requests import Request
from engine.answering.run import AnswerRun, refuse_early
from engine.contract.config import RunConfig
from engine.contract.events import Event
from engine.contract.records import RunRecord
from engine.contract.run_figures import new_record
from engine.devices.base import Device
from engine.devices.cpu import CpuDevice
from engine.devices.virtual import VirtualDevice
from engine.techniques.generation.settings import own_settings
from engine.training.hub import Hub
from tests.engine import language_models
from tests.engine.heard import Heard

E = TypeVar("E")

PROMPTS = (tuple(range(10, 21)), tuple(range(40, 44)), tuple(range(90, 97)), (150, 30, 77))
"""Of different lengths."""


@dataclass(kw_only=True)
class Asked(Heard):
    """What a run said, and the row that it left."""

    record: RunRecord | None = None

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]


def config_of(model: str = "gpt2-tiny", **knobs: Any) -> RunConfig:
    """A small answering run on the CPU."""
    values: dict[str, Any] = {
        "job": "answer",
        "task": "causal-lm",
        "batch_size": 1,
        "device": "cpu",
        "requests": 2,
        "prompt_len": 12,
        "max_new_tokens": 10,
    }
    return RunConfig(model=model, **{**values, **knobs})


def save(kind: str, folder: Path) -> str:
    """A tiny model of `tests.engine.language_models` in a folder."""
    language_models.make(kind).save_pretrained(folder)
    return str(folder)


def run(config: RunConfig, should_stop: Callable[[list[Event]], bool] = lambda events: False) -> Asked:
    """The whole run. Raises `ConfigError` where it is refused."""
    asked = Asked()
    device: Device = (
        CpuDevice() if config.device == "cpu" else VirtualDevice(config.device.removeprefix("virtual:"), config)
    )
    refuse_early(config, device)
    asked.record = AnswerRun(
        record=new_record(1, config, device.info, 0.0),
        device=device,
        hub=Hub(answers=False),
        emit=asked.events.append,
        should_stop=lambda: should_stop(asked.events),
    ).execute()
    return asked


def plainly(model: PreTrainedModel, prompt: Sequence[int], n: int) -> list[int]:
    """The first `n` tokens of the answer of plain `generate`, greedy."""
    settings = GenerationConfig(max_new_tokens=n, do_sample=False, pad_token_id=0)
    ids = torch.tensor([prompt])
    rows = model.eval().generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=settings)
    written: list[int] = rows[0, len(prompt) :].tolist()
    return written


def job_of(
    model: PreTrainedModel,
    asked: Asked,
    config: RunConfig,
    prompts: Sequence[tuple[int, ...]] = PROMPTS,
    *,
    eos: frozenset[int] = frozenset(),
    tokenizer: PreTrainedTokenizerFast | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> AnswerJob:
    """The model is asked these prompts."""
    model.eval()
    model.generation_config = own_settings(model)
    return AnswerJob(
        run_id=1,
        config=config,
        device=CpuDevice(),
        model=model,
        tokenizer=tokenizer,
        requests=[Request(number=number, input_ids=ids) for number, ids in enumerate(prompts, 1)],
        pad_token_id=0,
        eos_token_ids=eos,
        emit=asked.events.append,
        should_stop=should_stop,
    )
