"""Texts that a training keeps from its model, as a person asks for them: what such a model is to be tried on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from engine.contract.config import RunConfig
from engine.workloads.standalone.chats import Message

if TYPE_CHECKING:
    from engine.workloads.sources.hub_data import HubLike

_BEGINNING, _MOST_WORDS = 0.5, 64
"""Of a running text that is given: this share of its words, and no more than so many."""
Prompt = str | list[Message]
"""A text, or a conversation that waits for an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """Of one source."""

    name: str
    """As sentences call it."""
    prompts: list[Prompt]
    texts: list[Prompt]
    """What a model is scored on: whole texts and conversations; of pairs what is read."""
    targets: list[str] = field(default_factory=list)
    """Of pairs what is to be written."""


def held_out(config: RunConfig, hub: HubLike | None, report: Callable[[str], None]) -> HeldOut:
    """What a training with `config` holds out, `eval_samples` at the most. Raises `ConfigError`."""
    if config.workload == "instructions":
        return _conversations(config, hub, report)
    if config.task == "seq2seq-lm":
        return _sources(config, hub, report)
    if config.task == "classification":
        return _reviews(config, hub, report)
    return _documents(config, hub, report)


def _conversations(config: RunConfig, hub: HubLike | None, report: Callable[[str], None]) -> HeldOut:
    from engine.workloads.kinds.instructions import choose_talks
    from engine.workloads.sources.source import find_source

    source = find_source(config, hub, report)
    talks = choose_talks(source.open(lambda sentence: None), source, config).held_out[: config.eval_samples]
    return HeldOut(name=source.name, prompts=[p for talk in talks if (p := question(talk))], texts=list(talks))


def question(messages: list[Message]) -> list[Message]:
    """A conversation up to its last answer; all of it where it ends without one."""
    last = len(messages)
    while last and messages[last - 1]["role"] == "assistant":
        last -= 1
    return messages[:last]


def _sources(config: RunConfig, hub: HubLike | None, report: Callable[[str], None]) -> HeldOut:
    from engine.workloads.kinds.pairs import choose_pairs
    from engine.workloads.sources.source import find_source

    source = find_source(config, hub, report)
    pairs = choose_pairs(source.open(lambda sentence: None), source, config).held_out
    texts: list[Prompt] = [text for text, _ in pairs]
    return HeldOut(name=source.name, prompts=texts, texts=texts, targets=[target for _, target in pairs])


def _reviews(config: RunConfig, hub: HubLike | None, report: Callable[[str], None]) -> HeldOut:
    from engine.workloads.sources.rows import choose_rows
    from engine.workloads.sources.source import find_source

    source = find_source(config, hub, report)
    texts: list[Prompt] = list(choose_rows(source.open(lambda sentence: None), source, config).held_out.texts())
    return HeldOut(name=source.name, prompts=texts, texts=texts)


def _documents(config: RunConfig, hub: HubLike | None, report: Callable[[str], None]) -> HeldOut:
    from engine.workloads.sources.documents import find_documents

    source = find_documents(config, hub, report)
    texts = source.open().held_out[: config.eval_samples]
    return HeldOut(name=source.name, prompts=[_begun(text) for text in texts], texts=list(texts))


def _begun(text: str) -> str:
    """The beginning of a text, to go on with."""
    words = text.strip()[: 100 * _MOST_WORDS].split(" ")
    return " ".join(words[: max(1, min(_MOST_WORDS, round(len(words) * _BEGINNING)))])
