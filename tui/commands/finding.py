"""One thing that `traintop doctor` looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tui.drawing.text import clean

Status = Literal["ok", "note", "problem", "fatal"]
"""`note`: good to know; `problem`: something is worse than it could be; `fatal`: nothing can be trained, or a card is
lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    check: str
    """What was looked at, in a word or two."""
    found: str
    """One line."""
    status: Status = "ok"
    fix: str | None = None


def as_text(finding: Finding) -> str:
    """A finding for people, with the fix on a line of its own."""
    lines = [f"{finding.status:<9}{finding.check:<14}{clean(finding.found)}"]
    if finding.fix:
        lines.append(f"{' ' * 23}{clean(finding.fix)}")
    return "".join(f"{line}\n" for line in lines)
