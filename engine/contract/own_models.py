"""How a model is called that a run of the history trained: `run:12`; and which knob named it. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from engine.contract.knob import ConfigError

_OF_RUN = "run:"
_NUMBER = re.compile(r"\d{1,18}", re.ASCII)


def is_own(model: str) -> bool:
    """Whether a model's name is to be that of a run's model; a run of that name need not be there."""
    return model.strip().lower().startswith(_OF_RUN)


def run_number(model: str) -> int | None:
    """The run that trained the model of this name; None where the name has no number of a run."""
    number = model.strip()[len(_OF_RUN) :]
    return int(number) if is_own(model) and _NUMBER.fullmatch(number) else None


def own_name(run_id: int) -> str:
    """What the model of that run is called."""
    return f"{_OF_RUN}{run_id}"


@contextmanager
def of_draft_model() -> Iterator[None]:
    """Inside, a model that is refused is a draft model."""
    try:
        yield
    except ConfigError as error:
        if error.knob != "model":
            raise
        refusal = ConfigError("draft_model", error.message.replace("--model", "--draft-model"))
    else:
        return
    raise refusal
