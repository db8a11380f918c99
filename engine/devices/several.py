"""The cards of a run on several GPUs: which rank takes which, and opening one of them.

All but `open_rank` is for the process that starts the ranks: it makes no context on any card.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from engine.contract.config import ConfigError, RunConfig
from engine.contract.device_name import DeviceName, read_device
from engine.contract.numbers import n_of
from engine.contract.records import DeviceInfo
from engine.contract.text import counted
from engine.devices.base import Device
from engine.devices.open import DEFAULT_VIRTUAL_GPU, shows_cards
from engine.process.machine import Machine
from engine.telemetry.nvml import Nvml


def rank_devices(config: RunConfig, nvml: Nvml, *, patient: bool = True) -> tuple[str, ...]:
    """What each rank's card is called, `cuda:2` or `virtual:tesla-p4`; with `--gpus all` as many as there are.

    For free ones see `free.choose_several`; `patient` is as in `open.cuda_index`. Raises `ConfigError` where there are
    fewer cards, or cores for virtual ones, than ranks.
    """
    name = read_device(config.device)
    if name.kind == "virtual":
        return _virtual(name.gpu, name.count if config.gpus is None else config.gpus)
    if not shows_cards(name, config.device, nvml):
        return _virtual(DEFAULT_VIRTUAL_GPU, config.gpus)
    return tuple(f"cuda:{index}" for index in _ordinals(name, config, nvml, patient=patient))


def resolved(config: RunConfig, nvml: Nvml) -> RunConfig:
    """The configuration with a number for `--gpus all`. Raises `ConfigError` as `rank_devices` does."""
    return config if config.gpus is not None else config.with_values(gpus=len(rank_devices(config, nvml)))


def open_rank(name: str, config: RunConfig, nvml: Nvml) -> Device:
    """The card that `rank_devices` called `name`, in its rank's process; `config` is that of the whole run."""
    from engine.devices.cuda import CudaDevice
    from engine.devices.virtual import VirtualDevice

    card = read_device(name)
    if card.kind == "virtual":
        return VirtualDevice(card.gpu, config)
    assert card.index is not None
    return CudaDevice(card.index, nvml, config.vram_limit)


def describe(names: Sequence[str], config: RunConfig, nvml: Nvml) -> tuple[DeviceInfo, ...]:
    """The cards of `names`, as `open_rank` would tell of them."""
    return tuple(_described(read_device(name), config, nvml) for name in names)


def difference(cards: Sequence[DeviceInfo]) -> str | None:
    """A sentence where the cards are of several models, of which nothing else would speak."""
    models = [card.name for card in cards]
    if len(set(models)) < 2:
        return None
    return f"The cards differ ({counted(models)}): all wait for the slowest, and a batch must fit the smallest."


def _ordinals(name: DeviceName, config: RunConfig, nvml: Nvml, *, patient: bool) -> tuple[int, ...]:
    from engine.devices import free, visible

    if name.card:
        return (visible.ordinal_of(name.card, nvml),)
    if name.free:
        wanted = config.gpus if config.gpus is not None else name.count
        if patient:
            return free.choose_several(name, nvml, wanted)
        return free.choose_several(replace(name, shared=True), nvml, wanted, n_readings=1)
    n_shown = visible.count()
    named = name.indices or ((name.index,) if name.index is not None and name.count == 1 else tuple(range(n_shown)))
    wanted = len(named) if config.gpus is None else config.gpus
    missing = next((index for index in named[:wanted] if index is None or index >= n_shown), None)
    if missing is not None:
        there = "cuda:0" if n_shown == 1 else f"cuda:0 to cuda:{n_shown - 1}"
        raise ConfigError("device", f"--device {config.device}: cuda:{missing} is not there: use {there}.")
    if wanted > len(named):
        raise ConfigError("gpus", _too_few(wanted, n_shown, nvml))
    return tuple(index for index in named[:wanted] if index is not None)


def _too_few(wanted: int, n_shown: int, nvml: Nvml) -> str:
    """A rank for each card: NCCL refuses two on one."""
    there = n_of(n_shown, "card")
    fix = "--gpus 1" if n_shown == 1 else f"--gpus {n_shown} or all"
    hidden = nvml.device_count() - n_shown
    more = f" of this machine's {nvml.device_count()}" if hidden > 0 else ""
    return (
        f"--gpus {wanted} needs a card for each rank, and CUDA shows {there}{more} to this process: use {fix}, or "
        f"traintop forecast --gpus {wanted}, which needs none."
    )


def _virtual(gpu: str, wanted: int | None) -> tuple[str, ...]:
    cores = Machine().threads()
    if wanted is not None and wanted > cores:
        fix = "--gpus 1" if cores == 1 else f"--gpus {cores}"
        raise ConfigError(
            "gpus",
            f"--gpus {wanted} on virtual GPUs can only be forecast here: each computes on a core of its own, and there "
            f"{'is 1' if cores == 1 else f'are {cores}'}. Use {fix}, or traintop forecast --gpu {gpu} --gpus {wanted}.",
        )
    return (f"virtual:{gpu}",) * (cores if wanted is None else wanted)


def _described(card: DeviceName, config: RunConfig, nvml: Nvml) -> DeviceInfo:
    if card.kind == "virtual":
        from engine.devices.virtual import described

        return described(card.gpu, config)
    from engine.devices import cuda

    assert card.index is not None
    return cuda.described(card.index, nvml, config.vram_limit)
