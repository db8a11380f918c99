"""How a prediction that broke off is told."""

from __future__ import annotations

from engine.devices import host_memory
from engine.devices.base import Device
from engine.training.failures import sentence

__all__ = ["out_of_memory", "sentence"]


def out_of_memory(error: Exception, device: Device) -> str | None:
    """One sentence where memory ran out, the device's or the host's; None for another error."""
    if device.is_out_of_memory(error):
        return f"Out of memory: {device.describe_out_of_memory(error)} Use a smaller --batch-size."
    if host_memory.ran_out(error):
        return f"The host's memory ran out: {host_memory.described(error)}. Use a smaller --batch-size."
    return None
