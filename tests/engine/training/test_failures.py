"""What ends a run before its end: a lost device, memory of the card or of the host, and the user while it loads."""

from __future__ import annotations

import errno
import gc
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.compare.explain import out_of_memory, ways_to_fit
from engine.contract.config import ConfigError, RunConfig
from engine.contract.events import Event, RunProgress, TrainingStarted, UpdateDone
from engine.contract.records import Memory, Outcome, Phase, RunRecord
from engine.devices.base import Device
from engine.devices.cpu import CpuDevice
from engine.devices.host_memory import asked, ran_out
from engine.devices.virtual import VirtualDevice
from engine.training import models
from engine.training.hub import Hub
from engine.training.run import Run
from tests.engine.make_reviews import write_reviews
from tests.engine.model_folders import model_folder

SMALL = RunConfig(device="cpu", samples=16, batch_size=4, seq_len=16)
VIRTUAL = SMALL.with_values(device="virtual:tesla-p4")
LOST = "CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be asynchronously reported"


def a_run(
    config: RunConfig, device: Device, should_stop: Callable[[], bool] = lambda: False
) -> tuple[Run, list[Event]]:
    hub = Hub()
    hub.probe()
    events: list[Event] = []
    record = RunRecord(run_id=1, config=config, outcome=Outcome.RUNNING)
    return Run(record=record, device=device, hub=hub, emit=events.append, should_stop=should_stop), events


class LostDevice(CpuDevice):
    """A GPU whose context is lost from the third entry into `phase` on: everything that asks it raises."""

    def __init__(self, phase: Phase | None) -> None:
        super().__init__()
        self._phase, self._left, self.lost = phase, 3, False

    def _ask(self, what: str) -> None:
        if self.lost:
            raise RuntimeError(f"CUDA error: {what} on a lost context")

    @contextmanager
    def settings(self, config: RunConfig) -> Iterator[None]:
        try:
            yield
        finally:
            self._ask("a switch")

    def create_context(self) -> None:
        if self._phase is None:
            self.lost = True
            raise RuntimeError(LOST)

    def enter(self, phase: Phase) -> None:
        self._left -= phase is self._phase
        if self._left == 0 and not self.lost:
            self.lost = True
            raise RuntimeError(LOST)

    def synchronize(self) -> None:
        self._ask("synchronize")

    def memory(self) -> Memory:
        self._ask("memory")
        return super().memory()

    def clean_up(self) -> None:
        super().clean_up()
        self._ask("clean_up")


@pytest.mark.parametrize(
    ("phase", "where"),
    [
        (None, "load"),
        (Phase.FORWARD, "forward of micro-step 3 (update 3)"),
        (Phase.OPTIMIZER, "optimizer of micro-step 3 (update 3)"),
    ],
)
def test_the_first_error_of_a_lost_device_is_told_with_the_fix(phase: Phase | None, where: str) -> None:
    run, _ = a_run(SMALL, LostDevice(phase))
    record = run.execute()
    assert record.outcome is Outcome.FAILED
    assert record.message == (
        f"Failed in {where}: RuntimeError: CUDA error: an illegal memory access was encountered. "
        "Restart traintop: the GPU's context is lost."
    )
    assert record.updates == (2 if phase else 0)


def test_a_device_lost_after_the_last_update_does_not_take_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    device = LostDevice(Phase.EVALUATE)

    def clean_up() -> None:
        raise RuntimeError(LOST)

    monkeypatch.setattr(device, "clean_up", clean_up)
    run, _ = a_run(SMALL, device)
    record = run.execute()
    assert (record.outcome, record.message, record.updates) == (Outcome.COMPLETED, None, 4)


def test_an_update_that_fails_on_the_device_is_named_when_the_host_hears_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    device, waits = CpuDevice(), iter((None, None, RuntimeError(LOST)))

    def synchronize() -> None:
        if (error := next(waits)) is not None:
            raise error

    monkeypatch.setattr(device, "synchronize", synchronize)
    run, _ = a_run(SMALL, device)
    assert "Failed in optimizer of micro-step 3 (update 3): " in (run.execute().message or "")


