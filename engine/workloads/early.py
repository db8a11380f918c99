"""What is wrong with a file of data, told before anything heavy is imported and before a run has a number."""

from __future__ import annotations

import csv
from pathlib import Path

from engine.contract.answering_knobs import NO_FILES
from engine.contract.config import ConfigError, RunConfig
from engine.contract.own_data import LOADERS, TEXT_SUFFIXES, is_file_name, is_own_file, suffix_of
from engine.workloads.files.plain_files import (
    bad_json_line,
    bad_record,
    check_file,
    check_json_array,
    check_parquet,
    check_table_name,
    check_utf8,
    csv_layout,
    quoted,
)
from engine.workloads.files.unpacked import is_plain, plain, unpacked_chunks
from engine.workloads.files.workbooks import check_workbook, unpacked_size
from engine.workloads.sources.chat_lines import check_chats

WHOLE_BYTES = 4 * 2**20
"""A file up to this size is read whole: a fraction of a second. Of a larger one its beginning."""


def check_data(config: RunConfig) -> None:
    """Raises `ConfigError` where a run trains on a file that is missing or broken, as far as that is soon seen.

    What it says is what reading the file for the run would say, which finds the rest.
    """
    if config.answers:
        check_prompts(config)
        return
    if config.data is None or not is_own_file(config.workload, config.data):
        return
    path, data = Path(config.data).expanduser(), config.data
    suffix = suffix_of(path.name)
    if config.workload == "text" and config.task != "seq2seq-lm" and suffix in TEXT_SUFFIXES:
        check_file(path, data)
    else:
        check_table_name(path, data)
    if is_plain(path):
        _check(path, config, whole=path.stat().st_size <= WHOLE_BYTES)
    elif _is_soon_unpacked(path):
        with plain(path) as unpacked:  # which the run finds unpacked
            _check(unpacked, config, whole=True)


def check_prompts(config: RunConfig) -> None:
    """Raises `ConfigError` where a run asks what is in a file that is not there, or cannot be one."""
    if config.prompt is not None or config.prompts in NO_FILES:
        return
    path = Path(config.prompts).expanduser()
    if not is_file_name(config.prompts) and not path.exists():
        raise ConfigError(
            "prompts",
            f"--prompts {quoted(config.prompts)} is neither {', '.join(NO_FILES[:-1])} nor {NO_FILES[-1]}, and no file "
            "here: check the path.",
        )
    if path.is_file() and path.stat().st_size == 0:
        raise ConfigError("prompts", f"{quoted(path.name)} is empty: give a file with a prompt per line or row.")
    try:
        check_file(path, config.prompts)
    except ConfigError as error:
        raise about_prompts(error) from None


def about_prompts(error: ConfigError) -> ConfigError:
    """What is wrong with a file of prompts, where it was said as of one to train on."""
    knob = "prompts" if error.knob == "data" else error.knob
    return ConfigError(knob, error.message.replace("--data ", "--prompts "))


def _is_soon_unpacked(path: Path) -> bool:
    """Raises `ConfigError` where it cannot be unpacked, as far as that is soon seen."""
    if suffix_of(path.name) == ".xlsx":
        check_workbook(path)
        return unpacked_size(path) <= WHOLE_BYTES
    chunks, n = unpacked_chunks(path), 0
    if path.stat().st_size > WHOLE_BYTES:
        next(chunks, None)
        return False
    for chunk in chunks:
        n += len(chunk)
    return n <= WHOLE_BYTES


def _check(path: Path, config: RunConfig, *, whole: bool) -> None:
    """A plain file; `whole` where it is small enough to be read to its end."""
    loader = LOADERS.get(suffix_of(path.name))
    if loader == "parquet":
        check_parquet(path)
        return
    if whole:
        check_utf8(path)
    if loader == "csv":
        _check_csv(path, whole=whole)
    elif loader == "json":
        check_json_array(path)
        if whole and (problem := bad_json_line(path)):
            raise problem
        if whole and config.workload == "instructions":
            check_chats(path, config)


def _check_csv(path: Path, *, whole: bool) -> None:
    layout = csv_layout(path)
    if not whole or not (problem := bad_record(path, layout)):
        return
    # what of a TSV is refused is told by two readings: with quotes, and with quotes as characters
    if path.suffix.lower() != ".tsv" or (problem := bad_record(path, csv_layout(path, csv.QUOTE_NONE))):
        raise problem
