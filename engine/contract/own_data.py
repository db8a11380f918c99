"""What `--data` stands for, told from its words alone, and what people call it. Standard library only."""

from __future__ import annotations

import re
from pathlib import PurePath, PureWindowsPath
from typing import TYPE_CHECKING

from engine.contract.text import one_line

if TYPE_CHECKING:
    from engine.contract.config import RunConfig

GENERATED = "generated"
LOADERS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".parquet": "parquet",
    ".xlsx": "xlsx",
}
"""Endings of tables, and who reads them."""
TEXT_SUFFIXES = frozenset({".txt", ".text"})
PACKED = ".gz"
"""May follow any ending but those of formats that are packed themselves."""
_KNOWN = TEXT_SUFFIXES | frozenset(LOADERS)
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(:[\w.-]+)?", re.ASCII)


def suffix_of(name: str) -> str:
    """A file's ending in small letters, without `.gz`: `.csv` for `a.CSV.gz`."""
    return PurePath(PurePath(name).stem if is_packed(name) else name).suffix.lower()


def is_packed(name: str) -> bool:
    """Whether a file is to be unpacked before it is read."""
    return PurePath(name).suffix.lower() == PACKED


def is_hub_name(name: str) -> bool:
    """True for `name`, `owner/name` and `owner/name:config`."""
    return bool(_HUB_NAME.fullmatch(name))


def is_file_name(data: str | None) -> bool:
    """Whether `--data` is meant as a file, rather than as generated text or as a data set of the hub."""
    if data is None or data == GENERATED:
        return False
    return suffix_of(data) in _KNOWN or not is_hub_name(data)


def is_own_file(workload: str, data: str | None) -> bool:
    """Whether a run trains on a file of the user's."""
    return workload != "dummy" and is_file_name(data)


def data_name(config: RunConfig) -> str:
    """What a run trains on, in one harmless line: a file by its name, a data set of the hub, else the workload."""
    data = config.data
    if config.workload == "dummy" or data is None or data == GENERATED:
        return config.workload
    return _file_name(data) if is_file_name(data) else one_line(data)


def prompts_name(config: RunConfig) -> str:
    """What a run is asked, in one harmless line: a file by its name, else `dummy` or `generated`."""
    return _file_name(config.prompts)


def _file_name(text: str) -> str:
    path = PureWindowsPath(text) if "\\" in text else PurePath(text)
    return one_line(path.name) or one_line(text)


def work_of(config: RunConfig, n_train: int | None = None) -> str:
    """The data and its size, `reviews.csv 960×512`: samples × tokens; `n_train` are those that a run trained on.

    With a target length of its own `dummy 512×80→3`: tokens that are read, and that are written.
    """
    many = n_train if n_train is not None else config.samples
    target = "" if config.target_len is None else f"→{config.target_len}"
    return f"{data_name(config)} {'all' if many is None else many}×{config.seq_len}{target}"
