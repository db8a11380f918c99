"""`traintop run`: train without the screen, following a `Session` to the end of one run."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from engine.contract import paths
from engine.contract.config import RunConfig
from tui.command_line import exit_codes
from tui.command_line.flags import add_knobs, config_of
from tui.commands.headless import Interrupts, follow, own_streams, run_code
from tui.commands.histories import tell_notice
from tui.console.report import Report

_JSON_HELP = (
    "one JSON object per event and line on stdout, messages on stderr; null where a number is unknown, infinite or "
    "not a number. The last line of a run is its run_finished object"
)
_CLOSE_S = 0.3


def add_flags(parser: ArgumentParser) -> None:
    """The flags of `traintop run`."""
    add_knobs(parser)
    parser.add_argument("--json", action="store_true", help=_JSON_HELP)


def execute(arguments: Namespace) -> int:
    """`traintop run`: the exit code says how the run ended."""
    return train(config_of(arguments), as_json=arguments.json)


def train(config: RunConfig, *, as_json: bool) -> int:
    """Train once in this process, with history and log, and return the exit code. Raises `HistoryError`."""
    from engine.history.history import History
    from engine.session.capture import log_to_file
    from engine.session.session import Session

    no_log = log_to_file(paths.log_file())
    with History() as history, own_streams() as (out, err), Interrupts(err) as interrupts:
        report = Report(out, err, as_json=as_json)
        if no_log:
            report.say(no_log)
        tell_notice(history, report.say)
        history.mark_interrupted()
        session = Session(history, device=config.device)
        session.start(config)
        if session.busy:  # a file that is missing was refused, and PyTorch need not be loaded to say so
            session.open()
        code = follow(session, report, interrupts, run_code, never_began="the run began; it has no row")
        session.close(0.0 if interrupts.count > 1 else _CLOSE_S)
        lost = history.close()
        if lost:
            report.say(lost)
    return exit_codes.with_storage(code, lost)
