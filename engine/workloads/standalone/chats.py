"""Rows of instruction data -> messages with `role` and `content`, whatever of the usual spellings the rows have.

Standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "chatgpt": "assistant", "model": "assistant"}
"""What others call a role, as in ShareGPT's `from`."""
Message = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatColumns:
    """Which columns hold what: `messages` alone, or `prompt` and `answer`, some with more about the prompt."""

    messages: str | None = None
    prompt: str | None = None
    context: str | None = None
    """What the prompt is about: Alpaca's `input`. It follows the prompt behind a blank line."""
    answer: str | None = None
    system: str | None = None

    @property
    def names(self) -> list[str]:
        """Those that there are."""
        every = (self.messages, self.system, self.prompt, self.context, self.answer)
        return [name for name in every if name is not None]


def messages_of(row: Mapping[str, Any], columns: ChatColumns) -> list[Message]:
    """A row as messages; empty where its prompt or its answer is missing. Raises `ValueError` with what is wrong."""
    system = turns(row[columns.system], "system", columns.system) if columns.system else []
    if columns.messages is not None:
        found = turns(row[columns.messages], "", columns.messages)
        return system + found if found and (not system or found[0]["role"] != "system") else found
    assert columns.prompt is not None
    assert columns.answer is not None
    prompt = turns(row[columns.prompt], "user", columns.prompt)
    answer = turns(row[columns.answer], "assistant", columns.answer)
    if not prompt or not answer:
        return []
    if columns.context and str(row[columns.context] or "").strip() and isinstance(prompt[-1]["content"], str):
        prompt[-1]["content"] = f"{prompt[-1]['content']}\n\n{row[columns.context]}"
    return [*system, *prompt, *answer]


def turns(value: Any, role: str, column: str) -> list[Message]:
    """The messages in a cell: a text is one of `role`; a list, also one written as JSON, is taken as it is.

    Empty where the cell is. Raises `ValueError`.
    """
    if value is None or (isinstance(value, float) and value != value):
        return []
    if isinstance(value, str):
        if not value.strip():
            return []
        if role and not is_written_list(value):
            return [{"role": role, "content": value}]
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise ValueError(f"{column} is a text, not a list of messages") from None
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
        if role and not isinstance(value, Mapping):  # a number is an answer, too
            return [{"role": role, "content": str(value)}]
        raise ValueError(f"{column} is no list of messages")
    return [_message(each, f"message {number} of {column}") for number, each in enumerate(value, start=1)]


def is_written_list(text: str) -> bool:
    """Whether a text is the JSON of a list of messages, by its beginning."""
    begin = "".join(text[:100].split())
    return begin.startswith(('[{"role"', '[{"from"', '[{"content"'))


def _message(given: Any, where: str) -> Message:
    if not isinstance(given, Mapping):
        raise ValueError(f"{where} is no object with role and content")
    known = {name: value for name, value in given.items() if value is not None}
    role = known.pop("role", None) or known.pop("from", None)
    if not isinstance(role, str) or not role.strip():
        raise ValueError(f"{where} has no role")
    content = known.pop("content", known.pop("value", None))
    if isinstance(content, Sequence) and not isinstance(content, str):  # parts, of which those of text count
        if any(not isinstance(part, Mapping) or part.get("type", "text") != "text" for part in content):
            raise ValueError(f"{where} has parts that are no text")
        content = "".join(str(part.get("text") or "") for part in content)
    if content is None and "tool_calls" in known:
        content = ""
    if not isinstance(content, str):
        raise ValueError(f"{where} has no content" if content is None else f"{where} has a content that is no text")
    role = role.strip().lower()
    return {"role": ROLES.get(role, role), "content": content, **known}
