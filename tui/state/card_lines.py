"""A `CardsView` as lines: a card, and below it who is on it. Pure: for the screen and for a table in a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from engine.contract.cards import Card, CardProcess
from engine.contract.numbers import UNKNOWN, mib, number
from tui.drawing.bars import Part, stacked_bar
from tui.drawing.cells import Line, Span, cut, cut_line, ends, pad, width_of, wrap
from tui.drawing.text import clean
from tui.state.cards import CardsView, Row

HEAD, _FOOT = 3, 1
_BAR = 14
_FULL, _HALF = 90.0, 50.0
KINDS = {"compute": "C", "graphics": "G", "compute+graphics": "C+G", "mps": "MPS"}
"""As nvidia-smi writes them."""
_UNSEEN = "not visible from here: another container's, or it has ended"
MARK = "*"
"""Before a process of one's own."""


@dataclass(frozen=True, slots=True)
class _Column:
    heading: str
    width: int
    keep: int
    """Columns with the smallest number are left out first where the line is narrow."""
    cell: Callable[[Card], str]
    role: Callable[[Card], str] = lambda card: "value"
    left: bool = False


def _temperature(card: Card) -> str:
    return "bad" if card.grave else "value"


_COLUMNS = (
    _Column("#", 2, 100, lambda card: str(card.index), lambda card: "key"),
    _Column("name", 16, 90, lambda card: clean((card.name or UNKNOWN).removeprefix("NVIDIA "), 40), left=True),
    _Column("", _BAR, 10, lambda card: ""),
    _Column("used / MiB", 15, 95, lambda card: f"{mib(card.memory_used)} / {mib(card.memory_total)}"),
    _Column("gpu %", 5, 94, lambda card: number(card.utilization), lambda card: "gpu"),
    _Column("mem %", 5, 60, lambda card: number(card.memory_utilization)),
    _Column("W", 7, 80, lambda card: f"{number(card.power)}/{number(card.power_limit)}"),
    _Column("°C", 3, 81, lambda card: number(card.temperature), _temperature),
    _Column("fan", 3, 20, lambda card: number(card.fan)),
    _Column("MHz", 5, 15, lambda card: number(card.sm_clock)),
    _Column("ECC", 3, 70, lambda card: number(card.ecc_uncorrected), lambda c: "bad" if c.ecc_uncorrected else "muted"),
    _Column("MIG", 3, 69, lambda card: _mig(card), lambda card: "muted"),
)
_STATE = 10
"""Columns that are kept for what is wrong with a card."""


def screen_lines(view: CardsView, heading: str, width: int, height: int) -> list[Line]:
    """Title, headings, rows and the keys."""
    room = max(1, height - HEAD - _FOOT)
    rows = view.rows
    columns = _columns_for(width)
    index = view.index
    view.top = max(0, min(max(view.top, index - room + 1), index, len(rows) - room))
    lines = [_title(view, heading, width), *_headings(view, columns, width)]
    if view.reading is None:
        lines.append([(" asking the driver…", "muted")])
    elif view.reading.problem is not None:
        lines += [[(f" {text}", "warn")] for text in wrap(view.reading.problem, width - 2, room)]
    at = view.reading.at if view.reading is not None else 0.0
    for place, row in enumerate(rows[view.top : view.top + room], view.top):
        line = _row(row, columns, at, width)
        if view.is_stale:
            line = [(text, "ghost") for text, _ in line]
        if place == index and row.key == view.selected:
            line = [(text, role if "█" in text else "cursor") for text, role in pad(line, width)]  # a bar stays one
        lines.append(line)
    lines = lines[: height - 1]
    lines += [[]] * (height - 1 - len(lines))
    return [*lines, _footer(view, len(rows), room, width)]


def _title(view: CardsView, heading: str, width: int) -> Line:
    left: Line = [(f" {heading} ", "brand")]
    reading = view.reading
    if reading is None:
        return cut_line(left, width)
    if reading.driver:
        left.append((f"  driver {clean(reading.driver, 20)} · CUDA {clean(reading.cuda or UNKNOWN, 8)}", "muted"))
    if reading.namespaced:
        left.append(("  in a container: others' processes cannot be told", "warn"))
    lost = sum(card.lost for card in reading.cards)
    right: Line = [(f"{len(reading.cards)} card{'s' * (len(reading.cards) != 1)}", "value")] if reading.cards else []
    if lost:
        right += [(" · ", "muted"), (f"{lost} lost", "bad")]
    if view.is_stale:  # that matters most: nothing on the screen is of now
        right = [(f"no reading for {view.age_s:.0f} s: the driver does not answer", "bad")]
    return ends(left, [*right, (" ", "text")], width)


