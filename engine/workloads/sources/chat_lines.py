"""Conversations in JSON lines, looked at before anything heavy is imported. Standard library only."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.contract.config import ConfigError, RunConfig
from engine.workloads.files.plain_files import printable, quoted
from engine.workloads.sources.chat_columns import find_chat_columns
from engine.workloads.standalone.chats import is_written_list, messages_of


def check_chats(path: Path, config: RunConfig) -> None:
    """Raises `ConfigError` where a sound file of objects lacks the columns of conversations, or a row is none.

    What it says is what reading the table says. A file that is one array is left to that.
    """
    rows = list(_objects(path))
    names = list(dict.fromkeys(name for row in rows for name in row))
    if not names:
        return
    lists = [name for name in names if _is_list(next((row[name] for row in rows if row.get(name)), None))]
    name = quoted(path.name)
    columns = find_chat_columns(names, lists, name, config.text_column, config.target_column)
    for number, row in enumerate(rows, start=1):
        try:
            messages_of({each: row.get(each) for each in columns.names}, columns)
        except ValueError as error:
            raise bad_row(name, number, str(error)) from None


def bad_row(name: str, number: int, why: str) -> ConfigError:
    """On a row, counted from 1, of what sentences call `name`."""
    return ConfigError(
        "data",
        f"Row {number:,} of {name}: {printable(why)[:200]}; write messages as "
        '[{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}].',
    )


def _objects(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if number == 1 and line.lstrip().startswith("["):
                return
            if line.strip():
                yield json.loads(line)


def _is_list(value: object) -> bool:
    return isinstance(value, list) or (isinstance(value, str) and is_written_list(value))
