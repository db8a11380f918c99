"""Where prompts that are texts come from: typed, a file, made up, or what a training held out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.answering.loading import Found
from engine.contract.answering_knobs import DEFAULT_REQUESTS, GENERATED_PROMPTS, NO_FILES, REPEATING_PROMPTS
from engine.contract.config import KNOBS, ConfigError, RunConfig
from engine.contract.numbers import n_of
from engine.contract.own_data import GENERATED
from engine.contract.presets import model_name
from engine.training.hub import Hub
from engine.workloads.early import about_prompts, check_prompts
from engine.workloads.files.plain_files import quoted
from engine.workloads.generated.instructions import to_repeat
from engine.workloads.held_out import HeldOut, Prompt, held_out, question
from engine.workloads.sources.chat_columns import CONTEXTS, MESSAGES, PROMPTS, SYSTEMS
from engine.workloads.sources.columns import TEXT_NAMES
from engine.workloads.sources.pair_columns import SOURCES
from engine.workloads.sources.text_rows import Row, open_rows
from engine.workloads.standalone.chats import Message, turns

_MOST = int(KNOBS["requests"].maximum or 0)
"""Rows of a file that are read at the most."""
_QUALITY_TEXTS = 1_000
"""Held-out texts that are looked at."""
Report = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Prompts as they are written."""

    prompts: Sequence[Prompt]
    name: str
    """Where they are from, as sentences call it."""
    notes: tuple[str, ...] = ()


def find_prompts(config: RunConfig, found: Found, hub: Hub, report: Report) -> Asked:
    """What a run asks, where it is text. Raises `ConfigError`."""
    if config.prompt is not None:
        return Asked(prompts=[config.prompt], name="the prompt")
    if config.prompts not in NO_FILES:
        return _file(config, found)
    n = config.requests or DEFAULT_REQUESTS
    if config.prompts == REPEATING_PROMPTS:
        name = "made-up text to repeat"
        return Asked(prompts=[to_repeat(config.seed, number) for number in range(n)], name=name)
    if config.prompts == GENERATED_PROMPTS:
        texts = held_out(_made_up(config, found, n), hub, report)
    elif found.trained_on is None:
        raise ConfigError(
            "prompts",
            f"--prompts held-out is what the model's training held out, and of {model_name(config.model)} no run of "
            "traintop is known: use --prompts generated, or a file.",
        )
    else:
        texts = held_out(own_data(found.trained_on), hub, report)
    notes = [f"Prompts: {texts.name}, held out."]
    if len(texts.prompts) < n and config.requests is not None:
        notes.append(f"There are {len(texts.prompts):,} of them: all are asked.")
    return Asked(prompts=texts.prompts[:n], name=texts.name, notes=tuple(notes))


def quality_texts(config: RunConfig, found: Found, hub: Hub, report: Report) -> HeldOut:
    """What is read to measure what rounding costs: held-out text of the model's training, else made-up text.

    Raises `ConfigError` where what was trained on is no longer there.
    """
    if found.trained_on is not None and found.trained_on.workload != "dummy":
        return held_out(own_data(found.trained_on), hub, report)
    return held_out(_made_up(config, found, _QUALITY_TEXTS), hub, report)


def own_data(trained_on: RunConfig) -> RunConfig:
    """The training whose held-out part is asked for. Raises `ConfigError` where it had none."""
    if trained_on.workload == "dummy":
        raise ConfigError(
            "prompts",
            "--prompts held-out is what the model's training held out, and it was trained on random tokens: use "
            "--prompts dummy or generated.",
        )
    return trained_on.with_values(samples=1) if _is_made_up(trained_on) else trained_on


def _is_made_up(config: RunConfig) -> bool:
    return config.data is None or config.data == GENERATED


def _made_up(config: RunConfig, found: Found, n: int) -> RunConfig:
    """A training on made-up text such as the model knows, where that can be told, whose held-out part is asked for."""
    task, before = config.task, found.trained_on
    if before is not None and before.workload != "dummy":
        workload = before.workload
    elif task == "classification":
        workload = "reviews"
    elif task == "causal-lm" and found.tokenizer is not None and found.tokenizer.chat_template:
        workload = "instructions"
    else:
        workload = "text"
    seed = before.seed if before is not None and _is_made_up(before) else config.seed
    return RunConfig(task=task, workload=workload, seed=seed, samples=1, eval_samples=n)


def _file(config: RunConfig, found: Found) -> Asked:
    check_prompts(config)
    try:
        return _read(config, found, Path(config.prompts).expanduser())
    except ConfigError as error:
        raise about_prompts(error) from None


def _read(config: RunConfig, found: Found, path: Path) -> Asked:
    usual = None if found.trained_on is None else found.trained_on.text_column
    names = SOURCES if config.task == "seq2seq-lm" else (*MESSAGES, *PROMPTS, *SOURCES)
    prompts: list[Prompt] = []
    n_blank = 0
    with open_rows(config.prompts, config.text_column, usual, (*names, *TEXT_NAMES)) as (rows, _):
        # a row more than are asked tells that there are more
        for number, row in enumerate(rows, 1):
            prompt = _prompt(row, number, path)
            if not prompt:
                n_blank += 1
                continue
            prompts.append(prompt)
            if len(prompts) == (config.requests or _MOST):
                break
    if not prompts:
        raise ConfigError("prompts", f"{quoted(path.name)} has no prompt in it: give a file with one per line or row.")
    notes = [f"Prompts: {len(prompts):,} of {quoted(path.name)}."]
    if n_blank:
        notes.append(f"{n_of(n_blank, 'row is', 'rows are')} passed over, without a prompt.")
    if config.requests is not None and len(prompts) < config.requests:
        notes.append(f"The file has no more than {n_of(len(prompts), 'prompt')}: all are asked.")
    return Asked(prompts=prompts, name=quoted(path.name), notes=tuple(notes))


def _prompt(row: Row, number: int, path: Path) -> Prompt | None:
    """A row as a prompt; None where it has none. Raises `ConfigError`."""
    if row.text is None:
        return None
    try:
        messages = turns(row.text, "user", "the prompt")
    except ValueError as error:
        raise ConfigError("prompts", f"Row {number:,} of {quoted(path.name)}: {error}: correct it.") from None
    if len(messages) > 1 or (messages and messages[0]["role"] != "user") or row.text != messages[0]["content"]:
        messages = question(messages)
    messages = [*_system(row), *_with_context(row, messages)]
    return messages if len(messages) > 1 else messages[0]["content"] if messages else None


def _system(row: Row) -> list[Message]:
    found = [row.values[name] for name in SYSTEMS if isinstance(row.values.get(name), str) and row.values[name].strip()]
    return [{"role": "system", "content": found[0]}] if found else []


def _with_context(row: Row, messages: list[Message]) -> list[Message]:
    """Alpaca's `input` belongs behind its `instruction`."""
    about = next((row.values[name] for name in CONTEXTS if row.values.get(name)), None)
    if len(messages) != 1 or not isinstance(about, str) or row.values.get("instruction") != row.text:
        return messages
    return [{**messages[0], "content": f"{messages[0]['content']}\n\n{about}"}]
