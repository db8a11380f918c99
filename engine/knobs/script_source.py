"""What a command's words and its script's source tell, without running or importing anything. Standard library only."""

from __future__ import annotations

import ast
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_PYTHON = re.compile(r"(?:python|pypy)[\d.]*(?:\.exe)?")
_PYTHON_WITH_VALUE = frozenset(("-W", "-X", "--check-hash-based-pycs"))
_LAUNCHERS = frozenset(("torchrun", "accelerate", "accelerate-launch", "deepspeed", "composer", "fabric", "ray"))
"""Programs whose first word that is a Python file, or is behind `-m`, is the script."""
_WRAPPERS = frozenset(
    ("nice", "ionice", "taskset", "numactl", "env", "time", "nohup", "stdbuf", "timeout", "uv", "poetry", "pipenv")
)
"""Programs that start the rest of the line, after options of their own."""
_LAUNCHING_MODULES = frozenset(
    ("torch.distributed.run", "torch.distributed.launch", "accelerate.commands.launch", "deepspeed.launcher.runner")
)
_MOST_BYTES = 4_000_000
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
_NOT_ARGUMENTS = "DataTrainingArguments"
"""As Hugging Face's examples name what is said of the data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptWord:
    """Which word of a command is the script."""

    at: int
    """Its place; words after it are the script's own."""
    is_module: bool = False
    """Whether it is a module's name, behind `-m`."""


def script_word(words: Sequence[str]) -> ScriptWord | None:
    """Which word is the script: behind Python and its options, and behind a launcher and its flags. None: it is not
    seen, as in `bash train.sh`.
    """
    at = _program(words)
    if at is None:
        return None
    name = Path(words[at]).name
    if _PYTHON.fullmatch(name):
        return _behind_python(words, at + 1)
    if name in _LAUNCHERS:
        return _behind_launcher(words, at + 1)
    return ScriptWord(at=at) if words[at].endswith(".py") or _is_python(Path(words[at])) else None


def _program(words: Sequence[str]) -> int | None:
    """The first word that is a program which starts nothing else: after `nice -n 5`, and `CUDA_VISIBLE_DEVICES=0`."""
    at = 0
    if words and Path(words[0]).name not in _WRAPPERS:
        return at
    for at, word in enumerate(words):
        name = Path(word).name
        if _PYTHON.fullmatch(name) or name in _LAUNCHERS or (at and word.endswith(".py")):
            return at
    return None


def _behind_python(words: Sequence[str], at: int) -> ScriptWord | None:
    while at < len(words):
        word = words[at]
        if word == "-m" or (word.startswith("-m") and not word.startswith("--")):
            if word != "-m":
                return None
            return _module(words, at + 1)
        if word == "-c" or word == "-":
            return None
        if not word.startswith("-"):
            return ScriptWord(at=at)
        at += 2 if word in _PYTHON_WITH_VALUE else 1
    return None


def _module(words: Sequence[str], at: int) -> ScriptWord | None:
    if at >= len(words):
        return None
    return _behind_launcher(words, at + 1) if words[at] in _LAUNCHING_MODULES else ScriptWord(at=at, is_module=True)


def _behind_launcher(words: Sequence[str], at: int) -> ScriptWord | None:
    """A launcher's flags have values of all kinds, but none that ends in `.py`."""
    for place in range(at, len(words)):
        if words[place] in ("-m", "--module") and place + 1 < len(words):
            return ScriptWord(at=place + 1, is_module=True)
        if words[place].endswith(".py"):
            return ScriptWord(at=place)
    return None


# its source ------------------------------------------------------------------------------------------------------


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
    path = source_of(words, script)
    text = None if path is None else _text(path)
    return text is not None and _reads(text)


def configured_by(words: Sequence[str], script: ScriptWord) -> str | None:
    """The file that transformers reads all flags from: where it is the only argument, others cannot stand beside it."""
    rest = words[script.at + 1 :]
    return rest[0] if len(rest) == 1 and rest[0].endswith((".json", ".yaml", ".yml")) else None


def _is_python(path: Path) -> bool:
    found = shutil.which(str(path))
    text = _text(Path(found)) if found else None
    return text is not None and text.startswith("#!") and "python" in text.partition("\n")[0]


def _text(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError:
        return None
    return None if len(content) > _MOST_BYTES or b"\0" in content else content.decode("utf-8", "replace")


def _reads(text: str) -> bool:
    if not any(name in text for name in _PARSERS):
        return False
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # of another version of Python
        return False
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
