"""What the next run of a script would need, by what its runs have measured. Pure: no Textual."""

from __future__ import annotations

from collections.abc import Iterator

from engine.contract.config import RunConfig
from engine.contract.estimate import Estimate, batch_of, measured, of_run
from engine.contract.records import DeviceInfo, RunRecord
from tui.state.state import State


class Estimates:
    """The newest is kept: it costs as much as many rows of the history, and every repaint asks for it."""

    def __init__(self) -> None:
        self._of: tuple[object, ...] = ()
        self._kept: Estimate | None = None

    def of_next(self, state: State) -> Estimate | None:
        """Of the next run's batch size; of twice that which was measured where it is no other one. None of another job,
        and where no run measured it on this device.
        """
        config = state.editor.config
        if not config.is_script or config.script is None:
            return None
        run = next(_like(config, state), None)
        if run is None:
            return None
        asks = config.batch_size if config.says("batch_size") and config.batch_size != batch_of(run) else None
        key = (config, run.run_id, run.peak_used, run.peak_reserved, asks, len(state.finished))
        if key != self._of:
            self._of, self._kept = key, of_run(run, _others(state), asks)
        return self._kept


def _others(state: State) -> list[RunRecord]:
    return [row for row in state.finished if row.config.is_script]


def _like(config: RunConfig, state: State) -> Iterator[RunRecord]:
    """Runs that differ from the next one in the batch size at most, and have measured something: the newest first."""
    under_way = [state.run.as_record()] if state.run is not None and state.run.under_way else []
    for row in (*under_way, *reversed(state.finished)):
        alike = row.config.is_script and _without_batch(row.config) == _without_batch(config)
        here = _is_same(row.device, state.ready)
        if alike and here and measured(row) is not None:
            yield row


def _is_same(one: DeviceInfo | None, other: DeviceInfo | None) -> bool:
    """Whether it is one card: by its UUID, where both are known."""
    if one is None or other is None or one.kind != other.kind:
        return False
    return one.uuid == other.uuid if one.uuid and other.uuid else one.name == other.name


def _without_batch(config: RunConfig) -> tuple[object, ...]:
    """What a script's run is beside its batch size."""
    carried = config.script.knobs if config.script is not None else ()
    values = (getattr(config, name) for name in carried if name != "batch_size")
    return (config.command, config.command_values, config.device, *values)
