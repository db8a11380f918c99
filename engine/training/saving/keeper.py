"""What a run keeps on the disk while it goes on. A disk that takes no more is told of, and ends no run."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from engine.contract.events import Event, Saved
from engine.contract.records import RunRecord
from engine.techniques.parallel.together import Together
from engine.training.saving import parts, places
from engine.training.saving.agreed import all_of, why
from engine.training.saving.gathered import full_state
from engine.training.saving.model_folder import Trained, versions, write_model
from engine.training.saving.places import Checkpoint
from engine.training.saving.state import Told, frozen_fingerprint, write_state
from engine.training.saving.whole import into_folder, partial_of, remove_leftovers, whole_folder

if TYPE_CHECKING:
    import torch

    from engine.training.job import Job

log = logging.getLogger("traintop")

LAST = "last"
"""The folder of the last model in the output folder, where another one was better."""


@dataclass(kw_only=True)
class Keeper:
    """Writes the checkpoints and the models of one run, in its own thread, between two updates.

    Of several ranks each has one, and all are called alike: the first writes what all hold, each what it alone holds.
    `record` gives the run as far as it is; `on_host` is around work that is none of the device's.
    """

    trained: Trained
    data: str
    """Fingerprint of the data; empty where no checkpoints are kept."""
    emit: Callable[[Event], None]
    record: Callable[[], RunRecord]
    on_host: Callable[[], AbstractContextManager[None]]
    together: Together = field(default_factory=Together)
    told: Told = field(default_factory=Told)
    best_update: int | None = None
    """After which the model in the output folder was the best so far; None where there is none."""
    frozen: str = field(init=False, default="")
    _last_update: int | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        began = self.record()
        self._config, self._run_id, self._started_at = began.config, began.run_id, began.started_at or 0.0
        self._output = places.output_folder(self._config, self._run_id)
        self._checkpoints = places.checkpoint_folder(self._config, self._run_id)
        if self._config.save_steps:
            if self.together.divides_states:
                parts.check(self._config)
            with self.on_host():
                self.frozen = frozen_fingerprint(self.trained.model, self.together)
            if self._is_first:
                remove_leftovers(self._checkpoints)
        if self._output is not None and self._is_first:
            remove_leftovers(self._output)

    @property
    def _is_first(self) -> bool:
        return self.together.rank == 0

    def take(self, event: Event) -> None:
        """Remember what a run that goes on with a checkpoint of this one is to tell."""
        if self._config.save_steps:
            self.told.add(event)

    def after_update(self, job: Job, epoch: int, step: int) -> bool:
        """Write what is due, where `step` micro-steps are done in the epoch after `epoch` whole ones: the model, where
        the evaluation after this update is the best so far, and a checkpoint. Whether anything was due.
        """
        evaluated = job.best.evaluation
        is_best = job.best.is_new and evaluated is not None and evaluated.update == job.update
        keeps_model = is_best and self._output is not None and self.best_update != job.update
        if keeps_model:
            self.best_update = job.update
            self._keep_model("best", job.update, self._output)
        every = self._config.save_steps
        is_due = bool(every) and job.update % every == 0 and job.update != self._last_update and not job.best.gives_up
        if is_due:
            self._keep_checkpoint(job, epoch, step)
        return keeps_model or is_due

    def _keep_checkpoint(self, job: Job, epoch: int, step: int) -> None:
        self._last_update = job.update
        folder = self._checkpoints / places.checkpoint_name(job.update)
        said = Checkpoint(
            folder=folder,
            run_id=self._run_id,
            started_at=self._started_at,
            update=job.update,
            epoch=epoch,
            step=step,
            elapsed_s=job.clock.now(),
            threads=job.threads,
            config=self._config if self._output is None else self._config.with_values(output_dir=str(self._output)),
            data=self.data,
            frozen=self.frozen,
            versions=versions(),
        )

        def write() -> None:
            with ExitStack() as stack:
                if self._is_first:
                    all_of(self.together, lambda: stack.enter_context(whole_folder(folder)))
                else:
                    all_of(self.together, lambda: None)
                partial = partial_of(folder)
                all_of(self.together, lambda: write_state(job, partial))
                if self._is_first:
                    self.told.write(partial)
                    places.write_meta(said, partial)
            if self._is_first:
                places.remove_old(self._checkpoints, self._run_id, self._started_at, self._config.save_total_limit)

        self._write("checkpoint", job.update, folder, write)

    def at_end(self, update: int) -> None:
        """The last model: in the folder itself, unless a better one is there."""
        if self._output is None:
            return
        if self.best_update is None:
            self._keep_model(LAST, update, self._output)
        elif self.best_update == update:
            if self._is_first:
                shutil.rmtree(self._output / LAST, ignore_errors=True)
        else:
            self._keep_model(LAST, update, self._output / LAST)

    def _keep_model(self, kind: str, update: int, folder: Path | None) -> None:
        if folder is None:
            return

        def write() -> None:
            state = full_state(self.trained) if self.together.divides_weights else None
            if self._is_first:
                save_model(self.trained, self.record(), kind, folder, state)

        self._write(kind, update, folder, write)

    def _write(self, what: str, update: int, folder: Path, write: Callable[[], None]) -> None:
        began, problem = time.perf_counter(), None
        try:
            with self.on_host():
                all_of(self.together, write)
        except Exception as error:  # what libraries make of a disk that is full, or of anything: no run ends by it
            log.warning("run %s could not write %s", self._run_id, folder, exc_info=error)
            problem = f"{_named(what, update)} could not be written to {folder} ({why(error)}): the run goes on"
            problem += _left(self._checkpoints) if what == "checkpoint" else ""
            problem += "."
        seconds = time.perf_counter() - began
        self.emit(
            Saved(run_id=self._run_id, what=what, update=update, path=str(folder), seconds=seconds, problem=problem)
        )


def save_model(
    trained: Trained, record: RunRecord, kind: str, folder: Path, state: Mapping[str, torch.Tensor] | None = None
) -> None:
    """Write a model and its card into `folder`, each file whole. `state`, and what is raised, are `write_model`'s."""
    with into_folder(folder) as partial:
        write_model(trained, record, kind, partial, folder, state)


def _named(what: str, update: int) -> str:
    return f"The checkpoint at update {update}" if what == "checkpoint" else f"The {what} model (update {update})"


def _left(folder: Path) -> str:
    left = places.checkpoints_in(folder)
    return f", and the checkpoint at update {left[-1].update} is still there" if left else ""
