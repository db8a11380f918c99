"""The cards that CUDA shows to this process, and which of them a name means.

CUDA numbers what `CUDA_VISIBLE_DEVICES` leaves, in the order of `CUDA_DEVICE_ORDER` (the fastest first, where it is
not set); NVML numbers all cards by their PCI address. So the two are joined by UUID, whatever made the difference:
the variables, Slurm's cgroups, a container. Nothing here makes a context on a card.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping

import torch

from engine.contract.config import ConfigError
from engine.contract.device_name import DeviceName, visible_name
from engine.contract.records import DeviceInfo
from engine.gpus.catalogue import Gpu
from engine.telemetry.cards import CardReader
from engine.telemetry.nvml import GpuInfo, Nvml

_VARIABLE = "CUDA_VISIBLE_DEVICES"
_was_asked = False
"""Whether CUDA was asked for its cards: from then on it looks at no variable."""


def is_available(name: DeviceName) -> bool:
    """Whether PyTorch can use any GPU. The first to ask may name a MIG instance, which is then the one shown."""
    global _was_asked
    if not _was_asked:
        _show_instance(name.card, os.environ)
        _was_asked = True
    return torch.cuda.is_available()


def _show_instance(card: str, environment: MutableMapping[str, str]) -> None:
    """Have CUDA show the MIG instance `card`, where it may be seen: of several it shows a process only the first.

    (CUDA C++ Programming Guide, and "Device enumeration" in NVIDIA's MIG user guide.)
    """
    visible = environment.get(_VARIABLE)
    if card.startswith("MIG-") and (visible is None or card in visible.split(",")):
        environment[_VARIABLE] = card


def check_slice(card: str, nvml: Nvml) -> None:
    """Raises `ConfigError` where NVML shows that no card is cut into MIG instances, of which `card` would be one."""
    cards = CardReader(nvml).read().cards
    if not cards or any(each.lost for each in cards):
        return
    if not any(each.mig or each.slices for each in cards):
        raise ConfigError(
            "device", f"--device {card}: {card} is not there: no card of this machine is cut into MIG slices."
        )


def count() -> int:
    """How many cards CUDA shows."""
    return torch.cuda.device_count()


def bare(uuid: str) -> str:
    """A UUID as it compares: NVML writes `GPU-` or `MIG-` in front, torch does not."""
    return uuid.removeprefix("GPU-").removeprefix("MIG-").lower()


def uuid_of(index: int) -> str:
    """The UUID of a card, or MIG instance, as NVML writes it."""
    named = visible_name(index, os.environ)
    return named if named.startswith("MIG-") else f"GPU-{torch.cuda.get_device_properties(index).uuid}"


def has_context(index: int) -> bool:
    """Whether this process has a CUDA context on a card: a few hundred MiB."""
    return bool(torch._C._cuda_hasPrimaryContext(index))  # type: ignore[attr-defined]


def describe(index: int, nvml: Nvml) -> DeviceInfo:
    """The card `cuda:index`. Its memory is NVML's figure, where there is one: CUDA's lacks what the driver keeps."""
    properties, uuid, gpus = torch.cuda.get_device_properties(index), uuid_of(index), nvml.gpus()
    gpu = next((gpu for gpu in gpus if gpu.uuid is not None and bare(gpu.uuid) == bare(uuid)), None)
    card = nvml.sample(uuid)
    total = card.memory_total if card is not None else None
    driver = nvml.driver_version()
    versions = [f"driver {driver}"] if driver else []
    return DeviceInfo(
        name=properties.name,
        kind="cuda",
        index=index,
        memory_total=int(properties.total_memory) if total is None else total,
        gpu_index=gpu.index if gpu is not None and len(gpus) > 1 else None,
        uuid=uuid,
        software=", ".join([*versions, f"CUDA {torch.version.cuda}", f"PyTorch {torch.__version__}"]),
    )


def unlisted(index: int, card: DeviceInfo) -> Gpu:
    """The card `cuda:index`, which the catalogue lacks, as CUDA describes it: its rates are not known."""
    properties = torch.cuda.get_device_properties(index)
    offered = int(properties.total_memory)
    total = card.memory_total or offered
    return Gpu(
        key=card.name,
        name=card.name,
        memory_total=total,
        usable_bytes=min(total, offered),
        memory_source="NVML and CUDA",
        fp32=None,
        memory_bandwidth=None,
        compute_capability=(properties.major, properties.minor),
        multiprocessors=properties.multi_processor_count,
        tdp_watts=None,
        source="CUDA's description of the card",
    )


def ordinal_of(card: str, nvml: Nvml) -> int:
    """The ordinal of a card by its UUID (or enough of it) or PCI address. Raises `ConfigError` saying what is there."""
    shown = [bare(uuid_of(index)) for index in range(count())]
    wanted = bare(card) if "-" in card else bare(_at(card, nvml).uuid or "")
    found = [index for index, uuid in enumerate(shown) if wanted and uuid.startswith(wanted)]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(
            "device", f"--device {card} is the beginning of {len(found)} UUIDs: give more of it, or cuda:N."
        )
    there = next((gpu for gpu in nvml.gpus() if gpu.uuid and wanted and bare(gpu.uuid).startswith(wanted)), None)
    if there is not None or card.startswith("MIG-"):
        what = f"GPU {there.index} ({there.name})" if there is not None else card
        raise ConfigError(
            "device",
            f"--device {card}: CUDA does not show {what} to this process ({_what_hides()}): "
            f"start traintop with {_VARIABLE}={there.uuid if there is not None else card}.",
        )
    raise ConfigError("device", f"--device {card} is not there: use {_either(shown)}.")


def _at(address: str, nvml: Nvml) -> GpuInfo:
    gpus = nvml.gpus()
    for gpu in gpus:
        if gpu.pci_bus_id is not None and gpu.pci_bus_id.upper() == address:
            return gpu
    known = ", ".join(gpu.pci_bus_id for gpu in gpus if gpu.pci_bus_id) or "cuda:N"
    why = "" if gpus else f" ({nvml.status or 'NVML shows no GPU'})"
    raise ConfigError("device", f"--device {address} is not there{why}: use {known}.")


def _what_hides() -> str:
    visible = os.environ.get(_VARIABLE)
    if visible is not None:
        return f"{_VARIABLE} is {visible!r}"
    return "Slurm or the container gives it others" if "SLURM_JOB_ID" in os.environ else "it shows others"


def _either(shown: list[str]) -> str:
    return ", ".join(f"cuda:{index} (GPU-{uuid})" for index, uuid in enumerate(shown))
