"""How a model is called that a run of the history trained: `run:12`. Standard library only."""

from __future__ import annotations

import re

_NAME = re.compile(r"run:(\d{1,18})", re.ASCII | re.IGNORECASE)


def run_number(model: str) -> int | None:
    """The run that trained the model of this name; None where the name is another kind of name."""
    found = _NAME.fullmatch(model.strip())
    return int(found[1]) if found else None


def own_name(run_id: int) -> str:
    """What the model of that run is called."""
    return f"run:{run_id}"
