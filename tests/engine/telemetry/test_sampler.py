"""The sampler on a clock that only its own waits and readings move: no sleeping, no threads."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import pytest

from engine.contract.records import GpuSample, HostSample
from engine.telemetry.nvml import GpuKey, Nvml
from engine.telemetry.sampler import Sampler

_Reading = tuple[tuple[GpuSample | None, ...], HostSample]


class _Stop(threading.Event):
    """An event whose waits pass at once and move the clock; it is set after `waits` of them."""

    def __init__(self, waits: int) -> None:
        super().__init__()
        self.now = 100.0
        self.waits = waits

    def clock(self) -> float:
        return self.now

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.now += max(0.0, timeout)
        self.waits -= 1
        if self.waits == 0:
            self.set()
        return self.is_set()


class _Gpu:
    def __init__(self) -> None:
        self.keys: list[GpuKey] = []
        self.fails = False

    def sample(self, key: GpuKey, /) -> GpuSample | None:
        self.keys.append(key)
        if self.fails:
            raise RuntimeError("the driver did something new")
        return GpuSample(name=f"GPU {key}")


class _Host:
    def __init__(self, before: Callable[[], None] = lambda: None) -> None:
        self.before = before

    def sample(self) -> HostSample:
        self.before()
        return HostSample(cpu=12.5)


def _run(stop: _Stop, gpu: _Gpu, host: _Host, *, key: GpuKey | None = 0, interval_s: float = 0.5) -> list[float]:
    """Run to the stop; the times of the readings."""
    times: list[float] = []
    sampler = Sampler(
        gpu, host, interval_s=interval_s, on_sample=lambda *_: times.append(stop.now - 100), clock=stop.clock
    )
    sampler.select(key)
    sampler.run(stop)
    return times


def test_hands_over_both_readings_at_once_and_then_at_every_interval() -> None:
    stop = _Stop(waits=4)
    readings: list[tuple[float, tuple[GpuSample | None, ...], HostSample]] = []
    sampler = Sampler(
        _Gpu(), _Host(), on_sample=lambda gpus, host: readings.append((stop.now - 100, gpus, host)), clock=stop.clock
    )
    sampler.select("GPU-1")
    sampler.run(stop)
    assert [at for at, _, _ in readings] == [0.0, 0.5, 1.0, 1.5]
    assert {(gpus, host.cpu) for _, gpus, host in readings} == {((GpuSample(name="GPU GPU-1"),), 12.5)}


def test_the_pace_does_not_drift_with_slow_readings() -> None:
    stop = _Stop(waits=1000)

    def take_time() -> None:
        stop.now += 0.3

    times = _run(stop, _Gpu(), _Host(take_time))
    assert times == pytest.approx([0.3 + 0.5 * i for i in range(1000)])


def test_missed_readings_are_left_out_and_not_made_up_for() -> None:
    stop = _Stop(waits=4)
    pauses = iter([0.0, 60.2, 0.0, 0.0])

    def suspend() -> None:
        stop.now += next(pauses)

    assert _run(stop, _Gpu(), _Host(suspend)) == pytest.approx([0.0, 60.7, 61.0, 61.5])


def test_a_reading_that_takes_longer_than_the_interval_still_leaves_time_to_stop() -> None:
    stop = _Stop(waits=3)

    def take_long() -> None:
        stop.now += 0.5

    assert _run(stop, _Gpu(), _Host(take_long)) == pytest.approx([0.5, 1.5, 2.5])


def test_does_nothing_when_stopped_before_it_starts() -> None:
    stop = _Stop(waits=1)
    stop.set()
    assert _run(stop, _Gpu(), _Host()) == []


def test_stops_between_two_readings_without_waiting_out_the_interval() -> None:
    stop = threading.Event()
    thread = threading.Thread(
        target=Sampler(_Gpu(), _Host(), interval_s=3600, on_sample=lambda *_: started.set()).run, args=(stop,)
    )
    started = threading.Event()
    thread.start()
    assert started.wait(60)
    stop.set()
    thread.join(60)
    assert not thread.is_alive()


def test_reads_no_gpu_until_one_is_selected_and_follows_the_selection() -> None:
    stop, gpu = _Stop(waits=4), _Gpu()
    names: list[list[str | None]] = []
    keys: list[tuple[GpuKey | None, ...]] = [(1,), ("GPU-2", None, 3), (None,)]

    def on_sample(reading: tuple[GpuSample | None, ...], _: HostSample) -> None:
        names.append([gpu.name if gpu else None for gpu in reading])
        if keys:
            sampler.select(*keys.pop(0))

    sampler = Sampler(gpu, _Host(), on_sample=on_sample, clock=stop.clock)
    sampler.run(stop)
    assert names == [[], ["GPU 1"], ["GPU GPU-2", None, "GPU 3"], [None]]
    assert gpu.keys == [1, "GPU-2", 3]


def test_a_failing_gpu_is_logged_once_and_the_host_is_still_read(caplog: pytest.LogCaptureFixture) -> None:
    stop, gpu = _Stop(waits=3), _Gpu()
    gpu.fails = True
    readings: list[_Reading] = []
    sampler = Sampler(gpu, _Host(), on_sample=lambda *reading: readings.append(reading), clock=stop.clock)
    sampler.select(0)
    with caplog.at_level(logging.INFO):
        sampler.run(stop)
    assert readings == [((None,), HostSample(cpu=12.5))] * 3
    assert len(caplog.records) == 1
    assert "the GPU cannot be read" in caplog.text
    assert "the driver did something new" in caplog.text


def test_a_failing_host_and_a_failing_receiver_are_logged_once_each(caplog: pytest.LogCaptureFixture) -> None:
    stop = _Stop(waits=3)
    readings: list[_Reading] = []

    def fail() -> None:
        raise ValueError("no /proc")

    def on_sample(gpus: tuple[GpuSample | None, ...], host: HostSample) -> None:
        readings.append((gpus, host))
        raise KeyError("receiver")

    sampler = Sampler(_Gpu(), _Host(fail), on_sample=on_sample, clock=stop.clock)
    sampler.select(0)
    sampler.run(stop)
    assert readings == [((GpuSample(name="GPU 0"),), HostSample())] * 3
    assert [record.message for record in caplog.records] == [
        "Sampler: the host cannot be read; it goes on (said once).",
        "Sampler: a reading could not be handed over; it goes on (said once).",
    ]


def test_takes_the_nvml_door_as_it_is() -> None:
    stop = _Stop(waits=1)
    nvml = Nvml()
    readings: list[_Reading] = []
    sampler = Sampler(nvml, _Host(), on_sample=lambda *reading: readings.append(reading), clock=stop.clock)
    sampler.select("GPU-that-is-not-there")
    sampler.run(stop)
    nvml.shutdown()
    assert readings == [((None,), HostSample(cpu=12.5))]
