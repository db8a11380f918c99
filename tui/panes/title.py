"""The first line: device, what is trained, and how far it is."""

from __future__ import annotations

from engine.contract.numbers import clock, mib, number
from engine.contract.own_data import work_of
from engine.contract.records import DeviceInfo
from tui.drawing.cells import Line, ends, join, width_of
from tui.drawing.text import clean
from tui.panes.base import Pane
from tui.panes.drawing import OUTCOME_ROLES
from tui.state.knobs import short_name
from tui.state.run_view import RunView
from tui.state.state import State


class TitlePane(Pane):
    """One line without a frame."""

    def body(self, state: State, width: int, height: int) -> list[Line]:
        """The whole line."""
        right = [join([part, [(" ", "text")]], "") for part in _progress(state)]
        run = state.run if state.running else None
        config = run.config if run else state.editor.config
        brand: Line = [(" traintop ", "brand")]
        if state.playback:  # part of the brand: it is never left out
            brand += [(f" {state.playback}", "pending")]
        if state.history_trouble:  # so is this
            brand += [(f" {state.history_trouble}", "bad")]
        model: Line = [(clean(short_name(config.model), 40), "value")]
        work: Line = [(f" · {clean(work_of(config, run.n_train if run else None), 40)}", "muted")]
        devices = _device(state.device)
        named = [join([brand, device, model + work], "   ") for device in devices]
        named += [join([brand, devices[-1], model], "   "), join([brand, devices[-1]], "  ")]
        # the device's name is worth more than the longest way to say how far the run is
        pairs = [(left, tail) for tail in right for left in named] + [(brand, tail) for tail in right]
        left, tail = next((pair for pair in pairs if _fits(*pair, width)), (brand, right[-1]))
        return [ends(left, tail, width)]


def _fits(left: Line, right: Line, width: int) -> bool:
    return width_of(left) + 2 + width_of(right) <= width


def _device(device: DeviceInfo | None) -> list[Line]:
    """Ways to name the device, the longest first."""
    if device is None:
        return [[]]
    name = clean(device.name, 32)
    kind = "" if device.kind == "cuda" else f" · {device.kind}"
    index = f" · cuda:{device.index}" if device.index else ""
    memory = f" · {mib(device.memory_total)} MiB" if device.memory_total is not None else ""
    return [[(name, "value"), (kind + index + memory, "muted")], [(name, "value"), (kind, "muted")]]


def _progress(state: State) -> list[Line]:
    """Ways to say how far the run is, the longest first."""
    run = state.run
    if state.failed:
        return [[("the engine could not start", "bad")]]
    if run is not None and run.under_way:
        return _under_way(state, run)
    if state.queued:
        return [[(f"loading {state.loading}… the run starts then", "accent")], [("run queued", "accent")]]
    if state.loading:
        return [[(f"loading {state.loading}…", "muted")]]
    if state.plan is not None:
        return [[(f"{state.plan.title}   ", "value"), (state.plan.where, "accent")], [(state.plan.where, "accent")]]
    if run is None and state.playback:
        return [[("waiting for a run", "accent")], [("waiting", "accent")]]
    if run is None:
        return [[("ready: press r to run", "accent")], [("ready", "accent")]]
    outcome = run.outcome
    text = f"run {run.run_id} {outcome.words}"
    took = f"   {clock(run.t)}" if run.t is not None else ""
    return [[("■ ", OUTCOME_ROLES[outcome]), (text, OUTCOME_ROLES[outcome]), (took, "value")]]


def _under_way(state: State, run: RunView) -> list[Line]:
    name: Line = [("● ", "accent"), (f"run {run.run_id}", "value")]
    if state.plan is not None:
        name = [(f"{state.plan.where}  ", "accent"), *name]
    if state.stopping:
        return [[*name, ("  stopping…", "warn")]]
    if run.planned_updates is None:
        return [[*name, (f"  {run.detail}…", "accent")], [*name, ("  loading…", "accent")]]
    if state.stalled_s is not None:
        stands = f"  stands still for {clock(state.stalled_s)}"
        return [[*name, (stands, "warn")], [*name, ("  stands still", "warn")]]
    planned = run.planned_s
    passed: Line = [(f"   {clock(run.t)}", "value"), (f" / ~{clock(planned)}" if planned else " / –", "muted")]
    batch: Line = [(f"  batch {run.config.batch_size}", "muted")]
    update: Line = [(f"  update {number(run.update)}/{number(run.planned_updates)}", "muted")]
    return [[*name, *batch, *update, *passed], [*name, *update, *passed], [*name, *passed], passed]
