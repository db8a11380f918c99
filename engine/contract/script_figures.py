"""What was seen of a user's own script beside what every training has. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

HELD = ("weights", "gradients", "optimizer", "frozen")
"""The categories of what a script holds all the time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptFigures:
    """Of one run of a script; each field None where it was not seen."""

    exit_code: int | None = None
    """As a shell tells it: 128 and its number for a signal. None while it runs, and of one that was attached."""
    log_path: str | None = None
    """What it printed to stdout; what went to stderr, if anything, is beside it, in `run-N.err.log`."""
    model: str | None = None
    """The class of the model that holds what is trained."""
    optimizer: str | None = None
    """The class of the optimizer with the most parameters."""
    told_by: str | None = None
    """`transformers` or `lightning`: the trainer whose logs were read; None: a plain loop."""
    batch_size: int | None = None
    """Samples of a micro-step, the usual number."""
    gradient_accumulation_steps: int | None = None
    """Micro-steps of an update, the usual number."""
    seq_len: int | None = None
    """Tokens of a sample, padding included: the most that were seen."""
    held: dict[str, int] = field(default_factory=dict)
    """Bytes by category of `HELD`, the most that were seen."""
    figures: dict[str, float] = field(default_factory=dict)
    """What its trainer logged last, by name."""
    n_processes: int | None = None
    """That trained: ranks under torchrun."""
    switched_off: str | None = None
    """Why the instrument was switched off, where it was."""


def to_plain(figures: ScriptFigures | None) -> dict[str, Any] | None:
    """As JSON can hold it."""
    return None if figures is None else asdict(figures)


def from_plain(value: object) -> ScriptFigures | None:
    """What `to_plain` made; what this version cannot read is unknown. Never raises."""
    if not isinstance(value, Mapping):
        return None
    known: dict[str, Any] = {}
    for f in fields(ScriptFigures):
        read, kind = value.get(f.name), str(f.type)
        if kind.startswith("dict"):
            items = read.items() if isinstance(read, Mapping) else ()
            known[f.name] = {str(name): each for name, each in items if type(each) in (int, float)}
        elif type(read) is (str if kind.startswith("str") else int):
            known[f.name] = read
    return ScriptFigures(**known)
