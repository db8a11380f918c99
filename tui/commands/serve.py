"""`traintop serve`: let browsers watch, each visit with a read-only `traintop watch` of its own behind it.

Runs are driven from elsewhere: the app or `traintop run` in a terminal, on the same history. So one engine serves all
viewers, whoever drives keeps his terminal, and nothing that comes in over the network can start anything.
"""

from __future__ import annotations

import shlex
import sys
from argparse import ArgumentParser, Namespace
from importlib.util import find_spec

from tui.command_line import exit_codes
from tui.command_line.flags import UsageError
from tui.commands.addresses import is_loopback

HOST, PORT = "127.0.0.1", 8000
_MISSING = "traintop serve: this needs the package textual-serve: pip install 'traintop[serve]'\n"


def add_flags(parser: ArgumentParser) -> None:
    """The flags of `traintop serve`."""
    parser.add_argument("--host", metavar="ADDRESS", default=HOST, help=f"where to listen (default: {HOST})")
    parser.add_argument("--port", metavar="N", default=str(PORT), help=f"default: {PORT}; 0 takes a free one")
    parser.add_argument(
        "--public", action="store_true", help="allow an address that other machines reach: everybody there can watch"
    )
    parser.add_argument("--demo", action="store_true", help="show the recorded session that traintop brings along")


def execute(arguments: Namespace) -> int:
    """`traintop serve`, until interrupted. Raises `UsageError`."""
    host, port = _host(arguments.host, public=arguments.public), _port(arguments.port)
    if find_spec("textual_serve") is None:
        sys.stderr.write(_MISSING)
        return exit_codes.FAILED
    from tui.commands.web import serve

    words = ["replay", "--demo"] if arguments.demo else ["watch"]
    if not is_loopback(host):
        sys.stderr.write("traintop serve: anyone who can reach this machine can watch; nothing asks for a password.\n")
    return serve(shlex.join([sys.executable, "-m", "tui.cli", *words]), host, port)


def _host(host: str, *, public: bool) -> str:
    if public or is_loopback(host):
        return host
    raise UsageError(
        f"--host {host!r} can be reached from other machines: add --public if everybody there may watch, or keep "
        f"{HOST} and come in by ssh -L {PORT}:{HOST}:{PORT}."
    )


def _port(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 5 or int(text) > 65_535:
        raise UsageError(f"--port {text!r} is not a port: use 0 to 65,535.")
    return int(text)