def _columns_for(width: int) -> list[_Column]:
    columns = list(_COLUMNS)
    while columns and sum(column.width + 1 for column in columns) + _STATE > width:
        columns.remove(min(columns, key=lambda column: column.keep))
    spare = width - sum(column.width + 1 for column in columns) - _STATE - 8
    more = {"name": min(12, max(0, spare // 3)), "": min(26, max(0, spare // 3))}
    return [replace(column, width=column.width + more.get(column.heading, 0)) for column in columns]


def _headings(view: CardsView, columns: Sequence[_Column], width: int) -> list[Line]:
    words = [f"{c.heading:<{c.width}}" if c.left else f"{c.heading:>{c.width}}" for c in columns]
    cards: Line = [(" " + " ".join(words) + "  ", "muted"), ("state", "muted")]
    line: Line = [("    ", "text")]
    for heading, size, left in _PROCESS:
        text = f"{heading:<{size}} " if left else f"{heading:>{size}} "
        line.append((text, "accent" if heading == view.sort else "muted"))
    line.append(("command", "muted"))
    return [cut_line(cards, width), cut_line(line, width)]


_PROCESS = (
    *(("user", 10, True), ("pid", 8, False), ("type", 4, True)),
    *(("MiB", 7, False), ("SM %", 4, False), ("age", 5, False)),
)


def _row(row: Row, columns: Sequence[_Column], at: float, width: int) -> Line:
    if row.remark:
        return [("    ", "text"), (cut(row.remark, width - 5), "bad" if row.card.lost else "warn")]
    if row.process is not None:
        return _process(row.process, at, width)
    if row.part is not None:
        part = row.part
        name = clean(part.name or UNKNOWN, 40).rpartition("MIG ")[2]
        text = f"{mib(part.memory_used)} / {mib(part.memory_total)} MiB"
        return [(f"  └ slice {number(part.slice_id):>2}  ", "muted"), (f"{name:<10} ", "value"), (text, "value")]
    return _card(row.card, columns, width)


def _card(card: Card, columns: Sequence[_Column], width: int) -> Line:
    line: Line = [(" ", "text")]
    for column in columns:
        if not column.heading:
            line += [*_bar(card, column.width), (" ", "text")]
            continue
        text = cut(column.cell(card), column.width)
        text = f"{text:<{column.width}} " if column.left else f"{text:>{column.width}} "
        line.append((text, "ghost" if card.lost and column.heading not in ("#", "name") else column.role(card)))
    line.append((" ", "text"))
    line += _state(card)
    return cut_line(line, width)


def _bar(card: Card, width: int) -> Line:
    """Memory in use on the scale of the card's."""
    if not card.memory_total or card.memory_used is None:
        return [(" " * width, "text")]
    share = 100 * card.memory_used / card.memory_total
    role = "bad" if share >= _FULL else "warn" if share >= _HALF else "memory"
    row = stacked_bar([Part(card.memory_used, 1, "█")], card.memory_total, width, [])
    return [(text.replace(" ", "·") if not style else text, role if style else "frame") for text, style in row]


def _mig(card: Card) -> str:
    if not card.mig:
        return UNKNOWN if card.mig is None else "off"
    return str(len(card.slices))


def _state(card: Card) -> Line:
    """What is out of the ordinary."""
    if card.lost:
        return [("lost", "bad")]
    parts: list[Span] = [(reason, "bad" if reason in card.grave else "warn") for reason in card.throttle or ()]
    if card.compute_mode not in (None, "default"):
        parts.append((str(card.compute_mode), "accent"))
    line: Line = []
    for part in parts:
        line += [(" · ", "muted"), part] if line else [part]
    return line


def _process(process: CardProcess, at: float, width: int) -> Line:
    mark = MARK if process.mine else " "
    role = "value" if process.mine else "text"
    user = clean(process.user or UNKNOWN, 10)
    line: Line = [
        (f"  {mark} ", "accent"),
        (f"{user:<10} ", "accent" if process.mine else "text"),
        (f"{process.pid:>8} ", "muted"),
        (f"{KINDS[process.kind]:<4} ", "muted"),
        (f"{mib(process.memory_used):>7} ", role),
        (f"{number(process.sm):>4} ", "gpu" if process.sm else role),
        (f"{age(process, at):>5} ", "muted"),
    ]
    if not process.visible:
        return [*line, (cut(_UNSEEN, width - width_of(line)), "warn")]
    where = f"[job {clean(process.job, 12)}] " if process.job else ""
    where += f"[container {process.container}] " if process.container else ""
    command = clean(process.command or UNKNOWN, 400)
    return cut_line([*line, (where, "pending"), (command, role)], width)


def age(process: CardProcess, at: float) -> str:
    """How long it has been running, coarsely: what changes every second is sent every second."""
    if process.started_at is None:
        return UNKNOWN
    seconds = max(0, int(at - process.started_at))
    for unit, size, until in (("s", 1, 60), ("m", 60, 3600), ("h", 3600, 172_800)):
        if seconds < until:
            return f"{seconds // size} {unit}"
    return f"{seconds // 86_400} d"


def _footer(view: CardsView, n_rows: int, room: int, width: int) -> Line:
    hints: Line = []
    for key, what in view.hints:
        hints += [(f" {key} ", "key"), (f"{what} ", "muted")]
    right: Line = [(clean(view.notice, 200), "accent"), (" ", "text")] if view.notice else []
    if not right and n_rows > room:
        right = [(f"{view.top + 1}–{min(n_rows, view.top + room)} of {n_rows} ", "muted")]
    return ends(hints, cut_line(right, width), width)


def plain(view: CardsView, width: int) -> list[str]:
    """Headings and all rows as text, for a terminal that is not drawn on, or a file."""
    columns = [column for column in _columns_for(width) if column.heading]
    at = view.reading.at if view.reading is not None else 0.0
    lines = [*_headings(view, columns, width), *(_row(row, columns, at, width) for row in view.rows)]
    return ["".join(text for text, _ in line).rstrip() for line in lines]
