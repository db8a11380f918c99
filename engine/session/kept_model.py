"""The model of the run that has just trained, for whoever thinks of keeping or asking it only then."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.contract.events import Saved
from engine.contract.records import RunRecord

if TYPE_CHECKING:
    from engine.training.saving.model_folder import Trained

log = logging.getLogger("traintop")


@dataclass(frozen=True, slots=True, kw_only=False)
class KeptModel:
    """What a run left in the host's memory."""

    record: RunRecord
    trained: Trained | None
    """None where it had trained nothing, or was too large to keep."""
    device_kind: str


def save_kept(kept: KeptModel | None, run_id: int, folder: str) -> Saved:
    """Write it into `folder`. Never raises: what goes wrong is in the event."""
    began, update = time.perf_counter(), 0 if kept is None else kept.record.updates
    problem = _write(kept, run_id, folder)
    seconds = time.perf_counter() - began
    return Saved(run_id=run_id, what="model", update=update, path=folder, seconds=seconds, problem=problem)


def _write(kept: KeptModel | None, run_id: int, folder: str) -> str | None:
    if kept is None or kept.record.run_id != run_id:
        gone = f"The model of run {run_id} is gone: it is kept until the next training begins"
        return f"{gone} (--output-dir keeps it for good)."
    if kept.record.config.is_parallel:
        return (
            f"The model of run {run_id} was in the processes of its GPUs, which have ended with it: --output-dir "
            "writes it while it trains."
        )
    if kept.trained is None:
        too_large = kept.record.updates and kept.device_kind == "cuda"
        why = "is too large for this host's memory" if too_large else "has not been trained"
        return f"The model of run {run_id} {why}, so there is nothing to save (--output-dir writes it while it trains)."
    from engine.training.saving import keeper
    from engine.training.saving.agreed import why as words
    from engine.training.saving.output import MODELS

    target = Path(folder)
    if any((target / name).exists() for name in MODELS):
        return f"{folder} holds a model already: give another folder."
    try:
        keeper.save_model(kept.trained, kept.record, "last", target)
    except Exception as error:  # whatever a library makes of a disk that is full
        log.warning("the model of run %s could not be written to %s", run_id, folder, exc_info=error)
        return f"The model of run {run_id} could not be written to {folder} ({words(error)}): give another folder."
    return None
