"""A script in the making: what each part of it imports, states, defines and does. Standard library only."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Lines of a script by where they stand."""

    imports: tuple[str, ...] = ()
    """`import x` and `from x import a, b`."""
    constants: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    """Whole definitions; the same one of several parts is there once."""
    main: tuple[str, ...] = ()
    """What `main` does, in order, not indented."""
    notes: tuple[str, ...] = ()
    """What the reader should know, a sentence each: one harmless line."""
    needs: tuple[str, ...] = ()
    """Packages beside torch, transformers, datasets and accelerate."""


def source(heading: Sequence[str], parts: Sequence[Part]) -> str:
    """The script: `heading` and all notes as comments, then imports, constants, functions and `main`."""
    notes = [note for part in parts for note in part.notes]
    needs = ", ".join(dict.fromkeys(("torch", "transformers 5", "datasets", "accelerate", *_all(parts, "needs"))))
    comments = [*heading, f"Needs {needs}.", *notes]
    blocks = [
        "\n".join(f"# {line}" for line in comments),
        "\n".join(merged(_all(parts, "imports"))),
        "\n".join(_all(parts, "constants")),
        *(f"\n{definition.strip()}\n" for definition in dict.fromkeys(_all(parts, "functions"))),
        "\ndef main():\n" + "\n".join(f"    {line}".rstrip() for line in _all(parts, "main")) + "\n",
        '\nif __name__ == "__main__":\n    main()',
    ]
    return "\n\n".join(block for block in blocks if block.strip()).replace("\n\n\n\n", "\n\n\n") + "\n"


def _all(parts: Iterable[Part], name: str) -> list[str]:
    return [line for part in parts for line in getattr(part, name)]


def merged(lines: Iterable[str]) -> list[str]:
    """Import lines, each module once: those of the standard library first, then the others."""
    modules: dict[str, set[str]] = {}
    for line in lines:
        (node,) = ast.parse(line).body
        if isinstance(node, ast.ImportFrom):
            modules.setdefault(f"from {node.module}", set()).update(name.name for name in node.names)
        elif isinstance(node, ast.Import):
            for name in node.names:
                modules[f"import {name.name}" + (f" as {name.asname}" if name.asname else "")] = set()
    written = [_import_of(module, sorted(names)) for module, names in sorted(modules.items())]
    own = [line for line in written if _top(line) in _STANDARD]
    others = [line for line in written if _top(line) not in _STANDARD]
    return [*own, *([""] if own and others else []), *others]


def _import_of(module: str, names: Sequence[str]) -> str:
    line = f"{module} import {', '.join(names)}" if names else module
    if len(line) <= _WIDTH:
        return line
    return "\n".join((f"{module} import (", *(f"    {name}," for name in names), ")"))


_WIDTH = 110


def literal(value: object) -> str:
    """A value as source, with double quotes where that needs no escape."""
    if isinstance(value, str):
        text = repr(value)
        return f'"{text[1:-1]}"' if text[0] == "'" and '"' not in text and "\\'" not in text else text
    if isinstance(value, dict):
        return "{" + ", ".join(f"{literal(key)}: {literal(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    return repr(value)


def assigned(name: str, value: object, comment: str = "") -> list[str]:
    """An assignment, on lines of their own where it has many entries."""
    text = f"{name} = {literal(value)}{comment}"
    if len(text) <= _WIDTH or not isinstance(value, (dict, list)):
        return [text]
    if isinstance(value, dict):
        entries, (opened, closed) = [f"{literal(key)}: {literal(inner)}" for key, inner in value.items()], "{}"
    else:
        entries, (opened, closed) = [literal(inner) for inner in value], "[]"
    lines, line = [f"{name} = {opened}{comment}"], "   "
    for entry in entries:
        if len(line) + len(entry) > _WIDTH and line.strip():
            lines.append(line)
            line = "   "
        line += f" {entry},"
    return [*lines, line, closed]


def _top(line: str) -> str:
    return line.split()[1].partition(".")[0]


_STANDARD = frozenset(
    ("bisect", "collections", "copy", "csv", "dataclasses", "itertools", "json", "math", "os", "pathlib", "typing")
)
