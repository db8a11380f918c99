"""Runs for a paper, a page, a spreadsheet or another program: Markdown, LaTeX, CSV and JSON. Standard library only.

MiB = 2^20 bytes. Text from configurations and messages is hostile until escaped for the format at hand.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any

from engine.compare.scaling import Scaling, nothing_known
from engine.contract.as_json import record_to_json
from engine.contract.records import RunRecord
from engine.contract.text import columns_of
from engine.export import latex as export_latex
from engine.export.csv import read_csv, to_csv
from engine.export.table import Column, Table, by_job

__all__ = ["read_csv", "to_csv", "to_json", "to_latex", "to_markdown"]


def to_markdown(
    records: Sequence[RunRecord],
    baselines: Sequence[RunRecord] = (),
    *,
    repeats_as_one: bool = False,
    closings: Sequence[str] = (),
    scaling: Scaling = nothing_known,
) -> str:
    """A table (GitHub's Markdown) that is also aligned as plain text, one for each job; see `engine.export.table`."""
    tables = by_job(records, baselines, repeats_as_one=repeats_as_one, closings=closings, scaling=scaling)
    return "\n".join((f"### {title}\n\n" if title else "") + _markdown(table) for title, table in tables)


def _markdown(table: Table) -> str:
    columns = [_padded(column) for column in table.columns]
    lines = [f"| {' | '.join(cells)} |" for cells in zip(*columns, strict=True)]
    notes = [f"\n{_escaped(note)}" for note in table.notes]
    return "\n".join([*lines, *notes]) + "\n"


def _padded(column: Column) -> list[str]:
    """Heading, rule and cells, all equally wide."""
    texts = [_escaped(column.heading), *map(_escaped, column.cells)]
    width = max(3, *map(columns_of, texts))
    blanks = [" " * (width - columns_of(text)) for text in texts]
    cells = [blank + text if column.right else text + blank for text, blank in zip(texts, blanks, strict=True)]
    rule = "-" * (width - 1) + ":" if column.right else "-" * width
    return [cells[0], rule, *cells[1:]]


_MARKUP = re.compile(r"[\\`*\[\]|~$]|(?<!\w)_|_(?!\w)")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "&#64;", "://": "&#58;//", "www.": "www&#46;"}
_ENTITY = re.compile("|".join(map(re.escape, _ENTITIES)))


def _escaped(text: str) -> str:
    """Text without tabs and newlines as Markdown that shows it, with no markup, link or mention."""
    text = _ENTITY.sub(lambda found: _ENTITIES[found[0]], text)
    return _MARKUP.sub(lambda found: f"\\{found[0]}", text)


def to_latex(
    records: Sequence[RunRecord],
    baselines: Sequence[RunRecord] = (),
    *,
    repeats_as_one: bool = False,
    closings: Sequence[str] = (),
    scaling: Scaling = nothing_known,
    caption: str | None = None,
    label: str | None = None,
) -> str:
    """A booktabs table, in a float where a caption or a label is given, one for each job; see `engine.export.table`.

    The second float's label ends in its job.
    """
    tables = by_job(records, baselines, repeats_as_one=repeats_as_one, closings=closings, scaling=scaling)
    texts = []
    for index, (title, table) in enumerate(tables):
        own = caption if caption is None or not title else f"{caption} ({title.lower()})"
        name = label if label is None or not index else f"{label}-{title.lower()}"
        heading = f"% {title}\n" if title else ""
        texts.append(heading + export_latex.to_latex(table, caption=own, label=name))
    return "\n".join(texts)


def to_json(records: Sequence[RunRecord], scaling: Scaling = nothing_known) -> str:
    """A list of `run_finished` objects as `runs --json` prints them; null where unknown, infinite or not a number."""
    runs = [_finite({"event": "run_finished", **record_to_json(record, scaling(record))}) for record in records]
    return json.dumps(runs, indent=2, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
