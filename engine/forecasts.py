"""Forecasts of a session: for the device that a configuration would run on, with what its runs have taught."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from engine.config import ConfigError, RunConfig
from engine.devices import DEFAULT_VIRTUAL_GPU
from engine.events import Forecasted, Proposed, RunRecord
from engine.hub import Hub
from engine.memory.catalogue import Gpu, UnknownGpuError, by_nvml_name, find
from engine.memory.forecast import Assumptions, Forecaster
from engine.memory.forecast_types import Forecast, ForecastError
from engine.memory.learned import Learned, learn
from engine.memory.proposals import propose


class Forecasts:
    """Answers one question at a time, from any thread. `read_runs` reads the history."""

    def __init__(self, hub: Hub, read_runs: Callable[[], Sequence[RunRecord]]) -> None:
        self._forecaster = Forecaster(hub)
        self._read_runs = read_runs
        self._learned: dict[str, Learned] = {}
        self._lock = threading.Lock()  # the forecaster itself is for one thread at a time

    def answer(self, config: RunConfig) -> Forecasted:
        """The forecast of `config`, or a sentence on why there is none."""
        try:
            return Forecasted(config=config, forecast=self.forecast(config))
        except (ConfigError, ForecastError) as error:
            return Forecasted(config=config, forecast=None, message=str(error))

    def forecast(self, config: RunConfig) -> Forecast:
        """The forecast on the device of `config`. Raises `ConfigError` and `ForecastError`."""
        with self._lock:
            return self._forecast(config)

    def _forecast(self, config: RunConfig) -> Forecast:
        gpu, is_real = gpu_of(config)
        if not is_real:
            return self._forecaster.forecast(config, gpu)
        learned = self._learned_of(gpu)
        outside = learned.outside_bytes
        given = Assumptions() if outside is None else Assumptions(context_bytes=outside, library_bytes=0)
        made = self._forecaster.forecast(config, gpu, given)
        if not learned.n_runs:
            return made
        speed = made.samples_per_s and made.samples_per_s * (learned.speed or 1.0)
        note = f"Learned from {learned.n_runs} runs on this {gpu.name}: memory outside the allocator, and speed."
        return replace(made, samples_per_s=speed, notes=(*made.notes, note))

    def proposals(self, record: RunRecord) -> Proposed:
        """What would fit instead of a run that was out of memory."""
        return Proposed(
            run_id=record.run_id, proposals=tuple(propose(record.config, record.failed_phase, self.forecast))
        )

    def hopeless(self, config: RunConfig) -> str | None:
        """Why `config` surely does not fit; None where it may, or where nothing is known."""
        try:
            made = self.forecast(config)
        except (ConfigError, ForecastError):
            return None
        if made.fits or made.near_limit:
            return None
        return f"forecast: {made.peak_used / 2**20:,.0f} of {made.limit / 2**20:,.0f} MiB"

    def forget_learned(self) -> None:
        """A run ended: what is known of its card is read again when it is asked for."""
        self._learned.clear()

    def _learned_of(self, gpu: Gpu) -> Learned:
        if gpu.name not in self._learned:
            self._learned[gpu.name] = learn(
                self._read_runs(), gpu.name, lambda record: self._forecaster.forecast(record.config, gpu)
            )
        return self._learned[gpu.name]


def gpu_of(config: RunConfig) -> tuple[Gpu, bool]:
    """The GPU that `config` would run on, and whether it is really there.

    Raises `ForecastError` for the CPU, and for a card that the catalogue does not know.
    """
    import torch

    kind, _, name = config.device.partition(":")
    if kind == "cpu":
        raise ForecastError("no forecast for the CPU: its memory is the whole process's")
    if kind == "virtual" or not torch.cuda.is_available():
        return find(name if kind == "virtual" and name else DEFAULT_VIRTUAL_GPU), False
    properties = torch.cuda.get_device_properties(int(name or 0))
    gpu = by_nvml_name(properties.name, int(properties.total_memory))
    if gpu is None:
        raise ForecastError(f"no forecast: {properties.name} is not in the catalogue of GPUs")
    return replace(gpu, memory_total=int(properties.total_memory), usable_bytes=int(properties.total_memory)), True


def forecast_all(
    configs: Sequence[RunConfig], gpu: str | None, stack: str, context_bytes: int | None, library_bytes: int | None
) -> list[Forecast]:
    """Forecasts without a session: on `gpu` of the catalogue, else on each configuration's own device.

    Raises `ConfigError` and `ForecastError`.
    """
    hub = Hub()
    hub.probe()
    forecaster = Forecaster(hub)
    given = Assumptions(stack=stack, context_bytes=context_bytes, library_bytes=library_bytes)
    return [forecaster.forecast(config, _named_gpu(gpu) or gpu_of(config)[0], given) for config in configs]


def _named_gpu(name: str | None) -> Gpu | None:
    try:
        return None if name is None else find(name)
    except UnknownGpuError as error:
        raise ConfigError("device", f"--gpu: {error}") from None
