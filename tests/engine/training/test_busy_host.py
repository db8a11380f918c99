"""A run beside busy programs: it says so, computes with the threads that are free, and puts their number back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from engine.contract.config import RunConfig
from engine.contract.events import Event, RunProgress, TrainingStarted
from engine.contract.host_load import HostLoad
from engine.contract.records import HostSample, Outcome, RunRecord
from engine.devices.base import Device
from engine.devices.cpu import CpuDevice
from engine.devices.virtual import VirtualDevice
from engine.training.hub import Hub
from engine.training.run import Run

CONFIG = RunConfig(device="cpu", samples=4, batch_size=2, seq_len=8)


@pytest.fixture(autouse=True)
def _two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("engine.process.machine.Machine.threads", lambda self: 2)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def ran(free: float | None, config: RunConfig = CONFIG, device: Device | None = None) -> tuple[int | None, list[str]]:
    """The threads of a run where so many of two cores were free, and what it said of the host."""
    events: list[Event] = []
    device = device or CpuDevice()
    run = Run(
        record=RunRecord(run_id=1, config=config, outcome=Outcome.RUNNING, device=device.info),
        device=device,
        hub=Hub(),
        emit=events.append,
        should_stop=lambda: False,
        host=HostLoad.over([HostSample(cores=2.0, free_cores=free)] * 6),
    )
    record = run.execute()
    assert record.outcome is Outcome.COMPLETED, record.message
    assert torch.get_num_threads() == 2
    (started,) = (event for event in events if isinstance(event, TrainingStarted))
    assert record.threads == started.threads
    said = [event.detail for event in events if isinstance(event, RunProgress) and "Host busy" in event.detail]
    return record.threads, said


def test_on_a_quiet_host_nothing_changes() -> None:
    assert ran(2.0) == (2, [])
    assert ran(1.85) == (2, [])
    assert ran(None) == (2, [])


def test_beside_busy_programs_it_takes_what_is_free_and_says_so() -> None:
    said = (
        "Host busy: other programs take 1.9 of 2 cores; this run computes with 1 thread and is slower than on a quiet "
        "one."
    )
    assert ran(0.1) == (1, [said])


def test_a_virtual_gpu_computes_here_too() -> None:
    config = CONFIG.with_values(device="virtual:tesla-p4")
    threads, said = ran(0.1, config, VirtualDevice("tesla-p4", config))
    assert (threads, len(said)) == (1, 1)


def test_with_a_little_less_than_all_it_keeps_its_threads_and_says_so() -> None:
    threads, said = ran(1.5)
    assert threads == 2
    assert said == [
        "Host busy: other programs take 0.5 of 2 cores; this run computes with 2 threads and is slower than on a quiet "
        "one."
    ]


def test_the_threads_are_put_back_where_a_run_is_refused() -> None:
    run = Run(
        record=RunRecord(run_id=1, config=CONFIG.with_values(model="no/such"), outcome=Outcome.RUNNING),
        device=CpuDevice(),
        hub=Hub(),
        emit=lambda event: None,
        should_stop=lambda: True,
        host=HostLoad.over([HostSample(cores=2.0, free_cores=0.0)]),
    )
    assert run.execute().outcome is Outcome.STOPPED
    assert torch.get_num_threads() == 2


@pytest.mark.slow
def test_more_workers_than_cores_are_pointed_out() -> None:
    events: list[Event] = []
    run = Run(
        record=RunRecord(run_id=1, config=CONFIG.with_values(dataloader_num_workers=3), outcome=Outcome.RUNNING),
        device=CpuDevice(),
        hub=Hub(),
        emit=events.append,
        should_stop=lambda: False,
    )
    assert run.execute().outcome is Outcome.COMPLETED
    told = "3 data-loader workers share 2 cores: --dataloader-num-workers 2 prepares as much."
    assert told in [event.detail for event in events if isinstance(event, RunProgress)]
