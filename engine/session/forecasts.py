"""Forecasts of a session: for the device that a configuration would run on, with what its runs have taught."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from engine.contract.config import ConfigError, RunConfig
from engine.contract.device_name import read_device
from engine.contract.events import Forecasted, Proposed, WorkCounted
from engine.contract.forecast_types import Forecast, ForecastError, Foretold, Proposal
from engine.contract.records import DeviceInfo, RunRecord
from engine.devices import free, link_speeds, several
from engine.devices.open import DEFAULT_VIRTUAL_GPU, cuda_index, why_virtual
from engine.devices.several import rank_devices
from engine.devices.visible import describe, unlisted, uuid_of
from engine.forecast.forecast import Assumptions, Forecaster
from engine.forecast.learned import Learned, acceptance, guesses_of, learn, times
from engine.forecast.proposals import MAX_PROPOSALS, propose
from engine.gpus.catalogue import Gpu, UnknownGpuError, by_nvml_name, find
from engine.gpus.units import MIB
from engine.history.errors import HistoryError
from engine.history.history import History
from engine.plans.course import NAMED, Plan, PlannedRun
from engine.process.machine import Machine
from engine.scripts.names.named import Named, named
from engine.session.outside import OutsideMemory
from engine.techniques.refusals import missing_package
from engine.telemetry.nvml import Nvml, door
from engine.tracing.stack import CURRENT
from engine.training import own_models
from engine.training.hub import Hub

MOST_CARDS = 64
"""On which a run that did not fit is looked at again."""


class Forecasts:
    """Answers one question at a time, from any thread.

    `read_runs` reads the history; `outside` tells what is on a real GPU outside the allocator.
    """

    def __init__(
        self,
        hub: Hub,
        read_runs: Callable[[], Sequence[RunRecord]],
        nvml: Nvml,
        outside: OutsideMemory,
        own_model: own_models.Find | None = None,
    ) -> None:
        self._forecaster = Forecaster(hub, own_model)
        self._read_runs = read_runs
        self._nvml, self._outside_memory = nvml, outside
        self._learned: dict[tuple[object, ...], Learned] = {}
        self._accepted: dict[tuple[object, ...], float | None] = {}
        self._lock = threading.Lock()  # the forecaster itself is for one thread at a time

    def answer(self, config: RunConfig, reading: Callable[[], None] = lambda: None) -> Forecasted:
        """The forecast of `config`, or a sentence on why there is none; `reading` is told before data is read."""
        try:
            return Forecasted(config=config, forecast=self.forecast(config, reading))
        except (ConfigError, ForecastError) as error:
            return Forecasted(config=config, forecast=None, message=str(error))

    def forecast(
        self, config: RunConfig, reading: Callable[[], None] = lambda: None, *, stack: str | None = None
    ) -> Forecast:
        """The forecast on the device of `config`, under today's software or that of a `stack`.

        Raises `ConfigError` and `ForecastError`.
        """
        with self._lock:
            if config.is_script:
                return self._of_script(config, reading)
            return self._forecast(config, reading, stack)

    def _of_script(self, config: RunConfig, reading: Callable[[], None]) -> Forecast:
        """The forecast of what a command names; where it would compute on the CPU there is none."""
        read = named(config)
        if gpu_of(read.config, self._nvml)[1] is None:
            raise ForecastError("no forecast for the CPU: use traintop forecast --gpu NAME -- COMMAND")
        return told(read, self._forecast(read.config, reading, None, read.loop))

    def _forecast(
        self, config: RunConfig, reading: Callable[[], None], stack: str | None, loop: str = "trainer"
    ) -> Forecast:
        config = several.resolved(config, self._nvml)
        gpu, card = gpu_of(config, self._nvml)
        known = Assumptions(acceptance=self._acceptance(config), loop=loop)
        if stack is not None:
            return self._forecaster.forecast(config, gpu, replace(known, stack=stack), reading)
        if card is None:
            return self._forecaster.forecast(config, gpu, known, reading)
        learned = self._learned_of(gpu, card, config)
        given, sources = self._outside(gpu, card, learned, has_nccl=config.is_parallel)
        given = replace(given, link_rate=_link_rate(config, self._nvml), acceptance=known.acceptance, loop=loop)
        made = self._forecaster.forecast(config, gpu, given, reading)
        notes = (*made.notes, *sources)
        if learned.speed is None or made.samples_per_s is None:
            return replace(made, notes=notes)
        on = "this card" if learned.on_this_card else f"cards like this {gpu.name}"
        speed = f"Speed learned from {learned.n_speeds} runs on {on}."
        return replace(times(made, learned.speed), notes=(*notes, speed))

    def _outside(
        self, gpu: Gpu, card: DeviceInfo, learned: Learned, *, has_nccl: bool
    ) -> tuple[Assumptions, list[str]]:
        """Memory outside the allocator, and sentences on it: measured, else learned from runs, else assumed.

        `has_nccl`: NCCL has a part in it, which only runs tell.
        """
        outside = None if has_nccl and learned.outside_bytes is not None else self._outside_memory.on(card)
        if outside is not None:
            note = (
                f"Measured on this GPU: a context of {outside.context // MIB} MiB, {outside.libraries // MIB} MiB of "
                f"libraries, and {outside.others // MIB} MiB of other programs and the driver (with the context)."
            )
            context = outside.context + outside.others
            return Assumptions(context_bytes=context, library_bytes=outside.libraries), [note]
        beside = self._outside_memory.beside(card)
        notes = [_beside(beside)] if beside else []
        if learned.outside_bytes is not None:
            note = f"Learned from {learned.n_runs} runs: {learned.outside_bytes // MIB} MiB outside the allocator."
            given = Assumptions(context_bytes=learned.outside_bytes + beside, library_bytes=0, has_nccl=has_nccl)
            return given, [note, *notes]
        return Assumptions(beside_bytes=beside), notes

    def proposals(self, record: RunRecord) -> Proposed:
        """What would fit instead of a run that was out of memory: the same elsewhere, then something smaller."""
        try:
            elsewhere = self._elsewhere(record)
        except ConfigError:  # another version's device
            elsewhere = []
        smaller = propose(record.config, record.failed_phase, self.forecast, self._on_more_cards(record.config))
        return Proposed(run_id=record.run_id, proposals=(*elsewhere, *smaller)[:MAX_PROPOSALS])

    def _on_more_cards(self, config: RunConfig) -> list[RunConfig]:
        """The configuration on 2, 4, 8 … of the cards that are there, more than it has now."""
        name, found = read_device(config.device), []
        if name.kind == "cpu":
            return []
        device = "cuda" if name.kind == "cuda" and name.count == 1 else config.device
        gpus = 2
        while gpus <= MOST_CARDS:
            try:
                more = config.with_values(gpus=gpus, device=device)
                several.rank_devices(more, self._nvml, patient=False)
            except ConfigError:
                break
            found += [more] if gpus > (config.gpus or 1) else []
            gpus *= 2
        return found

    def _elsewhere(self, record: RunRecord) -> list[Proposal]:
        """The same run on a free card that has room for it: a smaller batch is no answer to a neighbour."""
        config, name = record.config, read_device(record.config.device)
        if name.kind not in ("auto", "cuda") or (record.device is not None and record.device.kind != "cuda"):
            return []
        index = cuda_index(name, config.device, self._nvml, patient=False)
        if index is None:
            return []
        there = record.device.uuid if record.device is not None else uuid_of(index)
        for seen in sorted(free.look(self._nvml), key=lambda seen: seen.rank):
            if seen.is_taken or seen.card.uuid == there:
                continue
            other = config.with_values(device=f"cuda:{seen.index}")
            made = self.answer(other).forecast
            if made is not None and made.fits:
                return [Proposal(label=f"the same on {other.device}", config=other, forecast=made)]
        return []

    def foretell(self, plan: Plan, stopped: Callable[[], bool] = lambda: False) -> Plan:
        """One of the experiments with the forecast of every row; other plans as they are.

        A row that wants for a package is passed over with the sentence how to get it. Repeats share the first one's
        forecast. Once `stopped` says so, the rest goes without.
        """
        if plan.name not in NAMED:
            return plan
        return replace(plan, runs=tuple(run if stopped() else self._foretold(run) for run in plan.runs))

    def _foretold(self, run: PlannedRun) -> PlannedRun:
        if not run.is_possible:
            return run
        if missing := missing_package(run.config):
            return replace(run, skip=missing, by_forecast=False)
        if run.config.is_parallel and run.skip is None and (why := self._beyond(run.config)):
            run = replace(run, skip=why, by_forecast=True)
        if run.repeat > 1 or run.config.device == "cpu" or run.search:
            return run
        try:
            made = self.forecast(run.config, stack=run.stack)
        except (ConfigError, ForecastError) as error:
            return replace(run, skip=f"{run.skip}, and {error}", by_forecast=False) if run.by_forecast else run
        return replace(run, foretold=Foretold.of(made))

    def _beyond(self, config: RunConfig) -> str | None:
        """Why there are too few GPUs here for it, in a few words; None where there are enough."""
        try:
            rank_devices(config, self._nvml, patient=False)
        except ConfigError as error:
            if error.knob != "gpus":
                return None
            cores = Machine().threads()
            is_virtual = read_device(config.device).kind == "virtual" or not self._nvml.device_count()
            return f"a virtual GPU takes a core, of {cores} here" if is_virtual else "there are fewer GPUs here"
        return None

    def hopeless(self, config: RunConfig) -> str | None:
        """Why `config` surely does not fit; None where it may, or where nothing is sure, as of a script."""
        if config.is_script:
            return None
        try:
            made = self.forecast(config)
        except (ConfigError, ForecastError):
            return None
        if made.fits or made.near_limit:
            return None
        return f"forecast: {made.peak_used / 2**20:,.0f} of {made.limit / 2**20:,.0f} MiB"

    def count(self, run_id: int, config: RunConfig) -> WorkCounted | None:
        """What a run on a real GPU computes per token; None on another device, and where it cannot be counted.

        Of a script it is not: its model is known by a name alone.
        """
        if config.is_script:
            return None
        try:
            gpu, card = gpu_of(config, self._nvml)
            peak = gpu.peak(config.computed_in) if card is not None else None
            made = self.forecast(config) if peak else None
        except (ConfigError, ForecastError):
            return None
        if not peak or made is None or not made.tokens_per_sample:
            return None
        per_token = made.model_flops_per_sample / made.tokens_per_sample
        return WorkCounted(run_id=run_id, flops_per_token=per_token, peak_flops_per_s=peak * (config.gpus or 1))

    def speed(self, config: RunConfig) -> float | None:
        """The samples/s that a run would have; None where it would not be on a real GPU, and without a forecast."""
        if config.is_script:  # how many samples it trains on is not known
            return None
        try:
            _, card = gpu_of(config, self._nvml)
            return self.forecast(config).samples_per_s if card is not None else None
        except (ConfigError, ForecastError):
            return None

    def card_speed(self, config: RunConfig) -> float | None:
        """The samples/s of the card that a virtual GPU stands for; None on another device, and without a forecast."""
        try:
            _, card = gpu_of(config, self._nvml)
            return None if card is not None else self.forecast(config).samples_per_s
        except (ConfigError, ForecastError):
            return None

    def forget_learned(self) -> None:
        """A run ended: what is known of its card, and of its guesses, is read again when it is asked for."""
        self._learned, self._accepted = {}, {}  # others: what another thread is learning now is too old for them

    def _acceptance(self, config: RunConfig) -> float | None:
        """Of guesses, as earlier runs had it."""
        if not config.answers or config.speculate == "off":
            return None
        known, key = self._accepted, guesses_of(config)
        if key not in known:
            try:
                known[key] = acceptance(self._read_runs(), key)
            except HistoryError:  # told where the history is written; the next forecast tries again
                return None
        return known[key]

    def _learned_of(self, gpu: Gpu, card: DeviceInfo, config: RunConfig) -> Learned:
        """From runs with the same job on as many GPUs."""
        gpus = config.gpus or 1
        known, key = self._learned, (card.name, card.uuid, card.software, gpus, config.job)
        if key not in known:
            try:
                of = config.job, gpus
                records = [record for record in self._read_runs() if (record.config.job, record.config.gpus) == of]
            except HistoryError:  # told where the history is written; the next forecast tries again
                return Learned()
            known[key] = learn(records, card, lambda record: self._forecaster.forecast(record.config, gpu))
        return known[key]


def told(read: Named, made: Forecast) -> Forecast:
    """The forecast of what a command names, with what was assumed of the command before its other notes."""
    return replace(made, notes=(*read.assumed, *made.notes))


def gpu_of(config: RunConfig, nvml: Nvml) -> tuple[Gpu, DeviceInfo | None]:
    """The GPU that `config` would run on, as the catalogue has it, and the card that is there; None: it is virtual.

    A card that the catalogue lacks is asked what it is. Raises `ForecastError` for the CPU, and `ConfigError` for a
    card that is not there.
    """
    name = read_device(config.device)
    if name.kind == "cpu":
        raise ForecastError("no forecast for the CPU: its memory is the whole process's")
    index = None if name.kind == "virtual" else cuda_index(name, config.device, nvml, patient=False)
    if index is None:
        return find(name.gpu or DEFAULT_VIRTUAL_GPU), None
    cards = _cards(config, nvml) or (describe(index, nvml),)
    card = min(cards, key=lambda each: each.memory_total or 0)  # it decides what fits
    return by_nvml_name(card.name, card.memory_total or 0) or unlisted(card.index or 0, card), card


def _cards(config: RunConfig, nvml: Nvml) -> tuple[DeviceInfo, ...]:
    """The CUDA cards of a run on several; none where there are not so many, which is said when it is to run."""
    if not config.is_parallel:
        return ()
    try:
        return several.describe(several.rank_devices(config, nvml, patient=False), config, nvml)
    except ConfigError:
        return ()


def _link_rate(config: RunConfig, nvml: Nvml) -> float | None:
    """Bytes/s among the cards of a run on several, where that was measured."""
    uuids = [card.uuid for card in _cards(config, nvml) if card.kind == "cuda"]
    return link_speeds.known(link_speeds.number_of(uuid or "") for uuid in uuids) if uuids else None


@dataclass(frozen=True, kw_only=True)
class Terms:
    """On which GPU a forecast without a session is made, and what is given for it (see `Assumptions`)."""

    gpu: str | None = None
    """Of the catalogue; None: each configuration's own device."""
    stack: str = CURRENT.name
    context_bytes: int | None = None
    library_bytes: int | None = None
    loop: str | None = None
    """Whose training loop it is; None: the Trainer's, and of a script as it is seen there."""
    given: frozenset[str] = frozenset()
    """Knobs that no stack may set."""
    link: str | None = None
    """What joins several GPUs."""


