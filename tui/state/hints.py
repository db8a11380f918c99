"""Which keys the last line names: those that matter most in the present state, first. Pure: no Textual."""

from __future__ import annotations

from engine.contract.answering_combinations import WRITING_TASKS
from engine.contract.records import Outcome
from tui.state.state import State

Hint = tuple[str, str]
"""The name of an action, and in a word or two what its key does now."""

LAST: tuple[Hint, ...] = (("help", "help"), ("command_palette", "palette"), ("quit", "quit"))
"""Kept on the narrowest line."""


def hints(state: State, pane: str, *, zoomed: bool = False) -> list[Hint]:
    """The most important first, for the focused `pane`; which of them have a key here is for others to say."""
    where = {"knobs": _on_knobs, "results": _on_results, "log": _on_log}.get(pane)
    several = [("choose_rank", "rank")] if state.run is not None and state.run.ranks else []
    here = where(state) if where is not None else _elsewhere(state)
    every = [*_looking(state, zoomed), *_driving(state), *several, *here]
    return list(dict(every).items())


def _looking(state: State, zoomed: bool) -> list[Hint]:
    """Ways back from a special look, and the keys of a recording."""
    cursor = [("move_cursor", "move"), ("leave_cursor", "leave")] if state.view.cursor is not None else []
    back = [("back", "zoom out" if zoomed else "all runs")] if zoomed or state.table.query else []
    return [*cursor, *back, ("replay_pause", "pause"), ("replay_seek", "10 s"), ("replay_speed", "speed")]


def _driving(state: State) -> list[Hint]:
    """The run and the plan under way, or how to start one."""
    if state.failed:
        return []
    if state.plan is not None:
        return [("stop", "stop"), ("pause", "go on" if state.pausing else "pause"), ("skip", "next run")]
    if state.running or state.queued:
        further = state.stopping and state.run is not None and state.run.script is not None
        return [("stop", "insist" if further else "stop"), *([("skip", "next")] if state.queued_plans else [])]
    dead = state.run is not None and state.run.outcome is Outcome.OUT_OF_MEMORY and state.run.script is None
    return [("run", "run"), *_asks(state), *([("propose", "what fits")] if dead else [])]


def _asks(state: State) -> list[Hint]:
    """Asking, where there is a model that writes."""
    run, config = state.run, state.editor.config
    trained = run is not None and run.config.trains and run.outcome is Outcome.COMPLETED
    if config.is_script:
        return []
    writes = (run.config if trained and run is not None else config).task in WRITING_TASKS
    return [("ask", "ask it" if trained else "ask")] if writes and (trained or config.answers) else []


def _common(state: State) -> list[Hint]:
    plans = [("plans", "plans")] if state.ready is not None and state.plan is None else []
    return [*plans, ("explain", "explain"), *([("export", "export")] if state.rows else [])]


def _on_knobs(state: State) -> list[Hint]:
    place = state.editor.list.cursor
    enter = "type" if place.knob else "close" if place.group in state.editor.list.opened else "open"
    undo = [("undo", "undo")] if state.editor.can_undo else []
    pin = [("pin", "pin")] if state.rows else []
    shown = [("type_value", enter), *undo, ("find_knob", "find"), *pin, ("zoom", "zoom"), _other_job(state)]
    return [*_common(state), *shown]


def _on_results(state: State) -> list[Hint]:
    if not state.rows:
        return [("filter", "filter"), *_elsewhere(state)]
    rows = [("pin", "pin"), ("filter", "filter"), ("export", "export"), ("explain", "explain")]
    more = [("run_details", "details"), ("mark", "mark"), ("sort", "sort"), ("note", "note"), ("delete", "delete")]
    selected = state.selected
    cut = selected is not None and selected.outcome is Outcome.INTERRUPTED and not selected.config.is_script
    more = [("resume", "go on"), *more] if cut and not state.running else more
    undelete = [("restore", "undelete")] if state.table.deleted else []
    return [*rows, *undelete, *more, *_common(state), ("zoom", "zoom")]


def _on_log(state: State) -> list[Hint]:
    return [("scroll_log", "older lines"), *_elsewhere(state)]


def _elsewhere(state: State) -> list[Hint]:
    return [*_common(state), ("zoom", "zoom"), ("log", "log"), _other_job(state)]


def _other_job(state: State) -> Hint:
    """What the key of the job turns to."""
    jobs = state.jobs if state.playback else state.editor.jobs
    here = state.table_job
    return "job", jobs[(jobs.index(here) + 1) % len(jobs)] if here in jobs else jobs[0]
