"""What the machine and the training libraries are, and whether they work here.

Takes seconds, and a broken driver or library may end the process: run `probe` in a process of its own.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from typing import Any

LIBRARIES = ("torch", "transformers", "datasets")
"""Without one of these nothing can be trained."""

Section = dict[str, Any]


def probe() -> Iterator[Section]:
    """What JSON can hold, part by part, each named by `section`: `driver`, `library` three times, `cuda`, `hub`.

    Memory is in bytes. `cuda` and `hub` are left out where the libraries that know of them do not work.
    """
    yield _driver()
    works = {}
    for name in LIBRARIES:
        library = _library(name)
        works[name] = "version" in library
        yield library
    if works["torch"]:
        yield _cuda()
    if works["transformers"]:
        yield _hub()


def _driver() -> Section:
    """The NVIDIA driver and its GPUs, or in `problem` why there are none."""
    from engine.telemetry.nvml import Nvml

    nvml = Nvml()
    gpus = []
    for gpu in nvml.gpus():
        sample = nvml.sample(gpu.index)
        used = sample.memory_used if sample else None
        gpus.append({"index": gpu.index, "name": gpu.name, "memory_total": gpu.memory_total, "memory_used": used})
    found = {"problem": nvml.status, "version": nvml.driver_version(), "cuda": nvml.cuda_version(), "gpus": gpus}
    nvml.shutdown()
    return {"section": "driver", **found}


def _library(name: str) -> Section:
    began = time.perf_counter()
    try:
        module = importlib.import_module(name)
    except BaseException as error:  # a broken binary wheel may raise anything, SystemExit included
        first = (str(error).strip().splitlines() or [""])[0]
        return {"section": "library", "name": name, "error": f"{type(error).__name__}: {first}"[:300]}
    version = str(getattr(module, "__version__", "?"))
    return {"section": "library", "name": name, "version": version, "import_s": time.perf_counter() - began}


def _cuda() -> Section:
    """The CUDA version PyTorch was built for (None: without) and each GPU, with the error of a first small step."""
    import torch

    gpus = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        gpu: dict[str, Any] = {"index": index, "error": None}
        try:
            properties = torch.cuda.get_device_properties(index)
            gpu |= {"name": properties.name, "capability": f"{properties.major}.{properties.minor}"}
            torch.ones((1, 1), device=f"cuda:{index}").add(1).cpu()  # the way back shows what a kernel met
            gpu["memory_free"], gpu["memory_total"] = torch.cuda.mem_get_info(index)
        except RuntimeError as error:
            gpu["error"] = str(error).strip().splitlines()[0][:300]
        gpus.append(gpu)
    available = torch.cuda.is_available()
    return {"section": "cuda", "built_for": torch.version.cuda, "available": available, "gpus": gpus}


def _hub() -> Section:
    """Whether the hub answers, the folder of its cache, and which presets have weights in it."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.constants import HF_HUB_CACHE

    from engine.contract.presets import PRESETS
    from engine.training.hub import Hub

    hub = Hub()
    hub.probe()
    names = ("model.safetensors", "model.safetensors.index.json")
    cached = [
        name
        for name, preset in PRESETS.items()
        if preset.hub_name and any(isinstance(try_to_load_from_cache(preset.hub_name, file), str) for file in names)
    ]
    problem = None if hub.reachable() else hub.problem
    return {"section": "hub", "endpoint": hub.endpoint, "problem": problem, "path": HF_HUB_CACHE, "presets": cached}
