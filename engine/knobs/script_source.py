"""What the source of a command's script tells, without running or importing anything. Standard library only."""

from __future__ import annotations

import ast
import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from engine.contract.script_word import ScriptWord, script_word

_SETTINGS = (".json", ".yaml", ".yml", ".toml")
"""Endings of files that scripts take flags from."""
_MOST_BYTES = 1 << 20
"""A larger file is no script that a person wrote."""

_PARSERS = frozenset(("HfArgumentParser", "TrlParser"))
_ARGUMENTS = frozenset(
    f"{name}Config"
    for name in (
        *("SFT", "DPO", "GRPO", "Reward", "KTO", "ORPO", "CPO", "BCO", "GKD", "PRM", "RLOO", "XPO", "NashMD"),
        "OnlineDPO",
    )
)
"""TRL's classes, which are `TrainingArguments` with more."""
_TRL = ("sft", "dpo", "grpo", "kto", "reward", "rloo")
"""Commands of TRL's program, whose scripts are in its package."""
_NOT_ARGUMENTS = "DataTrainingArguments"
"""As Hugging Face's examples name what is said of the data."""


def source_of(words: Sequence[str], script: ScriptWord) -> Path | None:
    """The script's file; None where it is not found."""
    name = words[script.at]
    if not script.is_module:
        path = Path(name)
        if path.is_file():
            return path
        found = shutil.which(name)
        return Path(found) if found else None
    parts = name.split(".")
    for folder in _import_path(words):
        for path in (folder.joinpath(*parts[:-1], f"{parts[-1]}.py"), folder.joinpath(*parts, "__main__.py")):
            if path.is_file():
                return path
    return None


def _import_path(words: Sequence[str]) -> Iterator[Path]:
    """Where the command's Python would look for a module, as far as that is known without starting it."""
    yield Path()
    yield from (Path(folder) for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder)
    program = shutil.which(words[0])
    if program:
        yield from sorted(Path(program).parent.parent.glob("lib/python3*/site-packages"))


def reads_training_arguments(words: Sequence[str]) -> bool:
    """Whether the script reads `transformers.TrainingArguments`, or a class made from it, from its command line.

    Looks into the script's own file alone: never raises.
    """
    script = script_word(words)
    if script is None or configured_by(words, script):
        return False
    if Path(words[script.at]).name == "trl" and not script.is_module:
        return words[script.at + 1 : script.at + 2] in [[name] for name in _TRL]
    path = source_of(words, script)
    tree = None if path is None else read_tree(path, mentions=_PARSERS)
    return tree is not None and _reads(tree)


def configured_by(words: Sequence[str], script: ScriptWord) -> str | None:
    """The file that transformers reads all flags from: where it is the only argument, others cannot stand beside it."""
    rest = words[script.at + 1 :]
    return rest[0] if len(rest) == 1 and rest[0].endswith(_SETTINGS) and not rest[0].startswith("-") else None


def unread_file(words: Sequence[str]) -> str | None:
    """The first file of settings among a script's arguments, whose flags are not read; None where there is none."""
    script = script_word(words)
    rest = words[script.at + 1 :] if script is not None else ()
    return next((word for word in rest if word.rpartition("=")[2].endswith(_SETTINGS)), None)


def read_tree(path: Path, *, mentions: Collection[str] = ()) -> ast.Module | None:
    """The syntax tree of a script; None of what is no Python, not to be read, or longer than a person writes.

    None also where none of the words of `mentions` stands in it, which is soon seen. Never raises.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES or (mentions and not any(word.encode() in content for word in mentions)):
            return None
        return ast.parse(content)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):  # or of another version of Python
        return None


def _reads(tree: ast.Module) -> bool:
    parses, made_here, names = False, set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            made_here.add(node.name)
        elif isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.Attribute):
            names.add(node.attr)
        parses = parses or (isinstance(node, ast.Call) and _called(node.func) in _PARSERS)
    return parses and any(_is_arguments(name) for name in names - made_here)


def _called(function: ast.expr) -> str:
    if isinstance(function, ast.Name):
        return function.id
    return function.attr if isinstance(function, ast.Attribute) else ""


def _is_arguments(name: str) -> bool:
    return name in _ARGUMENTS or (name.endswith("TrainingArguments") and name != _NOT_ARGUMENTS)
