"""A log file for each rank: what it prints, its warnings and its tracebacks."""

from __future__ import annotations

import contextlib
import logging
import os
import sys

from engine.contract.config import ConfigError
from engine.contract.paths import data_dir, make_private
from engine.process.run_files import make_room


def files(run_id: int, world_size: int) -> list[str | None]:
    """A file for each rank of a run, and none of runs long before; None where none can be written."""
    try:
        folder = data_dir() / "ranks"
        make_private(folder)
        make_room(folder)
        paths = [folder / f"run-{run_id}-rank-{rank}.log" for rank in range(world_size)]
        for path in paths:
            path.write_bytes(b"")  # of a history that was begun anew there may be one of this name
    except (OSError, ConfigError):
        logging.getLogger("traintop").warning("no log files for ranks", exc_info=True)
        return [None] * world_size
    return [str(path) for path in paths]


def write_to(path: str | None) -> None:
    """For a rank: descriptors 1 and 2 and Python's logging go to its file from now on."""
    descriptor = -1
    if path is not None:
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    if descriptor < 0:
        descriptor = os.open(os.devnull, os.O_WRONLY)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    os.close(descriptor)
    # whatever they were in the fork server; a line is whole as soon as it ends
    sys.stdout, sys.stderr = (os.fdopen(os.dup(n), "w", 1, encoding="utf-8", errors="replace") for n in (1, 2))
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    logging.getLogger("traintop").setLevel(logging.INFO)
