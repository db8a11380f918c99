"""What stands behind a screen or a command: a session that trains, a recording, or another program's runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from engine.contract.changes import Change
from engine.contract.config import RunConfig
from engine.contract.events import Event
from engine.contract.records import DeviceInfo, RunRecord
from engine.contract.stop_reason import BY_USER
from engine.plans.course import Plan
from engine.session.keeper import Read, Reading

if TYPE_CHECKING:
    from engine.training.saving.places import Checkpoint

T = TypeVar("T")


class Engine(Protocol):
    """All that the screen and the commands know of it. Nothing here raises, and only `wait` and `close` wait.

    Where runs are only shown, what would change something is refused: the refusal is among the next events.
    """

    @property
    def label(self) -> str:
        """What is shown in place of an engine of one's own: `watching`, `recorded on 2026-03-01 ×10`; else empty."""

    @property
    def busy(self) -> bool:
        """True from `start` until the run's end is in the mailbox; for a plan, its end."""

    def open(self) -> None:
        """Begin; returns at once."""

    def start(self, config: RunConfig, /) -> None:
        """Queue a run."""

    def resume(self, found: Checkpoint, config: RunConfig, /) -> None:
        """Queue a run that goes on with a checkpoint, with the knobs of `config`."""

    def save_model(self, run_id: int, folder: str, /) -> None:
        """Write the model of the run that has just ended into `folder`; `Saved` follows, or tells why not."""

    def start_plan(self, plan: Plan, plan_id: int | None = None, /) -> None:
        """Queue a plan; with `plan_id` go on with the stored one of that number."""

    def pause_plan(self, paused: bool = True, /) -> None:
        """Let the plan under way wait after its current run, or (False) go on."""

    def skip_run(self) -> None:
        """Stop the run under way, and go on with what comes next: of its plan, or in the queue."""

    def forget_queued(self) -> None:
        """Forget what is queued; what is under way goes on."""

    def stop(self, why: str = BY_USER, /) -> None:
        """Stop the run under way at its next layer, or where it loads, and its plan, and forget what is queued.

        The run's row says `why`, one of `engine.contract.stop_reason`.
        """

    def forecast(self, config: RunConfig, /) -> None:
        """Ask what a run would need; `Forecasted` follows."""

    def look_at(self, device: str, /) -> None:
        """Show the device that the next run would be placed on; `DeviceChosen` follows, where it is there."""

    def propose(self, record: RunRecord, /) -> None:
        """Ask what would fit instead of a run that was out of memory; `Proposed` follows."""

    def survey(self, config: RunConfig, /) -> None:
        """Ask which cards there are for a run, and what it would need there; `Surveyed` follows."""

    def hand_over(self, config: RunConfig, title: str, device: DeviceInfo | None = None, /) -> None:
        """Ask for a run as a script for the Hugging Face Trainer; `ScriptMade` follows."""

    def keep(self, change: Change, /) -> None:
        """Write what a person changed in the history; `HistoryChanged` follows."""

    def read(self, read: Read[T], /) -> Reading[T]:
        """Ask the history; the answer is `done` at once or some time later."""

    def drain(self) -> list[Event]:
        """What happened since the last call; never waits."""

    def wait(self, timeout_s: float | None = None, /) -> list[Event]:
        """What happened since the last call; waits for the first event."""

    def close(self, timeout_s: float = 5.0, /) -> bool:
        """End what goes on. False when something is still busy after `timeout_s`."""
