"""`traintop script`: a run as a whole script for the Hugging Face Trainer, with the same losses."""

from __future__ import annotations

import re
from argparse import Namespace
from pathlib import Path

from engine.contract import paths
from engine.contract.config import KNOBS, ConfigError, RunConfig
from engine.contract.records import DeviceInfo
from tui.command_line import exit_codes
from tui.command_line.flags import Parser, UsageError, add_knobs, config_of
from tui.commands.headless import own_streams
from tui.commands.histories import history_to_read
from tui.commands.report import selection
from tui.drawing.text import clean


def add_flags(parser: Parser) -> None:
    """The flags of `traintop script`."""
    parser.add_argument("--run", metavar="RUN", help="a run of the history, in place of knobs")
    parser.add_argument("--output", metavar="FILE", help="write to a file, replacing it (default: -, stdout)")
    add_knobs(parser)
    parser.take_command()  # which is refused, with what to do instead


def execute(arguments: Namespace) -> int:
    """`traintop script`. Raises `ConfigError`, `HistoryError` and `UsageError`."""
    config, title, device = _chosen(arguments)
    from engine.session.capture import log_to_file
    from engine.session.session import Session

    Session.check_data(config)  # told before PyTorch is loaded
    log_to_file(paths.log_file())
    output = None if arguments.output in (None, "-") else Path(arguments.output).expanduser()
    with own_streams() as (out, err):
        from engine.session.scripts import script_of

        made = script_of(config, title, device)
        if made.text is None:
            raise ConfigError("", made.message or "")
        if made.data_name:
            beside = (output.parent if output is not None else Path()) / made.data_name
            _write(beside, made.data)
            err.write(f"The script reads {clean(str(beside))}: keep it beside the script.\n")
        if output is None:
            out.write(made.text)
        else:
            _write(output, made.text)
            err.write(f"The script is in {clean(str(output))}.\n")
    return exit_codes.DONE


def _chosen(arguments: Namespace) -> tuple[RunConfig, str, DeviceInfo | None]:
    """The configuration that is handed over, what it is called, and where it was."""
    if arguments.run is None:
        return config_of(arguments), "a run", None
    if arguments.config or arguments.save_config or any(name in KNOBS for name in vars(arguments)):
        raise UsageError("--run has the knobs of that run: leave the others out.")
    if not re.fullmatch("[0-9]{1,18}", arguments.run):
        raise UsageError(f"--run {arguments.run!r} is not a run: give its number.")
    with history_to_read() as history:
        (record,) = selection(arguments.run, "--run")(history)
    return record.config, f"run {record.run_id}", record.device


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"--output: {str(path)!r} cannot be written ({why}): give another file.") from None
