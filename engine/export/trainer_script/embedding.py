"""Our own code inside a script: read from its module, so that the script does what the run does."""

from __future__ import annotations

import ast
import inspect
from types import ModuleType
from typing import Any

from engine.export.trainer_script.parts import Part


def embedded(*modules: ModuleType) -> Part:
    """Whole modules of `engine.workloads.standalone`, the ones that others need first."""
    imports: list[str] = []
    functions: list[str] = []
    for module in modules:
        text = inspect.getsource(module)
        tree = ast.parse(text)
        body = [node for node in tree.body if not (isinstance(node, ast.Expr) and node is tree.body[0])]
        for node in body:
            if isinstance(node, (ast.Import, ast.ImportFrom)) and not _is_ours(node):
                imports.append(ast.unparse(node))
        last = max(node.end_lineno or 0 for node in body if isinstance(node, (ast.Import, ast.ImportFrom)))
        functions.append("\n".join(text.splitlines()[last:]).strip())
    return Part(imports=tuple(imports), functions=tuple(functions))


def _is_ours(node: ast.Import | ast.ImportFrom) -> bool:
    module = node.module or "" if isinstance(node, ast.ImportFrom) else node.names[0].name
    return module.partition(".")[0] in ("engine", "__future__")


def source_of(*things: Any) -> tuple[str, ...]:
    """The definitions of classes and functions that need nothing but what the script imports."""
    return tuple(inspect.getsource(thing).strip() for thing in things)
