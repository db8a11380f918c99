"""The forecast against the lecture's table, its speed, and what a virtual GPU costs a training."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from statistics import mean, median

import torch

from engine.contract.config import RunConfig, Value
from engine.contract.events import Event, UpdateDone
from engine.contract.records import Outcome, RunRecord
from engine.devices.open import open_device
from engine.forecast.forecast import Assumptions, Forecaster
from engine.gpus.catalogue import find
from engine.gpus.units import MIB
from engine.process.imports import import_transformers
from engine.training.hub import Hub
from engine.training.run import Run
from tests.benchmarks import public_rows
from tests.benchmarks.figures import Figure, alternate, ratio
from tests.end_to_end.programs import environment
from tests.engine.forecast.test_lecture import TABLE

_LECTURE = RunConfig(model="bert-base-uncased", samples=512, seq_len=512)
_VIRTUAL = RunConfig(model="bert-mini", batch_size=8, seq_len=128, samples=800)
"""100 updates."""


def measure(*, full: bool, rounds: int | None = None) -> Iterator[Figure]:
    """Starts against imports, errors, seconds, and a ratio of samples/s."""
    with tempfile.TemporaryDirectory() as folder:
        yield from starts(Path(folder), rounds or (9 if full else 5))
    import_transformers()
    import_module("transformers.models.bert.modeling_bert")
    forecaster, p4, then = Forecaster(), find("tesla-p4"), Assumptions(stack="lecture-2023")
    first = _seconds(lambda: forecaster.forecast(_LECTURE, p4, then))
    yield Figure(name="first forecast of bert-base, after imports", value=first, unit="s", goal=2.0, at_most=True)
    more = [
        _seconds(lambda b=b: forecaster.forecast(_LECTURE.with_values(batch_size=b), p4, then))
        for b in (3, 4, 5, 6, 7, 9, 12, 16)
    ]
    yield Figure(
        name="forecast of one more batch size", value=median(more), unit="s", goal=0.1, at_most=True, rounds=more
    )
    yield from decoders()
    yield from answers()
    errors = []
    for changes, used in TABLE:
        made = forecaster.forecast(_LECTURE.with_values(**changes), p4, then)
        errors.append(abs(made.peak_used / MIB / used - 1) * 100)
    yield Figure(
        name="forecast ÷ lecture's memory, mean |error|",
        value=mean(errors),
        unit="%",
        goal=2.5,
        at_most=True,
        rounds=errors,
    )
    yield Figure(name="forecast ÷ lecture's memory, worst |error|", value=max(errors), unit="%", goal=5.0, at_most=True)
    yield from public_rows.figures(Forecaster(), public_rows.rows())
    hub = Hub()
    hub.probe()
    virtual, plain = alternate(
        lambda: _samples_per_s(_VIRTUAL.with_values(device="virtual:tesla-p4"), hub),
        lambda: _samples_per_s(_VIRTUAL.with_values(device="cpu"), hub),
        rounds or (9 if full else 5),
    )
    yield ratio("virtual GPU ÷ plain CPU, bert-mini 8 × 128, 100 updates", virtual, plain, 0.95)


_DECODER = RunConfig(
    model="llama-3.1-8b", task="causal-lm", seq_len=1024, samples=64, batch_size=4, precision="bf16", weights="bf16"
)
_WAYS: dict[str, dict[str, Value]] = {
    "all weights": {},
    "LoRA": {"lora_rank": 16},
    "LoRA on every layer": {"lora_rank": 16, "lora_targets": "all-linear"},
    "LoRA on nf4": {"lora_rank": 16, "lora_targets": "all-linear", "weights": "nf4"},
    "8 × ddp": {"gpus": 8, "parallel": "ddp"},
    "8 × zero1": {"gpus": 8, "parallel": "zero1"},
    "8 × fsdp": {"gpus": 8, "parallel": "fsdp"},
}


def decoders() -> Iterator[Figure]:
    """Processor time of a large decoder's forecasts: the first, three more batch sizes, and one sample at 2,048."""
    h200 = find("h200")
    import_module("transformers.models.llama.modeling_llama")
    Forecaster().forecast(_DECODER.with_values(model="bert-tiny", task="causal-lm", seq_len=32, lora_rank=4), h200)
    gc.freeze()  # as the session does once all is imported
    for model, limit in (("llama-3.1-8b", 4.0), ("llama-3.1-70b", 6.0)):
        for way, changes in _WAYS.items():
            config, forecaster = _DECODER.with_values(model=model, **changes), Forecaster()
            first = _processor_s(lambda c=config, f=forecaster: f.forecast(c, h200))
            more = [
                _processor_s(lambda c=config, f=forecaster, b=b: f.forecast(c.with_values(batch_size=b), h200))
                for b in (3, 6, 8)
            ]
            alone = config.with_values(batch_size=1, seq_len=2048)
            single = _processor_s(lambda c=alone, f=forecaster: f.forecast(c, h200))
            named = f"{model}, {way}: processor time of"
            yield Figure(name=f"{named} its first forecast", value=first, unit="s", goal=limit, at_most=True)
            yield Figure(
                name=f"{named} one more batch size",
                value=median(more),
                unit="s",
                goal=0.1 if model == _DECODER.model else None,
                at_most=True,
                rounds=more,
            )
            yield Figure(name=f"{named} one sample, longer", value=single, unit="s", goal=limit, at_most=True)


