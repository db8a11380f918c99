"""One answering run from its configuration to its record: load, answer, and whatever goes wrong, as an outcome."""

from __future__ import annotations

from typing import Any

from engine.contract.config import ConfigError, RunConfig
from engine.contract.records import Place, RunRecord
from engine.devices.base import Device
from engine.training.saving.model_folder import Trained


def refuse_early(config: RunConfig, device: Device) -> None:
    """Refusals that need no model and no prompts. Raises `ConfigError`."""
    raise ConfigError("job", "--job answer cannot run yet: use --job train.")


class AnswerRun:
    """See `engine.training.run.Run`, whose place it takes."""

    kept: Trained | None = None

    def __init__(self, **given: Any) -> None:
        raise NotImplementedError

    def execute(self) -> RunRecord:
        """Run to the end."""
        raise NotImplementedError

    def place(self) -> Place | None:
        """Where it is within a long step."""
        raise NotImplementedError
