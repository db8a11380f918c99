"""How a rank ended, as it tells the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engine.contract.records import Outcome, Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """Otherwise than at the end of the run."""

    rank: int
    who: str
    """`rank 1 (node2, Tesla P4)`."""
    outcome: Outcome | None
    """None: the configuration was refused."""
    message: str | None = None
    knob: str = ""
    phase: Phase | None = None

    def to_word(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "rank": self.rank,
            "who": self.who,
            "outcome": self.outcome.value if self.outcome is not None else None,
            "message": self.message,
            "knob": self.knob,
            "phase": self.phase.value if self.phase is not None else None,
        }

    @classmethod
    def from_word(cls, word: dict[str, Any]) -> End:
        """What `to_word` made."""
        outcome, phase = word["outcome"], word["phase"]
        return cls(
            rank=word["rank"],
            who=word["who"],
            outcome=Outcome(outcome) if outcome is not None else None,
            message=word["message"],
            knob=word["knob"],
            phase=Phase(phase) if phase is not None else None,
        )
