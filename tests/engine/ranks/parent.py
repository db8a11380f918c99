"""A process that starts two ranks and is to be killed: `python -m tests.engine.ranks.parent [workers]`.

Says which processes there are, one line with their numbers, once the first update is done.
"""

from __future__ import annotations

import sys

import psutil

from tests.engine.ranks.driver import SMALL, Driven, drive


def say(driven: Driven) -> None:
    """All that came of this process."""
    print(*(child.pid for child in psutil.Process().children(recursive=True)), flush=True)  # noqa: T201


if __name__ == "__main__":
    n_workers = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    drive(SMALL.with_values(samples=100_000, dataloader_num_workers=n_workers), say)
