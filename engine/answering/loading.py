"""The model that answers, on the host: found, read or made, and refused where it cannot write."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.contract.answering_combinations import ANSWERING_TASKS
from engine.contract.config import ConfigError, RunConfig
from engine.contract.own_models import is_own
from engine.contract.presets import model_name
from engine.training import adapted, answerers, models
from engine.training.hub import Hub
from engine.training.own_models import Find
from engine.training.saving.output import said

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What answers, before it is built."""

    source: models.ModelSource
    tokenizer: PreTrainedTokenizerBase | None
    trained_on: RunConfig | None = None
    """The knobs of the run that trained it, where that is known."""

    @property
    def vocab_size(self) -> int:
        """Rows of its embedding."""
        return int(self.source.config.get_text_config().vocab_size)

    @property
    def n_labels(self) -> int:
        """Of a classifier."""
        return int(self.source.config.num_labels)

    def notes(self, config: RunConfig) -> tuple[str, ...]:
        """Sentences that should be known about it."""
        made = " ".join(self.source.config.architectures or ())
        if config.task != "classification" or self.source.location is None or "SequenceClassification" in made:
            return (self.source.note,)
        name = model_name(config.model)
        return self.source.note, f"{name} has no classifier's head: it gets a new one, whose classes mean nothing."


def find(config: RunConfig, hub: Hub, own_model: Find) -> Found:
    """What the model's name stands for. Raises `ConfigError` where it cannot answer."""
    source, trained_on = resolve(config.model, config.task, hub, own_model)
    answerers.refuse_masked(source, config)
    _refuse_other_task(trained_on, config)
    models.check_head(source.config, config)
    return Found(source=source, tokenizer=source.tokenizer, trained_on=trained_on)


def resolve(name: str, task: str, hub: Hub, own_model: Find) -> tuple[models.ModelSource, RunConfig | None]:
    """Where a model is, and the knobs of the run that trained it, where one of ours did. Raises `ConfigError`."""
    if is_own(name):
        own = own_model(name)
        return own.source(hub), own.trained_on
    return adapted.resolve(name, task, hub), _trained_on(Path(name).expanduser())


def _trained_on(folder: Path) -> RunConfig | None:
    """What a run of ours wrote beside its model."""
    knobs = said(folder).get("knobs")
    try:
        return RunConfig.from_dict(knobs, lenient=True) if isinstance(knobs, dict) else None
    except ConfigError:  # of another version
        return None


def _refuse_other_task(trained_on: RunConfig | None, config: RunConfig) -> None:
    if trained_on is None or trained_on.task == config.task:
        return
    does = f"was trained for --task {trained_on.task}"
    if trained_on.task in ANSWERING_TASKS:
        raise ConfigError("task", f"--model {model_name(config.model)} {does}: use --task {trained_on.task}.")
    raise ConfigError(
        "model",
        f"--model {model_name(config.model)} {does}, which writes nothing and gives no class of a text: use a model of "
        "--task causal-lm, seq2seq-lm or classification.",
    )


def build(found: Found, config: RunConfig) -> PreTrainedModel:
    """The model on the host, ready to answer. Raises `ConfigError`."""
    shaped = models.shape(found.source, config, n_labels=found.n_labels, vocab_size=None)
    model = models.build(found.source, shaped, config)
    model.eval()
    model.requires_grad_(False)
    return model


def eos_of(found: Found, model: PreTrainedModel) -> frozenset[int]:
    """The tokens that end an answer, as the model's generation settings, its config or its tokenizer say."""
    for ids in (
        getattr(model.generation_config, "eos_token_id", None),
        found.source.config.get_text_config().eos_token_id,
        getattr(found.tokenizer, "eos_token_id", None),
    ):
        if ids is not None:
            return frozenset(ids) if isinstance(ids, (list, tuple)) else frozenset((int(ids),))
    return frozenset()
