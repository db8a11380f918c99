"""What the process was given to talk through."""

from __future__ import annotations

import os
import sys


def has_terminal() -> bool:
    """Whether there is a terminal that the app can draw on (Textual draws on stderr) and read keys from."""
    streams = (sys.stdin, sys.stdout, sys.stderr)
    return all(stream is not None and stream.isatty() for stream in streams) and os.environ.get("TERM") != "dumb"