@pytest.mark.parametrize(("accumulation", "micro_step"), [(1, 3), (2, 6)])
def test_what_fails_while_an_update_is_told_is_of_that_update(
    accumulation: int, micro_step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = CpuDevice()
    run, events = a_run(SMALL.with_values(gradient_accumulation_steps=accumulation, samples=32 * accumulation), device)

    def memory() -> Memory:
        if sum(isinstance(event, UpdateDone) for event in events) == 2:
            raise RuntimeError(LOST)
        return Memory()

    monkeypatch.setattr(device, "memory", memory)
    record = run.execute()
    assert (record.outcome, record.failed_phase, record.updates) == (Outcome.FAILED, Phase.OPTIMIZER, 2)
    assert (record.message or "").startswith(f"Failed in optimizer of micro-step {micro_step} (update 3): ")


def test_data_that_fails_is_of_the_micro_step_that_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    device, waits = CpuDevice(), CpuDevice.batches

    def broken(self: CpuDevice, loader: Iterable[Any]) -> Iterator[Any]:
        for index, batch in enumerate(waits(self, loader)):
            if index == 2:
                raise RuntimeError("no such row")
            yield batch

    monkeypatch.setattr(CpuDevice, "batches", broken)
    record = a_run(SMALL, device)[0].execute()
    assert (record.message or "").startswith("Failed in data of micro-step 3 (update 3): ")


class Watched(CpuDevice):
    """Says whether a model was alive when it was cleaned up, and whether an error was being handled."""

    found: list[tuple[bool, bool]]

    def clean_up(self) -> None:
        import sys

        super().clean_up()
        alive = any(type(each).__name__ == "BertForSequenceClassification" for each in gc.get_objects())
        self.found = [*getattr(self, "found", []), (alive, sys.exc_info()[1] is not None)]


@pytest.mark.parametrize("kind", [ConfigError, RuntimeError, None])
def test_nothing_holds_the_model_when_the_device_is_cleaned_up(
    kind: type[Exception] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = logging.getLogger("traintop")  # pytest keeps what it sees of it: at the root, or here where it ends here
    monkeypatch.setattr(log, "propagate", False)
    monkeypatch.setattr(log, "handlers", [logging.NullHandler()])
    device = Watched()

    def check(model: Any, batch: Any, config: Any, device: Any) -> None:
        if kind is not None:
            raise kind(*["model", "refused late"][-2 if kind is ConfigError else -1 :])

    monkeypatch.setattr("engine.techniques.attention.check", check)
    run, _ = a_run(SMALL, device)
    if kind is ConfigError:
        with pytest.raises(ConfigError, match="refused late"):
            run.execute()
    else:
        run.execute()
    assert device.found == [(False, False)]


def host_errors() -> list[Exception]:
    found: list[Exception] = [MemoryError(), OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))]
    for ask in (lambda: torch.empty(2**52), lambda: np.zeros(2**52)):
        try:
            ask()
        except (RuntimeError, MemoryError) as error:
            found.append(error)
    assert len(found) == 4
    return found


def test_what_says_that_the_hosts_memory_ran_out_is_known() -> None:
    bare, of_the_system, torchs, numpys = host_errors()
    assert all(map(ran_out, (bare, of_the_system, torchs, numpys)))
    assert [asked(error) for error in (bare, of_the_system, torchs, numpys)] == [None, None, 2**54, 2**55]
    for other in (torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("CUDA error"), OSError(errno.ENOSPC, "")):
        assert not ran_out(other)


def _raise_in(monkeypatch: pytest.MonkeyPatch, kind: type[Device], phase: Phase, error: Exception) -> None:
    original = kind.enter

    def enter(self: Device, entered: Phase) -> None:
        original(self, entered)
        if entered is phase:
            raise error

    monkeypatch.setattr(kind, "enter", enter)


@pytest.mark.parametrize("index", range(4))
def test_the_hosts_memory_is_not_the_virtual_cards(index: int, monkeypatch: pytest.MonkeyPatch) -> None:
    _raise_in(monkeypatch, VirtualDevice, Phase.BACKWARD, host_errors()[index])
    run, _ = a_run(VIRTUAL, VirtualDevice("tesla-p4", VIRTUAL))
    record = run.execute()
    assert record.outcome is Outcome.FAILED
    message = record.message or ""
    assert message.startswith("The host's memory ran out in backward of micro-step 1 (update 1): ")
    assert "GiB are free. Use a smaller --model" in message
    assert ("were asked for" in message) == (index > 1)


def test_a_virtual_card_still_runs_out_of_memory() -> None:
    config = VIRTUAL.with_values(vram_limit=700, batch_size=16, seq_len=512)
    record = a_run(config, VirtualDevice("tesla-p4", config))[0].execute()
    assert record.outcome is Outcome.OUT_OF_MEMORY
    assert "CUDA out of memory. Tried to allocate" in (record.message or "")


def test_on_the_cpu_the_hosts_memory_is_the_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    _raise_in(monkeypatch, CpuDevice, Phase.BACKWARD, host_errors()[2])
    record = a_run(SMALL, CpuDevice())[0].execute()
    assert record.outcome is Outcome.OUT_OF_MEMORY
    assert (record.message or "").startswith("Out of memory in backward of micro-step 1 (update 1): 16,777,216.0 GiB")