def forecast_all(configs: Sequence[RunConfig], terms: Terms = Terms()) -> list[Forecast]:
    """Forecasts without a session. Raises `ConfigError` and `ForecastError`."""
    hub = Hub()
    hub.probe()
    forecaster, nvml, gpu = Forecaster(hub, _own_model), door(), _named_gpu(terms.gpu)
    assumed = Assumptions(
        stack=terms.stack,
        loop=terms.loop or "trainer",
        given=terms.given,
        context_bytes=terms.context_bytes,
        library_bytes=terms.library_bytes,
        link=terms.link,
    )
    if gpu is not None:
        return [forecaster.forecast(config, gpu, assumed) for config in configs]
    made = [_on_its_own(config, forecaster, assumed, nvml) for config in configs]
    note = why_virtual(configs[0], nvml)
    return [replace(each, notes=(note, *each.notes)) for each in made] if note else made


def forecast_scripts(configs: Sequence[RunConfig], terms: Terms) -> tuple[list[RunConfig], list[Forecast]]:
    """The trainings that commands name, and their forecasts as `forecast_all` makes them.

    Raises `ConfigError` and `ForecastError`, also where a command does not say what it trains.
    """
    read = [named(config) for config in configs]
    trainings = [each.config for each in read]
    made = forecast_all(trainings, replace(terms, loop=terms.loop or read[0].loop))
    return trainings, [told(*each) for each in zip(read, made, strict=True)]


