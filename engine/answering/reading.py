"""Prompts as text -> the tokens that the model reads, in the form that it was taught conversations in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.answering.loading import Found
from engine.answering.requests import Request
from engine.answering.sources import Asked
from engine.contract.config import ConfigError, RunConfig
from engine.contract.numbers import n_of
from engine.contract.presets import model_name
from engine.training import models
from engine.workloads.files.plain_files import printable
from engine.workloads.held_out import Prompt
from engine.workloads.standalone.chat_tokens import encode, with_template
from engine.workloads.tokens.vocabulary import check_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_CHARACTERS_PER_TOKEN = 100
"""More than any real text has: a text of gigabytes is not tokenised whole."""
_LONGEST = 1_048_576
"""Tokens of a prompt, where the model sets no limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """How a run's prompts become tokens."""

    config: RunConfig
    tokenizer: PreTrainedTokenizerBase
    vocab_size: int
    limit: int
    """Tokens of a prompt: of a longer one the end is kept, of a text to be classified the beginning."""

    def is_chat(self, prompt: Prompt) -> bool:
        """Whether it is asked in the form of a conversation."""
        if not self.config.chat_template or self.config.task != "causal-lm":
            return False
        return bool(self.tokenizer.chat_template) or not isinstance(prompt, str)

    def written(self, prompt: Prompt) -> str:
        """As one text. Raises what a chat template raises: it is code."""
        if self.is_chat(prompt):
            messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
            told: str = with_template(self.tokenizer).apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
            return told
        return prompt if isinstance(prompt, str) else "\n\n".join(str(message["content"]) for message in prompt)

    def tokens(self, prompt: Prompt) -> list[int]:
        """All of its tokens, but for texts that are absurdly long."""
        text, room = self.written(prompt), self.limit * _CHARACTERS_PER_TOKEN
        special = not self.is_chat(prompt)  # a template has written them
        return self._ids(text[-room:], add_special_tokens=special, verbose=False)

    def kept(self, prompt: Prompt) -> tuple[list[int], bool]:
        """Of its tokens as many as the limit allows, and whether there are more."""
        if self.config.task != "classification":
            ids = self.tokens(prompt)
            return ids[-self.limit :], len(ids) > self.limit
        text = self.written(prompt)[: self.limit * _CHARACTERS_PER_TOKEN]
        ids = self._ids(text, truncation=True, max_length=self.limit)  # what begins and ends a text stays
        return ids, len(ids) == self.limit < len(self._ids(text, truncation=True, max_length=self.limit + 1))

    def _ids(self, text: str, **options: Any) -> list[int]:
        ids: list[int] = self.tokenizer(text, return_attention_mask=False, **options)["input_ids"]
        return ids

    def scored(self, text: Prompt) -> tuple[list[int], list[int]]:
        """The tokens of a whole text and, of each, itself or -100 where it does not count.

        Of a conversation the answers count, where the template lets them be told: questions nobody asks it to foretell.
        """
        if isinstance(text, str):
            ids = self.tokens(text)
            return ids, ids
        made = encode([text], with_template(self.tokenizer), _LONGEST, answers_only=self.tokenizer.is_fast)
        if not made.conversations:
            made = encode([text], with_template(self.tokenizer), _LONGEST, answers_only=False)
        found = made.conversations[:1]
        return [token for each in found for token in each.ids.tolist()], [
            label for each in found for label in each.labels.tolist()
        ]


def reader(config: RunConfig, found: Found) -> Reader:
    """How text is read. Raises `ConfigError` where the model cannot read any."""
    if found.tokenizer is None:
        knob = "prompts" if config.prompt is None else "prompt"
        what = "made anew with random weights" if not found.source.has_weights else "without a tokenizer"
        raise ConfigError(
            knob,
            f"{model_name(config.model)} is {what}, and cannot read text: use --prompts dummy, or train it and ask "
            "that run's model: --model run:N.",
        )
    positions = models.max_positions(found.source.config) or _LONGEST
    limit = config.prompt_len or _LONGEST
    if config.task == "classification":
        trained = positions if found.trained_on is None else found.trained_on.seq_len
        limit = min(config.prompt_len or trained, positions)
    return Reader(config=config, tokenizer=found.tokenizer, vocab_size=found.vocab_size, limit=limit)


def read(asked: Asked, how: Reader) -> tuple[list[Request], list[str]]:
    """The requests, and sentences on them. Raises `ConfigError` where none can be read."""
    requests: list[Request] = []
    n_cut = n_empty = 0
    for number, prompt in enumerate(asked.prompts, 1):
        try:
            ids, is_cut = how.kept(prompt)
        except Exception as error:  # a template's code, and what it calls
            raise ConfigError(
                "chat_template",
                f"Prompt {number:,} of {asked.name} cannot be written in the model's chat template "
                f"({printable(str(error))[:150]}): correct it, or use --chat-template off.",
            ) from None
        if not ids:
            n_empty += 1
            continue
        n_cut += is_cut
        requests.append(Request(number=len(requests) + 1, input_ids=tuple(ids), text=_shown(prompt)))
    if not requests:
        raise ConfigError("prompts", f"The tokenizer makes nothing of {asked.name}: ask something else.")
    check_ids([np.array(request.input_ids, dtype=np.int32) for request in requests], how.vocab_size)
    notes = []
    if n_cut:
        what, stays = ("text", "beginning") if how.config.task == "classification" else ("prompt", "end")
        cut = f"{n_of(n_cut, f'{what} is', f'{what}s are')} longer than {n_of(how.limit, 'token')}"
        notes.append(f"{cut}: the {stays} is kept (--prompt-len).")
    if n_empty:
        passed = n_of(n_empty, "prompt is", "prompts are")
        notes.append(f"{passed} passed over, as the tokenizer makes nothing of {'it' if n_empty == 1 else 'them'}.")
    if any(not isinstance(prompt, str) for prompt in asked.prompts) and not how.config.chat_template:
        notes.append("Conversations are asked as plain text (--chat-template off).")
    elif any(map(how.is_chat, asked.prompts)):
        whose = "the model's chat template" if how.tokenizer.chat_template else "a plain one, as the model has none"
        notes.append(f"They are asked in {whose}.")
    return requests, notes


def _shown(prompt: Prompt) -> str:
    return prompt if isinstance(prompt, str) else str(prompt[-1]["content"])
