"""When a host counts as busy, and what a run's row says of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.contract.figures import HOST_BUSY, status_of
from engine.contract.host_load import HostLoad, taken
from engine.contract.marks import marks_of, sentences, why_no_verdict
from engine.contract.records import DeviceInfo, HostSample, Outcome, Phase, RunRecord
from tests.engine.lecture_runs import run

RUN = replace(run(), device=DeviceInfo(name="Xeon", kind="cpu"), host_cores=2.0)
ON_GPU = replace(RUN, device=DeviceInfo(name="Tesla P4", kind="cuda"), host_cores=64.0)


def is_marked(record: RunRecord) -> bool:
    return [mark.word for mark in marks_of(record)] == ["host busy"]


def test_readings_add_up_to_means_and_unknown_ones_are_left_out() -> None:
    samples = [HostSample(cores=2.0, free_cores=free) for free in (2.0, 1.0)]
    load = HostLoad.over([*samples, HostSample()])
    assert (load.n, load.cores, load.free) == (2, 2.0, 1.5)
    assert (HostLoad().cores, HostLoad().free) == (None, None)


@pytest.mark.parametrize(("free", "busy"), [(None, False), (2.0, False), (1.85, False), (1.75, True), (0.0, True)])
def test_on_the_cpu_a_tenth_of_the_cores_is_much(free: float | None, busy: bool) -> None:
    assert is_marked(replace(RUN, host_free_cores=free)) is busy


@pytest.mark.parametrize(
    ("free", "workers", "busy"), [(32.0, 0, False), (32.0, 31, False), (32.0, 40, True), (0.5, 0, True)]
)
def test_on_a_gpu_what_its_work_needs_must_be_free(free: float, workers: int, busy: bool) -> None:
    config = RUN.config.with_values(dataloader_num_workers=workers)
    assert is_marked(replace(ON_GPU, config=config, host_free_cores=free)) is busy


def test_the_row_says_how_busy() -> None:
    busy = replace(RUN, host_free_cores=0.5)
    assert status_of(busy) == "completed, host busy"
    assert sentences(busy) == [
        "Host busy 75 %: other programs took 1.5 of 2 cores, and on a quiet host it would be faster."
    ]
    assert why_no_verdict([RUN, busy]) == "run 1 was on a busy host"
    died = replace(busy, outcome=Outcome.OUT_OF_MEMORY, failed_phase=Phase.FORWARD)
    assert status_of(died) == "out of memory in forward, host busy"
    assert status_of(replace(RUN, host_free_cores=1.9)) == "completed"
    assert HOST_BUSY.read(replace(RUN, host_free_cores=1.9)) == pytest.approx(0.05)
    assert HOST_BUSY.of(RUN) == "–"


def test_in_words() -> None:
    assert taken(2.0, 0.06) == "other programs take 1.9 of 2 cores"
    assert taken(1.5, 0.5) == "other programs take 1.0 of 1.5 cores"
