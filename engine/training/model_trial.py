"""A model that comes from a folder or the hub, tried out before anything is trained: its size, and a small forward."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import psutil
import torch

from engine.contract.config import ConfigError, RunConfig
from engine.contract.device_name import read_device
from engine.contract.tasks import TASKS
from engine.devices import host_memory
from engine.devices.precision import DTYPES
from engine.process import gate
from engine.process.launched import ranks_here
from engine.process.machine import Machine
from engine.techniques.stopping import Stopped

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_SAMPLES, _TOKENS = 2, 8
_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2, "int8": 1, "nf4": 0.5}
"""Per parameter, at the least."""
_KERNELS = ("FLASH_ATTENTION", "EFFICIENT_ATTENTION", "MATH")


def problem_of(model: PreTrainedModel, config: RunConfig) -> Exception | None:
    """What a small forward of training raises; None where it works, or where the model is on meta and needs values.

    The model's mode and the random generators are left as they were.
    """
    was_training, on_meta = model.training, model.device.type == "meta"
    tokens = torch.zeros((_SAMPLES, min(_TOKENS, config.seq_len)), dtype=torch.int64, device=model.device)
    labels = {name: tokens if per_token else tokens[:, 0] for name, per_token in TASKS[config.task].labels}
    try:
        with ExitStack() as stack:
            if not on_meta:  # forecasts have a thread of their own, and these belong to the whole process
                stack.enter_context(torch.random.fork_rng(devices=[]))
                stack.enter_context(
                    gate.attention_kernels(*_KERNELS)
                )  # the one that `--attention` asks for is proven elsewhere
            stack.enter_context(torch.no_grad())
            model.train()(input_ids=tokens, **labels)
    except Stopped:
        raise
    except Exception as error:  # a model's own code may raise anything
        needs_values = on_meta and ("meta" in str(error).lower() or isinstance(error, NotImplementedError))
        if needs_values or host_memory.ran_out(error):
            return None
        return error.with_traceback(None)
    finally:
        model.train(was_training)
    return None


def check_room(model: PreTrainedModel, config: RunConfig, *, is_read: bool, read_in: object = None) -> None:
    """Raise `ConfigError` when the weights of this model on the meta device exceed the machine's memory.

    `is_read`: weights that are quantised are so as they are read; fresh ones are made before. `read_in` is the type of
    those that are read, where it is known: what stays in it is mapped from the file, which all ranks have in common. A
    virtual GPU's weights change, so each rank has its own.
    """
    n = sum(parameter.numel() for parameter in model.parameters())
    stored = config.weights if is_read else config.stored_in
    n_bytes = n * _BYTES[stored]
    room = (Machine().memory().total or psutil.virtual_memory().total) + psutil.swap_memory().total
    is_mapped = is_read and stored in DTYPES and read_in is DTYPES[stored]
    in_common = is_mapped and read_device(config.device).kind != "virtual" and torch.cuda.is_available()
    ranks = 1 if in_common else ranks_here(config.gpus or 1)
    if n_bytes * ranks > room:
        by_each, fewer = (f" for each of {ranks} ranks", "fewer GPUs, or ") if ranks > 1 else ("", "")
        raise ConfigError(
            "model",
            f"--model {config.model!r} has {n:,} parameters, {n_bytes / 2**30:,.0f} GiB in {stored}{by_each}, and this "
            f"machine has {room / 2**30:,.1f} GiB of memory: use {fewer}a smaller model.",
        )
