"""The cards that a run may be placed on: who is there, and what the run would need beside them."""

from __future__ import annotations

import torch

from engine.contract.choices import CardChoice
from engine.contract.config import RunConfig
from engine.contract.device_name import read_device
from engine.contract.events import Surveyed
from engine.devices import free, visible
from engine.devices.unusable import unusable
from engine.session.forecasts import Forecasts
from engine.telemetry.nvml import Nvml


def survey(config: RunConfig, nvml: Nvml, forecasts: Forecasts) -> Surveyed:
    """Every card that CUDA shows, with the forecast of `config` on it."""
    if not visible.is_available(read_device(config.device)):
        missing = "without CUDA" if torch.version.cuda is None else f"for CUDA {torch.version.cuda} and finds no GPU"
        message = unusable(nvml) or f"There is no card to choose: this PyTorch is built {missing}."
        return Surveyed(config=config, choices=(), message=message)
    seen = {each.index: each for each in free.look(nvml)}
    choices = tuple(_choice(index, seen.get(index), config, nvml, forecasts) for index in range(visible.count()))
    hidden = nvml.device_count() - len(choices)
    more = f"{hidden} more of this machine's GPUs are not shown to this process." if hidden > 0 else None
    return Surveyed(config=config, choices=choices, message=more)


def _choice(index: int, seen: free.Seen | None, config: RunConfig, nvml: Nvml, forecasts: Forecasts) -> CardChoice:
    answer = forecasts.answer(config.with_values(device=f"cuda:{index}"))
    return CardChoice(
        device=visible.describe(index, nvml),
        used=seen.used if seen is not None else None,
        utilization=seen.utilization if seen is not None else None,
        others=seen.others if seen is not None else (),
        taken=seen is None or seen.is_taken,
        forecast=answer.forecast,
        message=answer.message,
    )
