"""Why a run ended before its end: an outcome, and one sentence with the fix."""

from __future__ import annotations

from engine.contract.records import Outcome
from engine.devices import host_memory
from engine.devices.base import Device
from engine.techniques.preloading import WorkerDied


def described(error: Exception, where: str, device: Device) -> tuple[Outcome, str]:
    """What `error` makes of the run that it ended `where` (`in forward of micro-step 3 (update 3)`)."""
    if device.is_out_of_memory(error):
        return Outcome.OUT_OF_MEMORY, f"Out of memory {where}: {device.describe_out_of_memory(error)}"
    if host_memory.ran_out(error):
        return Outcome.FAILED, (
            f"The host's memory ran out {where}: {host_memory.described(error)}. Use a smaller --model, --batch-size "
            "or --samples, or end other programs."
        )
    why = str(error) if isinstance(error, WorkerDied) else device.explain(error) or sentence(error)
    return Outcome.FAILED, f"Failed {where}: {why}"


def sentence(error: Exception) -> str:
    """The first line of an error's text, and what to do."""
    lines = str(error).strip().splitlines() or [""]
    fix = (
        "Restart traintop: the GPU's context is lost." if "CUDA error" in str(error) else "Details are in the log file."
    )
    return f"{type(error).__name__}: {lines[0][:300]}. {fix}"
