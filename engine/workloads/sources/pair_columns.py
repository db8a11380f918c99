"""Which columns of a table are the source and the target of a pair."""

from __future__ import annotations

import datasets

from engine.contract.config import ConfigError
from engine.workloads.files.plain_files import quoted
from engine.workloads.sources.columns import check_text, given, holds_text, listed, one, usual

SOURCES = (
    "source", "src", "input", "text", "article", "document", "dialogue", "prompt", "instruction", "question",
    "sentence", "content", "body",
)  # fmt: skip
TARGETS = (
    "target", "tgt", "output", "summary", "highlights", "completion", "response", "answer", "translation",
    "paraphrase", "title", "headline",
)  # fmt: skip


def flat(table: datasets.Dataset) -> datasets.Dataset:
    """The table with columns of its own for what stands in objects: `translation.en` and `translation.de`."""
    return table.flatten()


def find_pair(table: datasets.Dataset, file: str, source: str | None, target: str | None) -> tuple[str, str]:
    """The names of the source and the target column: as given, else by usual name, else the only two of text.

    Raises `ConfigError` when a column is missing, no text, or not the only candidate.
    """
    if source is not None and source == target:
        raise ConfigError(
            "target_column", f"--text-column and --target-column are both {quoted(source)}: name two columns."
        )
    source, target = given(table, file, source, "text"), given(table, file, target, "target")
    texts = [name for name in table.column_names if holds_text(table.features[name])]
    others = [name for name in texts if name not in (source, target)]
    if source is None and target is None and len(others) == 2 and not (usual(others, SOURCES + TARGETS)):
        return others[0], others[1]  # in the order of the file, as pairs are written
    if target is None:
        target = _found(table, file, [n for n in others if n not in usual(others, SOURCES)], others, TARGETS, "target")
    if source is None:
        rest = [name for name in others if name != target]
        source = _found(table, file, rest, rest, SOURCES, "text")
    for name, knob in ((source, "text_column"), (target, "target_column")):
        check_text(table, file, name, knob)
    return source, target


def _found(
    table: datasets.Dataset, file: str, left: list[str], texts: list[str], names: tuple[str, ...], role: str
) -> str:
    if named := usual(texts, names):
        return one(named, file, role)
    if len(left) == 1:
        return left[0]
    what = "source" if role == "text" else role
    raise ConfigError(
        f"{role}_column",
        f"{file} has no column that is plainly the {what} among {listed(table.column_names, table.features)}: "
        f"name source and target with --text-column and --target-column.",
    )