_ANSWERS = RunConfig(
    job="answer",
    task="causal-lm",
    model=_DECODER.model,
    weights="bf16",
    prompt_len=512,
    max_new_tokens=256,
    batch_size=4,
)
_CACHES: dict[str, dict[str, Value]] = {
    "dynamic": {},
    "static": {"kv_cache": "static"},
    "none": {"kv_cache": "off"},
    "int8": {"kv_dtype": "int8"},
}


def answers() -> Iterator[Figure]:
    """Processor time of the forecasts of a large decoder's answers: the first, and more batch sizes and prompts."""
    h200 = find("h200")
    for cache, changes in _CACHES.items():
        config, forecaster = _ANSWERS.with_values(**changes), Forecaster()
        first = _processor_s(lambda c=config, f=forecaster: f.forecast(c, h200))
        others: list[dict[str, Value]] = [
            {"batch_size": 3},
            {"batch_size": 6},
            {"prompt_len": 300},
            {"prompt_len": 700},
        ]
        more = [
            _processor_s(lambda c=config, f=forecaster, o=other: f.forecast(c.with_values(**o), h200))
            for other in others
        ]
        named = f"answers of {config.model}, KV cache {cache}: processor time of"
        yield Figure(name=f"{named} the first forecast", value=first, unit="s", goal=4.0, at_most=True)
        yield Figure(
            name=f"{named} one more batch size or prompt",
            value=median(more),
            unit="s",
            goal=0.1,
            at_most=True,
            rounds=more,
        )


_IMPORTS = "import torch; from transformers import BertForSequenceClassification"
_READY = """
import os, sys
from engine.contract.events import EngineFailed, EngineReady
from engine.history.history import History
from engine.session.session import Session
session = Session(History())
session.open()
while not (met := [event for event in session.wait(60) if isinstance(event, (EngineReady, EngineFailed))]):
    pass
os._exit(isinstance(met[0], EngineFailed))
"""


def starts(home: Path, rounds: int) -> Iterator[Figure]:
    """A forecast from the command line, and the engine until it is ready ÷ importing torch and transformers' BERT.

    By the clock, and by processor time, which a busy machine does not stretch.
    """
    forecast = ["-m", "tui.cli", "forecast", "--model", "bert-base-uncased", "--gpu", "tesla-p4"]
    for name, words, goal in (("traintop forecast", forecast, 1.3), ("engine ready", ["-c", _READY], 1.2)):
        ours, theirs = alternate(lambda words=words: _took(home, *words), lambda: _took(home, "-c", _IMPORTS), rounds)
        for index, (what, limit) in enumerate(((name, goal), (f"processor time of {name}", None))):
            a, b = [times[index] for times in ours], [times[index] for times in theirs]
            note = f"{median(a):.1f} s against {median(b):.1f}, {rounds} starts each"
            yield ratio(f"{what} ÷ importing torch and BERT", a, b, limit, note, at_most=True)


def _took(home: Path, *words: str) -> tuple[float, float]:
    """Seconds by the clock and of the processor that a Python program took."""
    began = time.perf_counter()
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([sys.executable, *words], env={**os.environ, **environment(home)}, **quiet)
    _, status, used = os.wait4(process.pid, 0)
    took = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, words
    return took, used.ru_utime + used.ru_stime


def _seconds(do: object) -> float:
    began = time.perf_counter()
    do()  # type: ignore[operator]
    return time.perf_counter() - began


def _processor_s(do: Callable[[], object]) -> float:
    began = time.process_time()
    do()
    return time.process_time() - began


def _samples_per_s(config: RunConfig, hub: Hub) -> float:
    """Of the updates from the second on: the first pays for the caches, on both."""
    updates: list[UpdateDone] = []

    def keep(event: Event) -> None:
        if isinstance(event, UpdateDone):
            updates.append(event)

    torch.manual_seed(config.seed)
    record = RunRecord(run_id=1, config=config, outcome=Outcome.RUNNING)
    done = Run(record=record, device=open_device(config), hub=hub, emit=keep, should_stop=lambda: False).execute()
    assert done.outcome is Outcome.COMPLETED, done.message
    counted = updates[1:]
    return sum(u.n_samples for u in counted) / sum(u.update_s for u in counted)
