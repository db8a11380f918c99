"""What is opened over the screen of the cards: details, help, and the question before a process is ended."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from engine.contract.cards import Card, CardProcess, Cards
from engine.contract.numbers import UNKNOWN, clock, mib, number, percent
from tui.drawing.key_names import key_name
from tui.screens.details import DetailsScreen
from tui.screens.question import Question
from tui.state.card_lines import KINDS
from tui.state.cards import Row

_COMMAND = 1500


def details_of(row: Row, reading: Cards, environment: Mapping[str, str]) -> DetailsScreen:
    """Everything known about the card or the process of a row."""
    if row.process is not None:
        return DetailsScreen(f"Process {row.process.pid} on gpu {row.card.index}", _process(row, reading, environment))
    return DetailsScreen(f"GPU {row.card.index}: {row.card.name or UNKNOWN}", _card(row.card), bad=row.card.lost)


def _process(row: Row, reading: Cards, environment: Mapping[str, str]) -> list[str]:
    process = row.process
    assert process is not None
    if not process.visible:
        why = "It belongs to another container, or has ended: no more of it can be seen from here."
        return [why, "", _line("memory", f"{mib(process.memory_used)} MiB"), _line("SM", percent(process.sm))]
    began = process.started_at
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(began)) if began is not None else UNKNOWN
    lines = [
        _line("user", f"{process.user or UNKNOWN}{' (you)' if process.mine else ''}"),
        _line("type", f"{process.kind} ({KINDS[process.kind]})"),
        _line("memory", f"{mib(process.memory_used)} MiB on this card"),
        _line("SM", f"{percent(process.sm)} of the last second"),
        _line("since", f"{since}, {clock(None if began is None else reading.at - began)}"),
    ]
    if process.slice_id is not None:
        lines.append(_line("MIG slice", str(process.slice_id)))
    if process.job is not None:
        lines.append(_line("Slurm job", process.job))
    if process.container is not None:
        lines.append(_line("container", process.container))
    lines += ["", (process.command or UNKNOWN)[:_COMMAND]]
    if environment:
        lines += ["", *(f"{name}={value}" for name, value in environment.items())]
    elif process.mine:
        lines += ["", "Its environment names no Slurm job, or cannot be read."]
    return lines


def _card(card: Card) -> list[str]:
    lines = [_line("UUID", card.uuid or UNKNOWN), _line("PCI bus id", card.pci_bus_id or UNKNOWN)]
    if card.lost:
        return [*lines, "", "It does not answer. Look for Xid lines in dmesg; a reset or a reboot usually helps."]
    driver = f", beside {mib(card.memory_reserved)} that the driver keeps" if card.memory_reserved is not None else ""
    reasons = UNKNOWN if card.throttle is None else " · ".join(card.throttle) or "no"
    wh = None if card.energy is None else card.energy / 3600
    lines += [
        _line("memory", f"{mib(card.memory_used)} of {mib(card.memory_total)} MiB{driver}"),
        _line("utilization", f"{percent(card.utilization)}, of memory {percent(card.memory_utilization)}"),
        _line("power", f"{number(card.power, 1, 'W')} of {number(card.power_limit, 0, 'W')}"),
        _line("energy", f"{number(wh, 1, 'Wh')} since the driver was loaded"),
        _line("temperature", f"{number(card.temperature, 0, '°C')}, fan {percent(card.fan)}"),
        _line("clocks", f"SM {number(card.sm_clock, 0, 'MHz')}, memory {number(card.memory_clock, 0, 'MHz')}"),
        _line("slowed down", reasons),
        _line("ECC", f"{number(card.ecc_uncorrected)} uncorrected errors since the driver was loaded"),
        _line("compute mode", card.compute_mode or UNKNOWN),
        _line("MIG", UNKNOWN if card.mig is None else "on" if card.mig else "off"),
    ]
    for part in card.slices:
        size = f"{mib(part.memory_used)} of {mib(part.memory_total)} MiB"
        lines.append(
            _line(f"  slice {number(part.slice_id)}", f"{part.name or UNKNOWN}, {size}, {part.uuid or UNKNOWN}")
        )
    return lines


def _line(name: str, value: str) -> str:
    return f"{name:<14}{value}"


_MEANING = (
    "used is all that is taken on the card, the driver's own part too (nvidia-smi leaves that out).",
    "gpu % and mem %: the share of the last sample in which a kernel ran, or memory was read or written.",
    "SM %: the share of the card's multiprocessors that a process kept busy in the last second.",
    "state: why the card slows itself down, and whether it takes one process only (exclusive).",
    "ECC: errors that could not be corrected. MIG: how many slices the card is cut into.",
    "* marks your own processes. C computes, G draws, MPS shares the card through NVIDIA's MPS server.",
)


def help_screen(bindings: Sequence[Binding]) -> DetailsScreen:
    """The keys, and what the columns mean."""
    keys = [f"{binding.key_display or key_name(binding.key):>8}  {binding.description}" for binding in bindings]
    return DetailsScreen("Cards", [*keys, "", *_MEANING])


class EndScreen(Question):
    """Asks before a process is ended: "end" or "wait"."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "choose('end')", "end it"),
        Binding("w,escape,q", "choose('wait')", "leave it alone"),
    ]

    def __init__(self, process: CardProcess, *, force: bool) -> None:
        how = "t  kill it (SIGKILL): it cannot save anything" if force else "t  ask it to end (SIGTERM)"
        heading = f"Process {process.pid} has not ended. Kill it?" if force else f"End process {process.pid}?"
        what = f"{process.user or UNKNOWN}: {(process.command or UNKNOWN)[:300]}"
        super().__init__(heading, what, (("wait", "w  leave it alone"), ("end", how)))
