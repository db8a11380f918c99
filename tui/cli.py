"""The command `traintop`: which command is meant, and what its end is as an exit code.

Every command is a module with `add_flags(parser)` and `execute(arguments)`, imported when it is asked for: the time
to the first paint belongs to the app.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from tui.command_line import exit_codes
from tui.terminal.stdio import has_terminal

COMMANDS = {
    "run": (
        "tui.commands.run",
        "train, or run your own script, without the screen; print the lecture's transcript, or JSON",
    ),
    "sweep": (
        "tui.commands.sweep",
        "run many configurations, find the largest batch, repeat the lecture's experiments",
    ),
    "forecast": (
        "tui.commands.forecast",
        "say whether configurations fit on a GPU, and how fast, without a run",
    ),
    "answer": (
        "tui.commands.answer",
        "let a model answer prompts (or score texts) without the screen, and tell how fast",
    ),
    "predict": ("tui.commands.predict", "write what a trained classifier says of the texts in a file"),
    "runs": ("tui.commands.runs", "list the runs of the history"),
    "report": ("tui.commands.report", "write runs of the history as a Markdown or LaTeX table, as CSV or as JSON"),
    "script": (
        "tui.commands.script",
        "write a run as a whole script for the Hugging Face Trainer, with the same losses",
    ),
    "watch": ("tui.commands.watch", "look at the runs of another traintop on this history, live and read-only"),
    "attach": ("tui.commands.attach", "keep the run of a notebook or a launcher's process that asks for it by itself"),
    "replay": ("tui.commands.replay", "play recorded runs again, at any speed"),
    "serve": ("tui.commands.serve", "let browsers watch: a page with the runs of this history, read-only"),
    "top": ("tui.commands.top", "show all cards of this machine and who is on them, live, once, or as JSON"),
    "doctor": ("tui.commands.doctor", "say what this machine has, and how to fix what is missing"),
}
"""Name -> its module and a line for the help."""

WITHOUT_HISTORY = {"forecast", "predict", "top"}
"""Commands that neither read nor write it."""

COLOURS = ("dark", "light", "high-contrast", "colour-blind")

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What the operating system says of a stream that takes no more; a file that cannot be opened has a name."""
_ABOUT = "top for a training run that it also drives, and for a model that answers: VRAM, loss and samples/s, live."
_NO_TERMINAL = "traintop: there is no terminal here, so the run is done without the screen, as by `traintop run`.\n"


def main(words: Sequence[str] | None = None) -> int:
    """Obey the command line `words` and return the exit code. Without them it is the process's, which ends then."""
    if words is not None:
        return _obey(list(words))
    code = _obey(sys.argv[1:])
    if "torch" in sys.modules:
        from engine.session.leaving import leave

        leave(code)
    return code


def _obey(words: list[str]) -> int:
    _open_missing_streams()
    command = words[0] if words and words[0] in COMMANDS else None
    try:
        code = _run_command(command, words[1:]) if command else _run_app(words)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return exit_codes.INTERRUPTED
    except BrokenPipeError:  # the reader (`| head`) has seen enough
        _let_go_of_stdout()
        return exit_codes.DONE
    except Exception as error:
        code, told = _code_of(error), str(error)
        if isinstance(error, OSError) and error.filename is None and error.errno in _NO_ROOM:
            _let_go_of_stdout()
            code, told = exit_codes.FAILED, f"The output cannot be written: {error.strerror}."
        if code == exit_codes.DONE:
            raise
        from tui.drawing.text import clean

        told = "\n".join(clean(line) for line in told.splitlines())
        if not _is_silent():
            sys.stderr.write(f"traintop{f' {command}' if command else ''}: {told}\n")
        return code


def _is_silent() -> bool:
    """Whether another process, which was started with this one, says the same."""
    from engine.contract.config import ConfigError
    from engine.process.launched import launched

    try:
        here = launched()
    except ConfigError:
        return False
    return here is not None and here.is_silent


def _let_go_of_stdout() -> None:
    """The interpreter flushes stdout once more on its way out."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _open_missing_streams() -> None:
    """Fill closed descriptors 0 to 2: the next file opened would get their number, and prints would land in it."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
            setattr(sys, name, open(descriptor, "r" if descriptor == 0 else "w", closefd=False))  # noqa: SIM115


def _code_of(error: Exception) -> int:
    """The exit code of an error that is told in one sentence; `DONE` for a defect, which keeps its traceback."""
    from engine.contract.config import ConfigError
    from engine.history.errors import HistoryError
    from tui.command_line.flags import UsageError

    if isinstance(error, (ConfigError, UsageError)):
        return exit_codes.WRONG_USAGE
    return exit_codes.NOT_STORED if isinstance(error, HistoryError) else exit_codes.DONE


def _run_command(command: str, words: Sequence[str]) -> int:
    from tui.command_line.flags import Parser, add_history_dir

    module, about = COMMANDS[command]
    execute = import_module(module)
    parser = Parser(prog=f"traintop {command}", description=f"{about[0].upper()}{about[1:]}.")
    execute.add_flags(parser)
    if command not in WITHOUT_HISTORY:
        add_history_dir(parser)
    return int(execute.execute(parser.read(words)))


def _run_app(words: Sequence[str]) -> int:
    from engine.process.launched import launched
    from tui.command_line.flags import Parser, UsageError, add_history_dir, add_knobs, add_slow_link, alone, config_of

    if words and not words[0].startswith("-"):
        raise UsageError(
            f"{words[0]!r} is not a command: use {', '.join(COMMANDS)}, or none to open the app; a script of your own "
            "stands after --, as in traintop -- python train.py."
        )
    commands = "\n".join(f"  {name:<10}{about}" for name, (_, about) in COMMANDS.items())
    parser = Parser(
        prog="traintop",
        description=f"{_ABOUT}\n\ncommands (traintop COMMAND --help tells more):\n{commands}\n\n"
        "Without a command the app opens, with the knobs of the next run set by the flags below.\n\n"
        f"{exit_codes.HELP}",
    )
    parser.take_command("traintop -- python train.py --batch_size={batch_size}")
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    parser.add_argument("--demo", action="store_true", help="play the recorded session that traintop brings along")
    parser.add_argument("--ascii", action="store_true", help="draw with plain ASCII characters alone")
    parser.add_argument("--theme", metavar="|".join(COLOURS), help="colours (default: dark; T changes them)")
    add_slow_link(parser)
    parser.add_argument("--no-bell", action="store_true", help="do not ring when a run or a plan ends, or stands still")
    add_history_dir(parser)
    add_knobs(parser)
    arguments = parser.read(words)
    if arguments.theme not in (None, *COLOURS):
        raise UsageError(f"--theme {arguments.theme!r} is not known: use {', '.join(COLOURS)}.")
    if arguments.version:
        sys.stdout.write(f"traintop {_version()}\n")
        return exit_codes.DONE
    if arguments.demo:
        from tui.commands.replay import play_demo

        return play_demo(in_ascii=arguments.ascii, theme=arguments.theme, slow_link=arguments.slow_link)
    config = config_of(arguments)
    alone(launched(), "The app")
    if has_terminal():
        from tui.app.launch import open_app

        return open_app(
            config,
            in_ascii=arguments.ascii,
            theme=arguments.theme,
            slow_link=arguments.slow_link,
            rings=not arguments.no_bell,
        )
    sys.stderr.write(_NO_TERMINAL)
    from tui.commands.run import do

    return do(config, as_json=False)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("traintop")
    except PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    sys.exit(main())
