"""`traintop attach`: keeps the run of a process that was not started by traintop. That process starts it itself."""

from __future__ import annotations

import contextlib
import json
import logging
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path

from engine.contract import paths
from engine.contract.config import ConfigError, RunConfig
from engine.knobs.scripts import run_of
from tui.command_line import exit_codes
from tui.command_line.flags import Parser, UsageError
from tui.commands.headless import Interrupts, own_streams, run_code

_ABOUT = """For notebooks, and launchers that `traintop run -- COMMAND` cannot wrap: three lines in the training itself.

  import traintop
  traintop.attach()   # what this process trains from here on is a run: traintop watch and the app show it
  traintop.detach()   # ends the run before the process does; it may be left out

traintop.attach() starts this command beside the training; nobody needs to type it."""


def add_flags(parser: Parser) -> None:
    """The flags of `traintop attach`."""
    parser.description = f"{parser.description}\n\n{_ABOUT}"
    parser.take_command()
    parser.add_argument("--pid", metavar="N", help="the process that trains")
    parser.add_argument("--meet", metavar="FILE", help="where the other processes of a launcher find this one")
    parser.add_argument("--interactive", action="store_true", help="it is a notebook's, or a prompt's")


def execute(arguments: Namespace) -> int:
    """`traintop attach`: listen until the training is over. Raises `UsageError` and `HistoryError`."""
    pid = arguments.pid
    if pid is None or not pid.isascii() or not pid.isdecimal():
        raise UsageError("it is started by the training itself: put import traintop; traintop.attach() into it.")
    from engine.history.history import History
    from engine.session.attached import keep
    from engine.session.capture import log_to_file

    log_to_file(paths.log_file())
    with History() as history, own_streams() as (out, _), Interrupts() as interrupts, _meeting(arguments.meet) as meet:
        history.mark_interrupted()

        def ready(wire: str, inside: str) -> None:
            told = json.dumps({"wire": wire, "inside": inside})
            meet(told)
            out.write(f"{told}\n")
            out.flush()

        def why_leave() -> str | None:
            return interrupts.why if interrupts.count else None

        config = _config(getattr(arguments, "command", None))
        ended = keep(int(pid), config, history, ready, why_leave, is_interactive=arguments.interactive)
    return exit_codes.DONE if ended is None else run_code(ended) or exit_codes.DONE


@contextlib.contextmanager
def _meeting(place: str | None) -> Iterator[Callable[[str], None]]:
    """What writes a text to the file where others look for it; it is gone at the end. Raises `OSError`."""

    def write(text: str) -> None:
        if place is not None:
            path = Path(place)
            paths.make_private(path.parent, 0o700)
            begun = path.with_suffix(".begun")
            begun.write_text(text, encoding="utf-8")
            begun.replace(path)

    try:
        yield write
    finally:
        if place is not None:
            Path(place).unlink(missing_ok=True)


def _config(command: str | None) -> RunConfig:
    """The run of a process by its command line; one that is not read, or not there, is called by its program."""
    try:
        return run_of({"command": command or "python"})
    except ConfigError as error:
        logging.getLogger("traintop").warning("the command line of the process is not read: %s", error)
        return run_of({"command": "python"})
