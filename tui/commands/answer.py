"""`traintop answer`: let a model answer prompts without the screen, and tell how fast."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from engine.contract.knob import ANSWER
from engine.process.launched import launched
from tui.command_line.flags import add_knobs, alone, config_of
from tui.commands.run import JSON_HELP, do


def add_flags(parser: ArgumentParser) -> None:
    """The flags of `traintop answer`."""
    add_knobs(parser, ANSWER)
    parser.add_argument("--json", action="store_true", help=JSON_HELP)


def execute(arguments: Namespace) -> int:
    """`traintop answer`: the exit code says how the run ended."""
    alone(launched(), "Answering")
    return do(config_of(arguments), as_json=arguments.json)
