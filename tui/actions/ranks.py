"""Several GPUs: which rank is looked at, everything known about it, and what it printed."""

from __future__ import annotations

import socket

from tui.desk.desk import Desk
from tui.desk.tail import Tail
from tui.drawing.text import clean
from tui.state.foreign import SENTENCE
from tui.state.ranks import RankView
from tui.state.state import LogLine, RankLog

NONE = "no run on several GPUs is shown: the knob GPUs sets how many the next one takes"


class RankControl:
    """Owns `state.view.rank`, the rank that is chosen, and `state.rank_log`. Whoever is behind a browser reads no
    files."""

    def __init__(self, desk: Desk) -> None:
        self._desk, self._state = desk, desk.state
        self._tail = Tail()
        self._host = socket.gethostname()

    def choose(self, by: int) -> None:
        """Look at the next rank, or the one before; between the last and the first at all of them."""
        run = self._state.run
        if run is None or not run.ranks:
            self._desk.say(NONE)
            return
        current, view = self._state.rank, self._state.view
        at = (0 if current is None else current.rank + 1) + by
        view.rank = at % (len(run.ranks) + 1) - 1
        view.rank = None if view.rank < 0 else view.rank
        self._state.rank_log, self._state.log_scroll = None, 0
        self.follow()
        rank = self._state.rank
        self._desk.say("all ranks" if rank is None else f"{_named(rank)}: i tells more, [ ] go on")

    def details(self) -> None:
        """Everything known about the chosen rank, or about all of them."""
        from tui.screens.ranks import ranks_screen

        run = self._state.run
        if run is None or not run.ranks:
            self._desk.say(NONE)
        else:
            self._desk.open(ranks_screen(self._state, run))

    def follow(self) -> None:
        """Take what the chosen rank printed since the last look, while its log is on the screen."""
        state, rank = self._state, self._state.rank
        if rank is None:
            state.rank_log = None
            return
        if state.rank_log is None or state.rank_log.rank != rank.rank:
            state.rank_log = RankLog(rank.rank, self._instead(rank))
            self._desk.painter.mark()
        main = self._desk.main
        path = rank.info.log_path if rank.info is not None else None
        if path is None or self._instead(rank) or main is None or not main.has_class("log"):
            return
        lines = self._tail.look(path)
        if lines is not None:
            told = [LogLine("", line) for line in lines]
            state.rank_log = RankLog(rank.rank, told or [LogLine("run", f"rank {rank.rank} has printed nothing yet")])
            self._desk.painter.mark()

    def _instead(self, rank: RankView) -> list[LogLine]:
        """Why there is nothing to read."""
        info = rank.info
        if info is None:
            return [LogLine("run", f"the process of rank {rank.rank} is not known")]
        if info.log_path is None:
            return [LogLine("run", f"rank {rank.rank} has no log of its own")]
        if self._desk.app.is_web or info.host != self._host:
            return [LogLine("run", clean(f"its log is on {info.host}: {info.log_path}", SENTENCE))]
        return []


def _named(rank: RankView) -> str:
    info = rank.info
    if info is None:
        return f"rank {rank.rank}"
    return f"rank {rank.rank}: {f'{info.device.name} {info.device.numbers}'.rstrip()}, process {info.pid}"
