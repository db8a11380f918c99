"""How a model is called that a run of the history trained: `run:12`, or its folder; and which knob named it.

Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.contract.knob import ConfigError

_OF_RUN = "run:"
PREPARED = "traintop.json"
"""In a model's folder: which run it is of, and how its texts were prepared, which `predict` does again."""
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "adapter_model.safetensors")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tokenizer_config.json")
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


def is_trained_here(model: str) -> bool:
    """Whether a run of traintop trained it, by its name or by what lies in its folder."""
    return is_own(model) or (_folder(model) / PREPARED).is_file()


def knows_text(model: str) -> bool:
    """Whether it was trained on text, as far as its files tell: a folder has weights, and a tokenizer that made it."""
    if is_trained_here(model):
        return True
    folder = _folder(model)
    return all(any((folder / name).is_file() for name in names) for names in (_WEIGHTS, _TOKENIZERS))


def _folder(model: str) -> Path:
    try:
        return Path(model).expanduser()
    except RuntimeError:  # a home that is not known
        return Path(model)


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
