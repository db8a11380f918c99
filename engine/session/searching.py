"""Whether a search for what fits has a limit to find, told before a user's own command is run for nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from engine.contract.config import ConfigError
from engine.contract.device_name import read_device
from engine.plans.course import Plan, no_limit
from engine.scripts.device import choose
from engine.telemetry.nvml import Nvml, door


def check_searches(plan: Plan, nvml: Nvml | None = None, environ: Mapping[str, str] = os.environ) -> None:
    """Raises `ConfigError` where a script that is searched for its limit is shown no GPU.

    By NVML alone: where that tells of no card there is no CUDA. A free card is looked for when it runs.
    """
    if Path("/dev/kfd").exists():  # an AMD card, of which NVML says nothing and the script may
        return
    for run in plan.runs:
        if not run.search or run.skip or not run.config.is_script or read_device(run.config.device).free:
            continue
        device, _ = choose(run.config, nvml or door(), environ)
        if device.kind == "cpu":
            raise ConfigError("device", f"no GPU is shown to the command, and {no_limit(run.config)}")
