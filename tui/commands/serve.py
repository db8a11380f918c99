"""`traintop serve`: let browsers watch, each visit with a read-only `traintop watch` of its own behind it.

Runs are driven from elsewhere: the app or `traintop run` in a terminal, on the same history. So one engine serves all
viewers, whoever drives keeps his terminal, and nothing that comes in over the network can start anything.

Every user of a machine reaches its loopback addresses. So the page asks for a token, which is part of the address that
is printed.
"""

from __future__ import annotations

import secrets
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from importlib.util import find_spec

from tui.command_line import exit_codes
from tui.command_line.flags import UsageError
from tui.commands.addresses import is_loopback
from tui.commands.own_python import own_python

HOST, PORT = "127.0.0.1", 8000
TOKEN_BYTES, SHORTEST = 24, 8
_START = "from tui.cli import main; sys.exit(main())"
_MISSING = "traintop serve: this needs the package textual-serve: pip install 'traintop[serve]'\n"


def add_flags(parser: ArgumentParser) -> None:
    """The flags of `traintop serve`."""
    parser.add_argument("--host", metavar="ADDRESS", default=HOST, help=f"where to listen (default: {HOST})")
    parser.add_argument("--port", metavar="N", default=str(PORT), help=f"default: {PORT}; 0 takes a free one")
    parser.add_argument(
        "--public", action="store_true", help="allow an address that other machines reach: who has the token can watch"
    )
    parser.add_argument(
        "--token",
        metavar="TEXT",
        help="what the address must contain (default: a new secret every time, which the printed address has; a text "
        "of your own is visible in this machine's list of processes)",
    )
    parser.add_argument(
        "--no-token", action="store_true", help="let everybody watch who reaches the address, all users of this machine"
    )
    parser.add_argument("--demo", action="store_true", help="show the recorded session that traintop brings along")


def execute(arguments: Namespace) -> int:
    """`traintop serve`, until interrupted. Raises `UsageError`."""
    host, port = _host(arguments.host, public=arguments.public), _port(arguments.port)
    token = _token(arguments.token, none=arguments.no_token)
    if find_spec("textual_serve") is None:
        sys.stderr.write(_MISSING)
        return exit_codes.FAILED
    from tui.commands.web import serve

    words = ["replay", "--demo"] if arguments.demo else ["watch"]
    if token is None:
        who = "user of this machine" if is_loopback(host) else "one who can reach this machine"
        sys.stderr.write(f"traintop serve: every {who} can watch: nothing asks for a token.\n")
    elif not is_loopback(host):
        sys.stderr.write("traintop serve: the token goes over the network as plain text; ssh -L would hide it.\n")
    return serve(command(words), host, port, token)


def command(words: Sequence[str]) -> list[str]:
    """How a process of this very program is started, whatever the folder holds that it is started in."""
    return [*own_python(_START), *words]


def _host(host: str, *, public: bool) -> str:
    if public or is_loopback(host):
        return host
    raise UsageError(
        f"--host {host!r} can be reached from other machines: add --public if who is there and has the token may "
        f"watch, or keep {HOST} and come in by ssh -L {PORT}:{HOST}:{PORT}."
    )


def _port(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 5 or int(text) > 65_535:
        raise UsageError(f"--port {text!r} is not a port: use 0 to 65,535.")
    return int(text)


def _token(text: str | None, *, none: bool) -> str | None:
    if none:
        if text is not None:
            raise UsageError("--token and --no-token contradict each other: leave one out.")
        return None
    if text is None:
        return secrets.token_urlsafe(TOKEN_BYTES)
    if len(text) < SHORTEST or not text.isprintable():
        raise UsageError(
            f"--token needs {SHORTEST} or more visible characters: leave it out for one that nobody guesses, "
            "or give --no-token to let everybody watch."
        )
    return text
