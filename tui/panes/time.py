"""Where the time of an update goes; of a run that answers that of a token, or of a batch that is scored."""

from __future__ import annotations

from collections.abc import Sequence

from engine.contract.figures import CPU
from engine.contract.numbers import UNKNOWN, percent, rate
from tui.drawing.bars import Part, stacked_bar
from tui.drawing.categories import PHASES as SHORT
from tui.drawing.cells import Line, first_that_fits, join, pad, width_of
from tui.panes.base import PlotPane
from tui.panes.drawing import labelled, painted
from tui.state.ranks import RankView
from tui.state.run_view import RunView
from tui.state.state import State

PHASES = ("data", "forward", "backward", "optimizer")
AMONG_RANKS = (*PHASES, "waiting")
"""Of a run on several GPUs: `waiting` is for others, and in none of the phases."""
ANSWERING = ("prefill", "decode", "sampling")
OF_SCRIPTS = (*PHASES, "other")
"""Of a user's own script: `other` is what it does between an update and the next batch, such as logging. A phase that
takes no time at all was not seen (a script without a data loader), so it is unknown.
"""
OF_SCRIPT_RANKS = (*PHASES, "waiting", "other")
GUESSING = ("prefill", "decode", "draft", "sampling")
SCORING = ("texts", "padding")
_ROLES = {"texts": "decode", "padding": "waiting"}
"""Roles of phases that have not their own names for it."""


class TimePane(PlotPane):
    """Data, forward, backward and optimizer as shares of the updates after warm-up; of several ranks also waiting; of
    answers prefill, decode, guessing and sampling.
    """

    TITLE = "Where the time goes"

    def lines(self, state: State, width: int, height: int) -> list[Line]:
        """One line where the layout gives only one."""
        if height > 1:
            return super().lines(state, width, height)
        straggler = state.run.ranks.straggler if state.run is not None else None
        awaited: Line = [(f" wait for r{straggler.rank}", "warn")] if straggler is not None else []
        names = _phases(state.run)
        bar = _bar(names, _seconds(state, names), width - 12 - width_of(awaited))
        return [[(" time      ", "title"), *bar, *awaited]]

    def headline(self, state: State, width: int) -> Line:
        """What one update takes, or one token."""
        run, rank = state.run, state.rank
        if run is None or not _counted(run):
            return []
        took: Line = [(f"{rate(sum(_seconds(state, _phases(run))) * 1000)} ms", "value")]
        if run.device.is_virtual:
            took = [(f"{CPU} ", "muted"), *took]
        if rank is not None:
            took = [(f"r{rank.rank} · ", "accent"), *took]
        each = " an update" if run.answer is None else " a batch" if run.answer.scores else " a token"
        return first_that_fits([[*took, (each, "muted")], took], width)

    def body(self, state: State, width: int, height: int) -> list[Line]:
        """All phases in one bar, and each with its share and its milliseconds; who waits for whom."""
        names = _phases(state.run)
        values = _seconds(state, names)
        whole = sum(values)
        lines: list[Line] = [[(" ", "text"), *_bar(names, values, width - 2)]]
        if not whole:
            place = state.run.place if state.run is not None and state.run.under_way else None
            return lines if place is None else [[(f" {place.words}", "accent")]]
        waits = _waits(state.run.ranks.each, state.run.ranks.straggler, width) if state.run is not None else []
        if height < 1 + len(values) + len(waits):
            return [*lines, *_in_pairs(names, values, width), *waits]
        room = width - 30
        is_roomy = height >= 1 + 2 * len(values) + len(waits)
        for index, (name, value) in enumerate(zip(names, values, strict=True)):
            share, took = _told(names, name, value, whole)
            bar = painted(stacked_bar([Part(value, index + 1)], max(values), max(0, room)), _roles(names))
            line: Line = [*share, (f"{took:>11}  ", "muted"), *bar]
            lines += [[], line] if is_roomy else [line]
        return lines + waits


def _phases(run: RunView | None) -> tuple[str, ...]:
    if run is not None and run.answer is not None:
        return SCORING if run.answer.scores else ANSWERING if run.config.speculate == "off" else GUESSING
    if run is not None and run.script is not None:
        return OF_SCRIPT_RANKS if run.shares.waiting else OF_SCRIPTS
    return AMONG_RANKS if run is not None and run.ranks else PHASES


