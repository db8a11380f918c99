"""What a script's source says of its flags and of what it trains, read without running it. Standard library only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from engine.knobs.script_source import read_tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Of one file."""

    name: str
    """The file's."""
    words: frozenset[str] = frozenset()
    """Names that stand in it, those it imports among them."""
    defaults: dict[str, object] = field(default_factory=dict)
    """By the name of a flag: its default where that is written out, else None. Of fields and of `add_argument`."""


def read_source(path: Path) -> Source | None:
    """Read a script; None of what is no Python, or not to be read. Never raises."""
    tree = read_tree(path)
    if tree is None:
        return None
    words: set[str] = set()
    defaults: dict[str, object] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            words.add(node.id)
        elif isinstance(node, ast.Attribute):
            words.add(node.attr)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            words.update(alias.name.rpartition(".")[2] for alias in node.names)
        if isinstance(node, ast.ClassDef):
            defaults.update(_fields(node))
        elif isinstance(node, ast.Call):
            defaults.update(_argument(node))
    return Source(name=path.name, words=frozenset(words), defaults=defaults)


def _fields(node: ast.ClassDef) -> Iterator[tuple[str, object]]:
    """The fields of a class that may be a dataclass for `HfArgumentParser`."""
    for each in node.body:
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
            value = each.value
            if isinstance(value, ast.Call):
                value = _keyword(value, "default")
            yield each.target.id, _literal(value)


def _argument(node: ast.Call) -> Iterator[tuple[str, object]]:
    """The flags of `parser.add_argument("--name", "-n", default=…)`; of `store_true` the default is False."""
    if not isinstance(node.func, ast.Attribute) or node.func.attr != "add_argument":
        return
    default = _literal(_keyword(node, "default"))
    if default is None and _literal(_keyword(node, "action")) == "store_true":
        default = False
    for each in node.args:
        flag = _literal(each)
        if isinstance(flag, str) and flag.startswith("--"):
            yield flag[2:].replace("-", "_"), default


def _keyword(node: ast.Call, name: str) -> ast.expr | None:
    return next((each.value for each in node.keywords if each.arg == name), None)


def _literal(node: ast.expr | None) -> object:
    try:
        return None if node is None else ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError):  # it is computed
        return None
