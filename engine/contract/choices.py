"""The cards that a run may be placed on, each with who is there and what is forecast. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass

from engine.contract.cards import CardProcess
from engine.contract.forecast_types import Forecast
from engine.contract.records import DeviceInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class CardChoice:
    """One card that CUDA shows to this process."""

    device: DeviceInfo
    used: int | None
    """Bytes, of all processes."""
    utilization: float | None  # in percent
    others: tuple[CardProcess, ...]
    """Processes but this one that compute there."""
    taken: bool
    """Whether `--device free` passes it over."""
    forecast: Forecast | None
    message: str | None = None
    """Why there is no forecast."""

    @property
    def name(self) -> str:
        """What `--device` calls it."""
        return f"cuda:{self.device.index}"
