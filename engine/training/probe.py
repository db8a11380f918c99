"""What the machine and the training libraries are, and whether they work here.

Takes seconds, and a broken driver or library may end the process: run `probe` in a process of its own.
"""

from __future__ import annotations

import importlib
import shutil
import time
from collections.abc import Iterator
from itertools import combinations
from typing import Any

from engine.contract.cards import Card

LIBRARIES = ("torch", "transformers", "datasets")
"""Without one of these nothing can be trained."""

Section = dict[str, Any]


def probe(device: int | None = None) -> Iterator[Section]:
    """What JSON can hold, part by part, named by `section`: `driver`, `library` three times, `cuda`, `several`, `hub`.

    Memory is in bytes. `device` is the CUDA GPU to compute on once; without it no card gets a context.
    `cuda`, `several` and `hub` are left out where the libraries that know of them do not work.
    """
    yield _driver()
    works = {}
    for name in LIBRARIES:
        library = _library(name)
        works[name] = "version" in library
        yield library
    if works["torch"]:
        yield _cuda(device)
        yield _several()
    if works["transformers"]:
        yield _hub()


def _driver() -> Section:
    """The NVIDIA driver and its cards, or in `problem` why there are none."""
    from engine.telemetry.cards import CardReader
    from engine.telemetry.nvml import Nvml

    nvml = Nvml()
    read = CardReader(nvml).read()
    nvml.shutdown()
    gpus = [_gpu(card) for card in read.cards]
    return {"section": "driver", "problem": read.problem, "version": read.driver, "cuda": read.cuda, "gpus": gpus}


def _gpu(card: Card) -> Section:
    names = (
        *("index", "name", "uuid", "lost", "memory_used", "memory_total", "throttle", "grave"),
        *("ecc_uncorrected", "compute_mode", "mig"),
    )
    figures = {name: getattr(card, name) for name in names}
    return {**figures, "slices": len(card.slices), "others": len(card.foreign)}


def _library(name: str) -> Section:
    began = time.perf_counter()
    try:
        module = importlib.import_module(name)
    except BaseException as error:  # a broken binary wheel may raise anything, SystemExit included
        first = (str(error).strip().splitlines() or [""])[0]
        return {"section": "library", "name": name, "error": f"{type(error).__name__}: {first}"[:300]}
    version = str(getattr(module, "__version__", "?"))
    return {"section": "library", "name": name, "version": version, "import_s": time.perf_counter() - began}


def _cuda(device: int | None) -> Section:
    """The CUDA version PyTorch was built for (None: without) and each GPU that it sees.

    That puts no context on a card: only on `device`, where one is chosen, a first small step is done.
    """
    import torch

    gpus = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        gpu: dict[str, Any] = {"index": index, "error": None, "tried": index == device}
        try:
            properties = torch.cuda.get_device_properties(index)
            gpu |= {"name": properties.name, "capability": f"{properties.major}.{properties.minor}"}
            gpu["uuid"] = f"GPU-{properties.uuid}"
            gpu["built_for_it"] = _runs_on(torch.cuda.get_arch_list(), properties.major, properties.minor)
            if index == device:
                torch.ones((1, 1), device=f"cuda:{index}").add(1).cpu()  # the way back shows what a kernel met
        except RuntimeError as error:
            gpu["error"] = str(error).strip().splitlines()[0][:300]
        gpus.append(gpu)
    available = torch.cuda.is_available()
    return {"section": "cuda", "built_for": torch.version.cuda, "available": available, "gpus": gpus}


def _several() -> Section:
    """What ranks talk by, the pairs of GPUs that do not reach each other's memory, and the room in /dev/shm.

    Asking for peer access puts no context on a card.
    """
    import torch

    from engine.process.machine import Machine

    dist = torch.distributed
    there = dist.is_available()
    n = torch.cuda.device_count() if torch.cuda.is_available() else 0
    nccl = None
    if there and dist.is_nccl_available():
        nccl = ".".join(map(str, torch.cuda.nccl.version()))  # type: ignore[no-untyped-call]
    try:
        shm_free: int | None = shutil.disk_usage("/dev/shm").free
    except OSError:
        shm_free = None
    return {
        "section": "several",
        "n_gpus": n,
        "nccl": nccl,
        "gloo": there and dist.is_gloo_available(),
        "apart": [pair for pair in combinations(range(n), 2) if not torch.cuda.can_device_access_peer(*pair)],
        "shm_free": shm_free,
        "cores": Machine().threads(),
    }


def _runs_on(built: list[str], major: int, minor: int) -> bool | None:
    """Whether a build for `built` (`sm_80`, `compute_90`) has code for a card of this compute capability.

    Machine code runs on the same major number from its minor on; PTX (`compute_…`) on everything newer. None where the
    build does not say.
    """
    found = [(kind, int(digits)) for kind, _, digits in (name.partition("_") for name in built) if digits.isdecimal()]
    card = 10 * major + minor
    if not found:
        return None
    return any(number <= card and (kind == "compute" or number // 10 == major) for kind, number in found)


def _hub() -> Section:
    """Whether the hub answers, the folder of its cache, and which architectures have weights in it."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.constants import HF_HUB_CACHE

    from engine.models.catalogue import ARCHITECTURES
    from engine.training.hub import Hub

    hub = Hub()
    hub.probe()
    names = ("model.safetensors", "model.safetensors.index.json")
    cached = [
        name
        for name, each in ARCHITECTURES.items()
        if each.hub_name and any(isinstance(try_to_load_from_cache(each.hub_name, file), str) for file in names)
    ]
    problem = None if hub.reachable() else hub.problem
    return {"section": "hub", "endpoint": hub.endpoint, "problem": problem, "path": HF_HUB_CACHE, "presets": cached}