def _own_model(name: str) -> own_models.OwnModel:
    """By the history of this user. Raises `ConfigError`."""
    try:
        with History(read_only=True) as history:
            return own_models.find(name, history.run, None)
    except HistoryError as error:
        raise ConfigError("model", f"--model {name} cannot be found: {error}") from None


def _on_its_own(config: RunConfig, forecaster: Forecaster, given: Assumptions, nvml: Nvml) -> Forecast:
    """The forecast on a configuration's own device; of a card that is there, beside those who are on it now."""
    config = several.resolved(config, nvml)
    given = replace(given, link_rate=_link_rate(config, nvml))
    gpu, card = gpu_of(config, nvml)
    beside = OutsideMemory(nvml).beside(card) if card is not None and given.stack == CURRENT.name else 0
    if not beside or given.context_bytes is not None:
        return forecaster.forecast(config, gpu, given)
    made = forecaster.forecast(config, gpu, replace(given, beside_bytes=beside))
    return replace(made, notes=(*made.notes, _beside(beside)))


def _beside(n_bytes: int) -> str:
    return f"Other processes have {n_bytes // MIB} MiB of this GPU now (with the context)."


def _named_gpu(name: str | None) -> Gpu | None:
    try:
        return None if name is None else find(name)
    except UnknownGpuError as error:
        like = f"--gpu {error.nearest or 'ONE-LIKE-IT'} --vram-limit MIB"
        message = f"--gpu: {error} For a card that it lacks, take one like it with that card's memory: {like}."
        raise ConfigError("device", message) from None
