"""The sampler: reads GPU and host at a steady pace until told to stop. It makes no thread; `Session` does."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

from engine.contract.records import GpuSample, HostSample
from engine.telemetry.nvml import GpuKey

_LOG = logging.getLogger("traintop")


class GpuReader(Protocol):
    """What the sampler needs of `Nvml`."""

    def sample(self, key: GpuKey, /) -> GpuSample | None:
        """One reading of the GPU; None when there is none."""


class HostReader(Protocol):
    """What the sampler needs of `HostSampler`."""

    def sample(self) -> HostSample:
        """One reading of the host."""


class Sampler:
    """Hands a reading to `on_sample` every `interval_s` seconds of `clock`, the first at once.

    `on_sample` gets the selected GPUs in their order, None for one that NVML does not show. It is called on the thread
    of `run`.
    """

    def __init__(
        self,
        nvml: GpuReader,
        host: HostReader,
        *,
        interval_s: float = 0.5,
        on_sample: Callable[[tuple[GpuSample | None, ...], HostSample], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._nvml = nvml
        self._host = host
        self._interval_s = interval_s
        self._on_sample = on_sample
        self._clock = clock
        self._gpus: tuple[GpuKey | None, ...] = ()
        self._logged: set[str] = set()

    def select(self, *gpus: GpuKey | None) -> None:
        """Which GPUs to read from the next reading on; None for one that is not NVML's. May be called from any
        thread."""
        self._gpus = gpus

    def run(self, stop: threading.Event) -> None:
        """Read until `stop` is set. Never raises: a failure is logged the first time, and reading goes on."""
        due = self._clock()
        while not stop.is_set():
            self._tick()
            # from the last due time, not from now: the pace does not drift with the length of a reading; whole
            # intervals that were missed (a suspended laptop, a slow driver) are left out, not made up for
            due += self._interval_s * max(1.0, (self._clock() - due) // self._interval_s + 1)
            stop.wait(due - self._clock())

    def _tick(self) -> None:
        host = HostSample()
        gpus = tuple(map(self._sample, self._gpus))
        try:
            host = self._host.sample()
        except Exception as error:
            self._log("the host cannot be read", error)
        try:
            self._on_sample(gpus, host)
        except Exception as error:
            self._log("a reading could not be handed over", error)

    def _sample(self, key: GpuKey | None) -> GpuSample | None:
        try:
            return None if key is None else self._nvml.sample(key)
        except Exception as error:
            self._log("the GPU cannot be read", error)
            return None

    def _log(self, what: str, error: Exception) -> None:
        if what not in self._logged:
            self._logged.add(what)
            _LOG.error("Sampler: %s; it goes on (said once).", what, exc_info=error)
