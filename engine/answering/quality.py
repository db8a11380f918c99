"""What rounded weights, or keys and values, cost: the same held-out text read with and without them.

Perplexity and the agreement of the top token, teacher-forced: each token is foretold from the text before it as it is,
so that one other choice does not make all that follow it another text.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from engine.answering import loading
from engine.answering.loading import Found
from engine.answering.reading import reader
from engine.answering.sources import quality_texts
from engine.contract.config import ConfigError, RunConfig
from engine.contract.events import QualityMeasured
from engine.devices.base import Device
from engine.devices.precision import DTYPES
from engine.techniques.generation import caches
from engine.techniques.stopping import Stoppable, between_layers
from engine.training import models
from engine.training.hub import Hub
from engine.workloads.standalone.chat_tokens import WITHOUT_LABEL

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_WIDTH = 256
"""Tokens of a text that are read at once: a longer one is read in parts."""
_CHUNK = 8
"""Tokens that are read at once where keys and values are rounded: those before them are read as they are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What is read at once."""

    read: list[int]
    wanted: list[int]
    """What is to follow at each place, -100 where that does not count; of a seq2seq model what it is to write."""
    is_pair: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """What is read, as tokens."""

    name: str
    parts: list[Part]


@dataclass(frozen=True, slots=True, kw_only=True)
class Foretold:
    """What a model made of a text."""

    top: torch.Tensor
    """The likeliest token at each place, int64, shape (tokens,), on the host."""
    loss: float
    """The mean over the tokens, in nats."""


def is_measured(config: RunConfig, found: Found) -> bool:
    """Whether something is rounded that was not when the model was trained."""
    if config.task == "classification" or not config.held_out_tokens:
        return False
    return config.kv_dtype != "model" or config.weights not in (own_weights(found), "fp32")


def own_weights(found: Found) -> str:
    """The type of the model's own weights."""
    if found.trained_on is not None:
        return found.trained_on.stored_in
    dtype = getattr(found.source.config, "dtype", None)
    return next((name for name, each in DTYPES.items() if each is dtype), "fp32")


def text_of(config: RunConfig, found: Found, hub: Hub, report: Callable[[str], None]) -> Text:
    """Held-out text of `held_out_tokens`; random tokens of a model that cannot read. Raises `ConfigError`."""
    width = min(_WIDTH, models.max_positions(found.source.config) or _WIDTH)
    if found.tokenizer is None:
        source = random.Random(config.seed)
        ids = [source.randrange(found.vocab_size) for _ in range(config.held_out_tokens)]
        parts = _parts(ids, ids, width)
        if found.source.config.is_encoder_decoder:
            parts = [Part(read=part.read, wanted=part.read, is_pair=True) for part in parts]
        return Text(name="random tokens", parts=parts)
    texts, how = quality_texts(config, found, hub, report), reader(config, found)
    made: list[Part] = []
    left = config.held_out_tokens
    for place, text in enumerate(texts.texts):
        if left <= 0:
            break
        if texts.targets:
            wanted = found.tokenizer(text_target=texts.targets[place], truncation=True, max_length=min(width, left))
            more = [Part(read=how.tokens(text)[:width], wanted=wanted["input_ids"], is_pair=True)]
            left -= len(more[0].wanted)
        else:
            ids, labels = how.scored(text)
            more = _parts(ids[:left], labels[:left], width)
            left -= sum(len(part.read) for part in more)
        made += more
    if not made:
        raise ConfigError("held_out_tokens", f"The tokenizer makes nothing of {texts.name}: there is no text to read.")
    return Text(name=texts.name, parts=made)


def _parts(ids: list[int], labels: list[int], width: int) -> list[Part]:
    """A text in parts of up to `width` tokens, those left out that have nothing to tell."""
    parts = []
    for start in range(0, len(ids), width):
        read, wanted = ids[start : start + width], [*labels[start + 1 : start + width], WITHOUT_LABEL]
        if any(label != WITHOUT_LABEL for label in wanted):
            parts.append(Part(read=read, wanted=wanted[: len(read)]))
    return parts


def foretold(
    model: PreTrainedModel, text: Text, config: RunConfig, device: Device, should_stop: Callable[[], bool]
) -> Foretold:
    """What the model makes of the text, through the cache that `config` asks for where that rounds.

    Raises `Stopped` where that was asked for.
    """
    tops, loss = [], 0.0
    with between_layers(model, should_stop), torch.no_grad():
        for part in text.parts:
            logits = _logits(model, part, config, device.torch_device)
            wanted = torch.tensor(part.wanted, device=logits.device)
            counts = wanted != WITHOUT_LABEL
            scores = logits[counts].float()
            tops.append(scores.argmax(-1).cpu())
            loss += float(torch.nn.functional.cross_entropy(scores, wanted[counts], reduction="sum"))
    top = torch.cat(tops)
    return Foretold(top=top, loss=loss / len(top))


def _logits(model: PreTrainedModel, part: Part, config: RunConfig, device: torch.device) -> torch.Tensor:
    """(tokens, vocabulary): at each place what comes next."""
    whole: Any = model
    ids, inputs, name = torch.tensor([part.read], device=device), {}, "input_ids"
    if part.is_pair:
        inputs, name = {"encoder_outputs": whole.get_encoder()(input_ids=ids)}, "decoder_input_ids"
        ids = whole.prepare_decoder_input_ids_from_labels(labels=torch.tensor([part.wanted], device=device))
    if config.kv_dtype == "model":
        logits: torch.Tensor = whole(**{**inputs, name: ids}, use_cache=False).logits[0]
        return logits
    cache = caches.cache_for(config, model, tokens=ids.size(1), source_tokens=len(part.read))
    found = []
    for start in range(0, ids.size(1), _CHUNK):
        step = {**inputs, name: ids[:, start : start + _CHUNK]}
        found.append(whole(**step, past_key_values=cache, use_cache=True).logits[0])
    return torch.cat(found)


def unrounded(found: Found, config: RunConfig, device: Device, should_stop: Callable[[], bool]) -> PreTrainedModel:
    """The model with its own weights, on the device."""
    torch.manual_seed(config.seed)  # weights that are made are made again
    with Stoppable(should_stop):
        model = loading.build(found, plain(found, config))
    device.adopt(model)
    return model


def plain(found: Found, config: RunConfig) -> RunConfig:
    """The run without what it rounds."""
    return config.with_values(weights=own_weights(found), kv_dtype="model")


def measured(run_id: int, text: Text, ours: Foretold, own: Foretold) -> QualityMeasured:
    """The two beside each other."""
    return QualityMeasured(
        run_id=run_id,
        text_name=text.name,
        n_tokens=len(ours.top),
        agreement=float((ours.top == own.top).double().mean()),
        perplexity=_exp(ours.loss),
        own_perplexity=_exp(own.loss),
    )


def _exp(loss: float) -> float:
    return float(torch.tensor(loss, dtype=torch.float64).exp())