def _seconds(state: State, names: Sequence[str]) -> list[float]:
    """Seconds of a mean update by phase: of the chosen rank, or the mean of all. Of answers those of a token."""
    answer = state.answer
    if answer is not None and answer.scores:
        padded = answer.padding / answer.tokens if answer.tokens else 0.0
        each = answer.scoring_s / max(1, answer.batches)
        return [each * (1 - padded), each * padded]
    if answer is not None:
        return [getattr(answer.shares, name) / max(1, answer.tokens) for name in names]
    run: RunView | RankView | None = state.rank or state.run
    if run is None or not run.timed_updates:
        return [0.0] * len(names)
    return [getattr(run.shares, name) / run.timed_updates for name in names]


def _counted(run: RunView) -> int:
    """The updates, tokens or batches that the seconds are divided by."""
    answer = run.answer
    return run.timed_updates if answer is None else answer.batches if answer.scores else answer.tokens


def _roles(names: Sequence[str]) -> list[str]:
    return [_ROLES.get(name, name) for name in names]


def _bar(names: Sequence[str], values: Sequence[float], width: int) -> Line:
    whole = sum(values)
    if not whole:
        return [("–", "muted")]
    parts = [Part(value, index) for index, value in enumerate(values, 1)]
    shares = [value / whole * 100 for value in values]
    row = stacked_bar(parts, whole, width)
    long = [f"{name} {share:.0f} %" for name, share in zip(names, shares, strict=True)]
    short = [f"{SHORT.get(name, name)} {share:.0f} %" for name, share in zip(names, shares, strict=True)]
    bare = [f"{share:.0f} %" for share in shares]
    fitting = {style: len(text) for text, style in row}
    labels = [
        next((text for text in texts if len(text) + 2 <= fitting.get(index, 0)), "")
        for index, texts in enumerate(zip(long, short, bare, [text[:-2] for text in bare], strict=True), 1)
    ]
    return labelled(row, _roles(names), labels)


def _in_pairs(names: Sequence[str], values: Sequence[float], width: int) -> list[Line]:
    """Two phases in a line, where there is no room for a line each."""
    whole, half = sum(values), width // 2
    cells: list[Line] = []
    for name, value in zip(names, values, strict=True):
        share, took = _told(names, name, value, whole)
        cells.append(first_that_fits([[*share, (f" {took:>9}", "muted")], share], half))
    return [join([pad(cell, half) for cell in cells[at : at + 2]], "") for at in range(0, len(cells), 2)]


def _told(names: Sequence[str], name: str, seconds: float, whole: float) -> tuple[Line, str]:
    """A phase with its share, and its milliseconds."""
    is_seen = seconds > 0 or "other" not in names
    share = percent(seconds / whole * 100) if is_seen else UNKNOWN
    took = f"{rate(seconds * 1000)} ms" if is_seen else UNKNOWN
    return [(f" {name:<10}", "muted"), (f"{share:>5}", "value")], took


def _waits(ranks: Sequence[RankView], straggler: RankView | None, width: int) -> list[Line]:
    """Who waits for whom, in a line; none before anything is known."""
    shares = {rank.rank: 100 * share for rank in ranks if (share := rank.wait_share) is not None}
    if not shares:
        return []
    if straggler is not None:
        others = [share for rank, share in shares.items() if rank != straggler.rank]
        who = "others wait" if len(others) > 1 else f"rank {next(r for r in shares if r != straggler.rank)} waits"
        told = f" {who} for rank {straggler.rank}"
        much = f", {_span(others)} of the time; it {percent(shares[straggler.rank])}"
        return [first_that_fits([[(told + much, "warn")], [(told, "warn")]], width)]
    each: Line = [(" waiting", "muted")]
    for rank, share in shares.items():
        each += [(f" r{rank} ", "muted"), (f"{share:.0f}", "value")]
    span: Line = [(f" each waits {_span(list(shares.values()))}", "muted")]
    return [first_that_fits([[*each, (" %", "muted")], span], width)]


def _span(shares: Sequence[float]) -> str:
    least, most = f"{min(shares):.0f}", f"{max(shares):.0f}"
    return f"{most} %" if least == most else f"{least} to {most} %"
