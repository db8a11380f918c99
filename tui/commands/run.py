"""`traintop run`: train without the screen, following a `Session` to the end of one run."""

from __future__ import annotations

import threading
from argparse import Namespace
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from engine.contract import paths
from engine.contract.config import RunConfig, Value
from engine.contract.events import Event, RunStarted
from engine.contract.knob import TRAIN
from engine.process.launched import Launched, launched
from tui.command_line import exit_codes
from tui.command_line.flags import Parser, UsageError, add_knobs, config_of, given_knobs
from tui.commands.headless import Interrupts, follow, own_streams, run_code
from tui.commands.histories import scaling_in, tell_notice
from tui.console.report import Report

if TYPE_CHECKING:
    from engine.history.history import History
    from engine.session.session import Session

JSON_HELP = (
    "one JSON object per event and line on stdout, messages on stderr; null where a number is unknown, infinite or "
    "not a number. The last line of a run is its run_finished object"
)
_RESUME_HELP = (
    "go on with a run that was cut short, from its last checkpoint (--save-steps N keeps one every N updates): its "
    "number, its folder, or one checkpoint's. Its knobs are taken; flags that change nothing it learns may be given"
)
_CLOSE_S = 0.3

_Begin = Callable[["History"], "tuple[RunConfig, Callable[[Session], None]]"]
"""Finds out what is to run, and how a session is asked for it."""


def add_flags(parser: Parser) -> None:
    """The flags of `traintop run`."""
    parser.take_command("traintop run --batch-size 16 -- python train.py --batch_size={batch_size}")
    add_knobs(parser, TRAIN)
    parser.add_argument("--json", action="store_true", help=JSON_HELP)
    parser.add_argument("--resume", metavar="RUN", help=_RESUME_HELP)


def execute(arguments: Namespace) -> int:
    """`traintop run`: the exit code says how the run ended."""
    here = launched()
    if arguments.resume is not None:
        if getattr(arguments, "command", None) is not None:
            raise UsageError(
                "--resume goes on with a training of traintop's own: give your script its own flag for that, "
                "after --, and leave --resume out."
            )
        if arguments.config or arguments.save_config:
            raise UsageError("--resume takes the knobs of its run: leave --config and --save-config out.")
        given = given_knobs(arguments)
        return resume(arguments.resume, given, as_json=arguments.json, here=here)
    config = config_of(arguments)
    if config.answers:
        raise UsageError("--job answer is not trained: use traintop answer.")
    if config.is_script and here is not None:
        raise UsageError(
            f"{here.by} started {here.world_size} of these, and each would start your script: put the launcher into "
            "the command, as in traintop run -- torchrun --nproc_per_node 2 train.py."
        )
    if here is not None:
        config = here.placed(config, gpus_given="gpus" in given_knobs(arguments))
    return do(config, as_json=arguments.json, here=here)


def do(config: RunConfig, *, as_json: bool, here: Launched | None = None) -> int:
    """Do one run in this process, with history and log, and return the exit code. Raises `HistoryError`.

    `here` tells of others that train with it.
    """
    return _train(lambda history: (config, lambda session: session.start(config)), as_json, here)


def resume(target: str, changes: Mapping[str, Value], *, as_json: bool, here: Launched | None = None) -> int:
    """Go on with the newest checkpoint of `target`, a run's number or a folder; `changes` are knobs given anew.

    Raises `HistoryError`, and `ConfigError` where there is no such checkpoint, or a knob would change what it learns.
    """

    def begin(history: History) -> tuple[RunConfig, Callable[[Session], None]]:
        from engine.session import resumption

        found = resumption.find(target, history)
        config = resumption.config_of(found, changes)
        if here is not None:
            config = here.placed(config, gpus_given=True)
        return config, lambda session: session.resume(found, config)

    return _train(begin, as_json, here)


def _train(begin: _Begin, as_json: bool, here: Launched | None) -> int:
    if here is None:
        return _train_first(begin, as_json, None, run_code)
    if here.is_silent:
        return _take_part(here)
    began = False

    def code_of(event: Event) -> int | None:
        nonlocal began
        began = began or isinstance(event, RunStarted)
        return run_code(event)

    try:
        return _train_first(begin, as_json, here, code_of)
    finally:
        from engine.session.silent import let_go, refuse_all

        if not began:  # the others know of no run that they could leave
            refuse_all(here, "rank 0 could not begin the run.")
        let_go(here)


def _take_part(here: Launched) -> int:
    """Train with rank 0, as it says, and without a word."""
    from engine.session.capture import log_to_file
    from engine.session.silent import follow as follow_first

    log_to_file(paths.log_file(here.rank))
    ended: list[int] = []
    with own_streams(here.rank) as (_, err), Interrupts(err) as interrupts:

        def work() -> None:
            outcome = follow_first(here, lambda: interrupts.count > 0, lambda: interrupts.why)
            ended.append(exit_codes.WRONG_USAGE if outcome is None else exit_codes.OF_OUTCOME[outcome])

        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        while worker.is_alive():
            worker.join(0.2)
            if interrupts.count > 1 or interrupts.overdue:
                return exit_codes.INTERRUPTED
    return ended[0] if ended else exit_codes.FAILED


def _train_first(begin: _Begin, as_json: bool, here: Launched | None, code_of: Callable[[Event], int | None]) -> int:
    from engine.history.history import History
    from engine.knobs.scripts import note_of
    from engine.session.capture import log_to_file
    from engine.session.session import Session

    no_log = log_to_file(paths.log_file())
    with History() as history, own_streams() as (out, err), Interrupts(err) as interrupts:
        report = Report(out, err, as_json=as_json, scaling=scaling_in(history))
        if no_log:
            report.say(no_log)
        tell_notice(history, report.say)
        history.mark_interrupted()
        config, start = begin(history)
        if note := note_of(config):
            report.say(note)
        session = Session(history, device=config.device, launched=here)
        start(session)
        if session.busy:  # a file that is missing was refused, and PyTorch need not be loaded to say so
            session.open()
        code = follow(session, report, interrupts, code_of, never_began="the run began; it has no row")
        session.close(0.0 if interrupts.count > interrupts.steps else _CLOSE_S)
        lost = history.close()
        if lost:
            report.say(lost)
    return exit_codes.with_storage(code, lost)
