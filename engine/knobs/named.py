"""Configurations under a name: those that a person saved, each a TOML file in the data folder, and some built in.

Standard library only, but for the TOML of `engine.knobs.files`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from engine.contract import paths
from engine.contract.config import ConfigError, RunConfig
from engine.knobs.files import load_knobs, save_knobs
from engine.plans.lecture import CONFIG

NAME_LIMIT = 50
_NAME = re.compile(rf"\w[^/\\:*?\"<>|]{{0,{NAME_LIMIT - 1}}}")
"""It becomes a file's: no character that a file system gives a meaning to, and no leading dot or dash."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedKnobs:
    """A configuration and what it is called."""

    name: str
    config: RunConfig | None
    about: str = ""
    """What it is for; of a file that cannot be read, why not."""
    built_in: bool = False


def _built_in(name: str, about: str, config: RunConfig) -> NamedKnobs:
    return NamedKnobs(name=name, about=about, config=config, built_in=True)


BUILT_IN: tuple[NamedKnobs, ...] = (
    _built_in("first steps", "bert-tiny on random tokens: a run takes a minute on a laptop.", RunConfig()),
    _built_in(
        "the lecture's batch 8",
        "bert-base as the lecture ran it: 512 samples of 512 tokens, foreach AdamW, eager attention; 93 % of a P4.",
        CONFIG,
    ),
    _built_in(
        "bert-large on a P4",
        "What the lecture could not fit: fused AdamW needs no copies in its step, checkpointing few activations.",
        CONFIG.with_values(
            model="bert-large-uncased",
            batch_size=4,
            gradient_checkpointing="on",
            optimizer_implementation="fused",
            device="virtual:tesla-p4",
        ),
    ),
    _built_in(
        "text, bucketed padding",
        "Reviews of different lengths in batches of similar ones: hardly anything is computed on padding.",
        RunConfig(workload="reviews", padding="bucketed", seq_len=128, batch_size=16, epochs=3),
    ),
    _built_in(
        "language model, packed",
        "A small GPT-2 on plain text, several texts to a row: no padding at all.",
        RunConfig(
            model="gpt2-tiny", workload="text", task="causal-lm", padding="packed", seq_len=128, batch_size=16, epochs=2
        ),
    ),
    _built_in(
        "LoRA",
        "bert-base with two thin matrices beside each frozen one: gradients and optimizer state all but vanish.",
        RunConfig(model="bert-base-uncased", lora_rank=8, batch_size=8),
    ),
)


def folder() -> Path:
    """Where the saved ones are."""
    return paths.data_dir() / "configurations"


def saved() -> list[NamedKnobs]:
    """All that were saved, by name; one whose file cannot be used is there without a configuration."""
    try:
        files = sorted(folder().glob("*.toml"), key=lambda path: path.name.lower())
    except OSError:
        return []
    return [_read(path) for path in files if not path.name.startswith(".")]


def _read(path: Path) -> NamedKnobs:
    try:
        return NamedKnobs(name=path.stem, config=RunConfig.from_dict(load_knobs(path)))
    except ConfigError as error:
        return NamedKnobs(name=path.stem, config=None, about=error.message)


def save(name: str, config: RunConfig) -> None:
    """Keep `config` under `name`, in the place of what had that name. Raises `ConfigError` with what to do instead."""
    path = _path(name)
    try:
        paths.make_private(paths.data_dir())
        paths.make_private(path.parent)
    except OSError as error:
        raise ConfigError("", f"{path.parent} cannot be made ({error.strerror or error}).") from None
    save_knobs(config, path)


def delete(name: str) -> None:
    """Take what was saved under `name` off the list; `restore` brings it back. Raises `ConfigError`."""
    _move(_path(name), _aside(name))


def restore(name: str) -> None:
    """Bring back what was deleted last under `name`. Raises `ConfigError`."""
    _move(_aside(name), _path(name))


def _move(path: Path, target: Path) -> None:
    try:
        path.replace(target)
    except OSError as error:
        raise ConfigError("", f"{path} cannot be moved ({error.strerror or error}).") from None


def _aside(name: str) -> Path:
    return folder() / f".deleted-{name}.toml"


def _path(name: str) -> Path:
    """The file of a name. Raises `ConfigError` on what cannot be one."""
    if not _NAME.fullmatch(name) or not name.isprintable() or name != name.strip():
        what = f'take up to {NAME_LIMIT} characters without / \\ : * ? " < > |, the first a letter or a digit'
        raise ConfigError("", f"{name!r} cannot be a name: {what}.")
    return folder() / f"{name}.toml"