def test_out_of_memory_in_evaluation_is_told_as_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _raise_in(
        monkeypatch,
        VirtualDevice,
        Phase.EVALUATE,
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB."),
    )
    config = VIRTUAL.with_values(workload="reviews", data=str(write_reviews(tmp_path / "reviews.csv", 100)))
    record = a_run(config, VirtualDevice("tesla-p4", config))[0].execute()
    assert record.outcome is Outcome.OUT_OF_MEMORY
    assert record.failed_phase is Phase.EVALUATE
    assert record.message == (
        "Out of memory in evaluation after update 4: CUDA out of memory. Tried to allocate 1 GiB."
    )
    assert out_of_memory(record).startswith("It ran out of memory in evaluation. Training fitted;")
    assert not any("checkpointing" in way or "fused" in way for way in ways_to_fit(record))


# stopping while it loads


class Ear:
    """Asks to stop from the n-th question on; never without a number."""

    def __init__(self, n: int | None = None) -> None:
        self._n = n
        self.asked = 0

    def __call__(self) -> bool:
        self.asked += 1
        return self._n is not None and self.asked >= self._n


def stopped_at(config: RunConfig, n: int) -> tuple[RunRecord, list[Event], Ear]:
    ear = Ear(n)
    run, events = a_run(config, CpuDevice(), ear)
    return run.execute(), events, ear


def questions(config: RunConfig) -> list[tuple[int, str]]:
    """How often a run of `config` had asked before each of its words, and before it began to train."""
    ear = Ear()
    run, _ = a_run(config, CpuDevice(), ear)
    found: list[tuple[int, str]] = []

    def emit(event: Event) -> None:
        if isinstance(event, (RunProgress, TrainingStarted)):
            found.append((ear.asked, getattr(event, "detail", "training")))

    run.emit = emit
    assert run.execute().outcome is Outcome.COMPLETED
    return found


@pytest.mark.parametrize("weights", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_run_is_stopped_wherever_it_is_while_it_loads(weights: bool, tmp_path: Path) -> None:
    """It ends at the question that is answered so, and at no later one."""
    folder = model_folder(tmp_path, "bert")
    data = str(write_reviews(tmp_path / "reviews.csv", 100))
    config = SMALL.with_values(model=folder, attention="sdpa", workload="reviews", data=data)
    if weights:
        hub = Hub()
        hub.probe()
        source = models.resolve(folder, hub)
        shaped = models.shape(source, config, n_labels=5, vocab_size=None)
        models.build(source, shaped, config).save_pretrained(folder)
    told = questions(config)
    last = told[-1][0]
    assert [words for _, words in told][:3] == [
        "looking for bert",
        "reading 'reviews.csv'",
        "training a vocabulary",
    ]
    assert last - told[-2][0] > 50  # between the tensors of the model
    between = range(told[-2][0] + 1, last, (last - told[-2][0]) // 5)
    for n in sorted({*(before + 1 for before, _ in told[:-1]), *between}):
        record, events, ear = stopped_at(config, n)
        assert (record.outcome, record.message) == (Outcome.STOPPED, "Stopped while loading by the user.")
        assert ear.asked == n
        assert not any(isinstance(event, TrainingStarted) for event in events)
        assert torch.is_grad_enabled()


def test_reading_a_huge_file_can_be_stopped(tmp_path: Path) -> None:
    """A terabyte, of zeros: it would take an hour."""
    for name, workload, task in (("a.csv", "reviews", "classification"), ("a.txt", "text", "causal-lm")):
        with (tmp_path / name).open("wb") as file:
            file.truncate(2**40 if name == "a.csv" else 2**30)
        config = SMALL.with_values(workload=workload, task=task, model="gpt2-tiny", data=str(tmp_path / name))
        record, events, ear = stopped_at(config, 20)
        assert record.outcome is Outcome.STOPPED
        assert ear.asked == 20
        details = [event.detail for event in events if isinstance(event, RunProgress)]
        assert details[-1] == f"reading '{name}'"
        assert details.count(details[-1]) == 1  # the same words are told once


@pytest.mark.parametrize("name", ["pipe.csv", "pipe", "pipe.txt"])
def test_data_that_never_ends_is_refused_at_once(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    workload = {"workload": "text", "task": "causal-lm", "model": "gpt2-tiny"} if name.endswith("txt") else {}
    config = SMALL.with_values(data=str(tmp_path / name), **{"workload": "reviews", **workload})
    with pytest.raises(ConfigError, match="is not a regular file: save its content to a file first"):
        a_run(config, CpuDevice())[0].execute()


def test_a_device_that_never_ends_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="'zero' is not a regular file"):
        a_run(SMALL.with_values(workload="reviews", data="/dev/zero"), CpuDevice())[0].execute()


def test_a_stop_while_training_is_as_before() -> None:
    run, events = a_run(SMALL.with_values(samples=1000), CpuDevice())
    run.should_stop = lambda: sum(isinstance(event, UpdateDone) for event in events) >= 2
    record = run.execute()
    assert (record.outcome, record.message, record.updates) == (Outcome.STOPPED, "Stopped by the user.", 2)
