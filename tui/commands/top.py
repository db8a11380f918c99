"""`traintop top`: all cards of the machine and who is on them, as a screen, a table or JSON."""

from __future__ import annotations

import json
import shutil
import sys
import time
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from engine.contract import paths
from tui.command_line import exit_codes
from tui.command_line.flags import UsageError, add_slow_link
from tui.terminal.stdio import has_terminal

if TYPE_CHECKING:
    from engine.contract.cards import Cards

SLOW_S = 2.5
SHORTEST_S, LONGEST_S = 0.1, 3600.0
_COLUMNS_IN_FILE = 160


def add_flags(parser: ArgumentParser) -> None:
    """The flags of `traintop top`."""
    parser.add_argument("--once", action="store_true", help="print one reading and exit")
    parser.add_argument(
        "--json",
        action="store_true",
        help="no screen: one JSON object per card with its processes and line, for every reading or (--once) one",
    )
    parser.add_argument("--interval", metavar="SECONDS", help="time between two readings (default: 0.5)")
    parser.add_argument("--ascii", action="store_true", help="draw with plain ASCII characters alone")
    add_slow_link(parser)


def execute(arguments: Namespace) -> int:
    """`traintop top`: 4 where there is no card to show. Raises `UsageError`."""
    interval_s = _interval(arguments.interval, slow=arguments.slow_link)
    if arguments.json or arguments.once or not has_terminal():
        return _print(as_json=arguments.json, goes_on=arguments.json and not arguments.once, every=interval_s)
    return _show(interval_s, in_ascii=arguments.ascii, slow_link=arguments.slow_link)


def _interval(text: str | None, *, slow: bool) -> float:
    if text is None:
        return SLOW_S if slow else 0.5
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not SHORTEST_S <= seconds <= LONGEST_S:
        raise UsageError(f"--interval {text!r} is not a time: use {SHORTEST_S} to {LONGEST_S:.0f} seconds.")
    return seconds


def _print(*, as_json: bool, goes_on: bool, every: float) -> int:
    """One reading on stdout, or one after the other until it is interrupted."""
    from engine.session.cards import new_reader

    reader = new_reader()
    due = time.monotonic()
    while True:
        cards = reader.read()
        if cards.problem is not None:
            sys.stderr.write(f"traintop top: {cards.problem}\n")
            return exit_codes.FAILED
        sys.stdout.write(_lines(cards) if as_json else table(cards))
        sys.stdout.flush()
        if not goes_on:
            return exit_codes.DONE
        due += every * max(1.0, (time.monotonic() - due) // every + 1)
        time.sleep(max(0.0, due - time.monotonic()))


def _lines(cards: Cards) -> str:
    from engine.contract.as_json import cards_to_json

    return "".join(json.dumps(card, ensure_ascii=False) + "\n" for card in cards_to_json(cards))


def table(cards: Cards) -> str:
    """The cards and their processes as plain lines, as wide as the terminal; in a file there is room for a command."""
    from tui.state.card_lines import plain
    from tui.state.cards import CardsView

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _COLUMNS_IN_FILE
    return "".join(f"{line}\n" for line in plain(CardsView(reading=cards), width))


def _show(interval_s: float, *, in_ascii: bool, slow_link: bool) -> int:
    """The screen, until it is left."""
    import gc

    gc.disable()  # what is imported stays: looking through it takes a tenth of the time to the first paint
    from engine.session.capture import log_to_file
    from engine.session.cards import CardWatch
    from tui.app.top import TopApp
    from tui.terminal.ascii import stream_to
    from tui.terminal.link import Link
    from tui.terminal.signals import Signals, leave_terminal, terminal_is_gone

    log_to_file(paths.log_file())
    terminal, link = sys.__stderr__, Link()
    with Signals() as noticed:
        app = TopApp(CardWatch(interval_s), signals=noticed, link=link, paint_s=max(0.25, interval_s))
        if terminal is not None:
            sys.__stderr__ = stream_to(terminal, link, in_ascii=in_ascii)  # type: ignore[misc, assignment]
        try:
            app.run(mouse=not slow_link)
        finally:
            gc.enable()
            sys.__stderr__ = terminal  # type: ignore[misc]
        gone = noticed.hung_up or (bool(app.return_code) and terminal_is_gone())
    if gone:
        leave_terminal()
    code = exit_codes.INTERRUPTED if noticed.to_leave else exit_codes.DONE
    if link.abandoned:
        link.leave(code)
    if code == exit_codes.DONE and app.return_code and not gone:
        sys.stderr.write(f"traintop: the app ended by a fault; {paths.log_file()} has the details.\n")
        return exit_codes.FAILED
    return code
