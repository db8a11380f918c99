"""What is around a run's work, whatever its job: the switches that it needs, and an end whatever happens."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeAlias

import torch

from engine.contract.config import ConfigError, RunConfig
from engine.contract.host_load import HostLoad
from engine.contract.records import Outcome
from engine.devices.base import Device
from engine.process import gate
from engine.process.heap import keeping_pages
from engine.process.machine import Machine
from engine.process.openmp import threads_to_use
from engine.techniques import attention, compiling, refusals
from engine.training.telling import Telling

log = logging.getLogger("traintop")

End: TypeAlias = "tuple[Outcome, str | None] | ConfigError"
"""How a run ended, with a sentence where there is something to say, or why it could not begin."""


def refuse_early(config: RunConfig, device: Device) -> None:
    """Refusals that need no model and no data. Raises `ConfigError`."""
    device.refuse(config)
    refusals.refuse(config, device)


def attempt(
    telling: Telling, threads: Callable[[], int], work: Callable[[], End], describe: Callable[[Exception], End]
) -> End:
    """Do a run's work with its switches set. Never raises: `describe` makes an end of what goes wrong.

    What fails after the first error, as all does on a lost device, does not hide it.
    """
    end: End | None = None
    try:
        telling.moment("start")
        with _switches(telling.record.config, telling.device, threads()):
            end = work()
    except Exception as error:
        if end is None:
            return describe(error)
        log.error("run %s left switches behind", telling.record.run_id, exc_info=error)
    assert end is not None
    return end


@contextmanager
def _switches(config: RunConfig, device: Device, threads: int) -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(gate.threads(threads))
        if device.torch_device.type == "cpu":
            stack.enter_context(keeping_pages())
        stack.enter_context(device.settings(config))
        stack.enter_context(attention.kernel(config, device))
        stack.enter_context(compiling.forgotten_after(config))
        stack.enter_context(device.tracking())
        yield


def free_threads(device: Device, host: HostLoad) -> int:
    """Threads that are free, where it is the CPU that computes."""
    free = host.free if device.torch_device.type == "cpu" else None
    return threads_to_use(torch.get_num_threads(), Machine().threads(), free)


def clean_up(device: Device, run_id: int) -> None:
    """Give the memory back. Never raises."""
    try:
        device.clean_up()
    except Exception as error:  # on a lost device; why it was lost is in the record
        log.error("the device could not be cleaned up after run %s", run_id, exc_info=error)
