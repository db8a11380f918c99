"""Forecasts of a session: for the device that a configuration would run on, with what its runs have taught."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from engine.contract.config import ConfigError, RunConfig
from engine.contract.events import Forecasted, Proposed, WorkCounted
from engine.contract.forecast_types import Forecast, ForecastError
from engine.contract.records import RunRecord
from engine.devices.cuda import Outside
from engine.devices.open import DEFAULT_VIRTUAL_GPU
from engine.forecast.forecast import Assumptions, Forecaster
from engine.forecast.learned import Learned, learn
from engine.forecast.proposals import propose
from engine.gpus.catalogue import Gpu, UnknownGpuError, by_nvml_name, find
from engine.gpus.units import MIB
from engine.history.errors import HistoryError
from engine.training.hub import Hub


class Forecasts:
    """Answers one question at a time, from any thread.

    `read_runs` reads the history; `read_outside` tells what is on the real GPU outside the allocator, where that was
    measured.
    """

    def __init__(
        self,
        hub: Hub,
        read_runs: Callable[[], Sequence[RunRecord]],
        read_outside: Callable[[], Outside] | None = None,
    ) -> None:
        self._forecaster = Forecaster(hub)
        self._read_runs = read_runs
        self._read_outside = read_outside
        self._learned: dict[str, Learned] = {}
        self._lock = threading.Lock()  # the forecaster itself is for one thread at a time

    def answer(self, config: RunConfig, reading: Callable[[], None] = lambda: None) -> Forecasted:
        """The forecast of `config`, or a sentence on why there is none; `reading` is told before data is read."""
        try:
            return Forecasted(config=config, forecast=self.forecast(config, reading))
        except (ConfigError, ForecastError) as error:
            return Forecasted(config=config, forecast=None, message=str(error))

    def forecast(self, config: RunConfig, reading: Callable[[], None] = lambda: None) -> Forecast:
        """The forecast on the device of `config`. Raises `ConfigError` and `ForecastError`."""
        with self._lock:
            return self._forecast(config, reading)

    def _forecast(self, config: RunConfig, reading: Callable[[], None]) -> Forecast:
        gpu, is_real = gpu_of(config)
        if not is_real:
            return self._forecaster.forecast(config, gpu, reading=reading)
        learned = self._learned_of(gpu)
        given, source = self._outside(learned)
        made = self._forecaster.forecast(config, gpu, given, reading)
        notes = made.notes if source is None else (*made.notes, source)
        if learned.speed is None or made.samples_per_s is None:
            return replace(made, notes=notes)
        speed = f"Speed learned from {learned.n_runs} runs on this {gpu.name}."
        return replace(made, samples_per_s=made.samples_per_s * learned.speed, notes=(*notes, speed))

    def _outside(self, learned: Learned) -> tuple[Assumptions, str | None]:
        """Memory outside the allocator, and a sentence on it: measured, else learned from runs, else assumed."""
        if self._read_outside is not None:
            outside = self._read_outside()
            note = (
                f"Measured on this GPU: a context of {outside.context // MIB} MiB, {outside.libraries // MIB} MiB of "
                f"libraries, and {outside.others // MIB} MiB of other programs and the driver (with the context)."
            )
            context = outside.context + outside.others
            return Assumptions(context_bytes=context, library_bytes=outside.libraries), note
        if learned.outside_bytes is not None:
            note = f"Learned from {learned.n_runs} runs: {learned.outside_bytes // MIB} MiB outside the allocator."
            return Assumptions(context_bytes=learned.outside_bytes, library_bytes=0), note
        return Assumptions(), None

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

    def count(self, run_id: int, config: RunConfig) -> WorkCounted | None:
        """What a run on a real GPU computes per token; None on another device, and where it cannot be counted."""
        try:
            gpu, is_real = gpu_of(config)
            peak = gpu.peak(config.precision) if is_real else None
            made = self.forecast(config) if peak else None
        except (ConfigError, ForecastError):
            return None
        if not peak or made is None or not made.tokens_per_sample:
            return None
        per_token = made.model_flops_per_sample / made.tokens_per_sample
        return WorkCounted(run_id=run_id, flops_per_token=per_token, peak_flops_per_s=peak)

    def card_speed(self, config: RunConfig) -> float | None:
        """The samples/s of the card that a virtual GPU stands for; None on another device, and without a forecast."""
        try:
            _, is_real = gpu_of(config)
            return None if is_real else self.forecast(config).samples_per_s
        except (ConfigError, ForecastError):
            return None

    def forget_learned(self) -> None:
        """A run ended: what is known of its card is read again when it is asked for."""
        self._learned = {}  # another one: what another thread is learning now is too old for it

    def _learned_of(self, gpu: Gpu) -> Learned:
        known = self._learned
        if gpu.name not in known:
            try:
                records = self._read_runs()
            except HistoryError:  # told where the history is written; the next forecast tries again
                return Learned()
            known[gpu.name] = learn(records, gpu.name, lambda record: self._forecaster.forecast(record.config, gpu))
        return known[gpu.name]


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
    return gpu, True


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
