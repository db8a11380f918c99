"""The cards and their processes as rows, and which row the cursor is on. Pure: no Textual, no clock, no driver."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from engine.contract.cards import Card, CardProcess, Cards, MigSlice
from engine.gpus.units import MIB

STALE_S = 2.0
"""Age of a reading from which it is marked, where readings come twice a second."""
UNSEEN = 256 * MIB
"""In use on a card without a process that is shown: more than a driver and a display take."""

Key = tuple[str, int | None, int | None]
"""The card, its slice, and the process."""


@dataclass(frozen=True, slots=True)
class Row:
    """A card, one of its slices, a process on it, or a remark."""

    card: Card
    part: MigSlice | None = None
    process: CardProcess | None = None
    remark: str = ""

    @property
    def key(self) -> Key:
        """What the cursor stays on while figures and order change."""
        card = self.card.uuid or str(self.card.index)
        return card, self.part.slice_id if self.part else None, self.process.pid if self.process else None

    @property
    def name(self) -> str:
        """What the row is about, in words."""
        if self.process is not None:
            return f"process {self.process.pid}"
        return f"gpu {self.card.index}" if self.part is None else f"slice {self.part.slice_id} of gpu {self.card.index}"


def _used(process: CardProcess) -> float:
    return float(-1 if process.memory_used is None else process.memory_used)


def _sm(process: CardProcess) -> float:
    return -1.0 if process.sm is None else process.sm


SORTS: dict[str, Callable[[CardProcess], float | str]] = {
    "MiB": lambda process: -_used(process),
    "SM %": lambda process: -_sm(process),
    "age": lambda process: float("inf") if process.started_at is None else process.started_at,
    "user": lambda process: process.user or "\uffff",
    "pid": lambda process: float(process.pid),
}
"""How the processes of a card are ordered, by the heading of a column: the largest, busiest and oldest first."""


@dataclass(slots=True)
class CardsView:
    """What the screen of the cards shows, and how."""

    reading: Cards | None = None
    """None before the first."""
    age_s: float = 0.0
    stale_s: float = STALE_S
    sort: str = "MiB"
    only_mine: bool = False
    selected: Key | None = None
    notice: str = ""
    hints: tuple[tuple[str, str], ...] = ()
    top: int = 0
    """The first row that is shown."""
    _rows: list[Row] = field(default_factory=list)
    _made_of: tuple[object, ...] = ()

    @property
    def is_stale(self) -> bool:
        """Whether the reading is too old to be taken for the present."""
        return self.reading is not None and self.age_s > self.stale_s

    @property
    def rows(self) -> list[Row]:
        """Every card with what is on it."""
        made_of = (self.reading, self.sort, self.only_mine)
        if made_of != self._made_of:
            self._made_of = made_of
            cards = self.reading.cards if self.reading is not None else ()
            self._rows = [row for card in cards for row in self._of(card)]
        return self._rows

    @property
    def index(self) -> int:
        """Where the cursor is: on the row that was chosen, or on its card where the row is gone."""
        if self.selected is None:
            return 0
        keys = [row.key for row in self.rows]
        for key in (self.selected, (*self.selected[:2], None), (self.selected[0], None, None)):
            if key in keys:
                return keys.index(key)
        return 0

    @property
    def row(self) -> Row | None:
        """The row under the cursor."""
        rows = self.rows
        return rows[self.index] if rows else None

    def move(self, by: int) -> None:
        """Move the cursor; remarks are passed over."""
        self.select(self.index + by, 1 if by > 0 else -1)

    def select(self, index: int, direction: int = 1) -> None:
        """Put the cursor on a row; from a remark it goes on in `direction`."""
        rows = self.rows
        index = max(0, min(len(rows) - 1, index))
        while 0 <= index < len(rows) and rows[index].remark:
            index += direction
        if 0 <= index < len(rows):
            self.selected = rows[index].key

    def sort_by_next(self, direction: int) -> None:
        """Order the processes by the next column."""
        names = list(SORTS)
        self.sort = names[(names.index(self.sort) + direction) % len(names)]

    def _of(self, card: Card) -> list[Row]:
        rows = [Row(card)]
        processes = sorted(card.processes or (), key=SORTS[self.sort])
        shown = [process for process in processes if process.mine or not self.only_mine]
        for part in card.slices:
            rows.append(Row(card, part))
            rows += [Row(card, part, process) for process in shown if process.slice_id == part.slice_id]
        ids = {part.slice_id for part in card.slices}
        rows += [Row(card, None, process) for process in shown if not card.slices or process.slice_id not in ids]
        remark = _remark(card)
        return [*rows, Row(card, remark=remark)] if remark else rows


def _remark(card: Card) -> str:
    """What has to be said of a card's processes where they are not, or not all, to be seen."""
    if card.lost:
        return "it does not answer: look for Xid lines in dmesg; a reset or a reboot usually brings it back"
    if card.processes is None:
        return "this driver does not tell who is on it"
    if not card.processes and (card.memory_used or 0) > UNSEEN:
        return "in use by processes that cannot be seen from here: another container's, or another user's"
    return ""
