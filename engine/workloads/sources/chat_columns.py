"""Which columns of a table are its messages, or its prompts and answers. Standard library only."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from engine.contract.config import ConfigError
from engine.workloads.files.plain_files import quoted
from engine.workloads.standalone.chats import ChatColumns

MESSAGES = ("messages", "conversations", "conversation", "chat", "dialog", "dialogue", "turns")
PROMPTS = ("prompt", "instruction", "question", "query", "problem", "user")
ANSWERS = ("completion", "response", "output", "answer", "solution", "reply", "assistant", "target", "chosen")
CONTEXTS = ("input", "context")
"""Beside an `instruction`, what it is about, as in Alpaca and Dolly."""
SYSTEMS = ("system", "system_prompt")
_LISTED = 10  # names in a sentence


def find_chat_columns(
    names: Sequence[str], lists: Collection[str], file: str, prompt: str | None, answer: str | None
) -> ChatColumns:
    """The columns of a table called `file`, of which `lists` hold messages: as given, else by their usual names.

    Raises `ConfigError` where one is missing, or not the only candidate.
    """
    for given, knob in ((prompt, "text_column"), (answer, "target_column")):
        if given is not None and given not in names:
            raise ConfigError(knob, f"{file} has no column {quoted(given)}: it has {_listed(names)}.")
    if prompt is not None and prompt == answer:
        raise ConfigError(
            "target_column", f"--text-column and --target-column are both {quoted(prompt)}: name two columns."
        )
    system = next(iter(_usual(names, SYSTEMS)), None)
    answers = [name for name in _usual(names, ANSWERS) if name != prompt]
    if answer is None:
        if prompt in lists and not answers:
            return ChatColumns(messages=prompt, system=system)
        talks = [name for name in _usual(names, MESSAGES) if name in lists] if prompt is None else []
        if talks:
            return ChatColumns(messages=_one(talks, file, "messages", "text_column"), system=system)
    rest = [name for name in names if name != answer]
    context = next(iter(_usual(rest, CONTEXTS)), None)
    if prompt is None:
        prompts = _usual(rest, PROMPTS) or ([context] if context else [])
        if not prompts or (answer is None and not answers):
            raise ConfigError(
                "text_column",
                f"{file} has no messages, nor prompts with answers, among the columns {_listed(names)}: name the "
                "messages with --text-column, or prompt and answer with --text-column and --target-column.",
            )
        prompt = _one(prompts, file, "prompt", "text_column")
    if answer is None:
        if not answers:
            what = f"{file} has no column of answers among {_listed(names)}"
            raise ConfigError("target_column", f"{what}: name one with --target-column.")
        answer = _one(answers, file, "answer", "target_column")
    is_about = prompt.strip().lower() == "instruction" and context is not None
    return ChatColumns(prompt=prompt, answer=answer, context=context if is_about else None, system=system)


def _usual(names: Sequence[str], usual: Sequence[str]) -> list[str]:
    return [name for name in names if name.strip().lower() in usual]


def _one(found: list[str], file: str, role: str, knob: str) -> str:
    if len(found) == 1:
        return found[0]
    flag = f"--{knob.replace('_', '-')}"
    raise ConfigError(knob, f"Several columns of {file} could be the {role} ({_listed(found)}): name one with {flag}.")


def _listed(names: Sequence[str]) -> str:
    rest = f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else ""
    return ", ".join(quoted(name) for name in names[:_LISTED]) + rest
