"""What is wrong with a file of data, told before anything heavy is imported and before a run has a number."""

from __future__ import annotations

import csv
from pathlib import Path

from engine.contract.config import RunConfig
from engine.contract.own_data import LOADERS, TEXT_SUFFIXES, is_own_file, is_packed, suffix_of
from engine.workloads.files.plain_files import (
    bad_json_line,
    bad_record,
    check_file,
    check_json_array,
    check_parquet,
    check_table_name,
    check_utf8,
    csv_layout,
)
from engine.workloads.files.unpacked import plain, unpacked_chunks
from engine.workloads.files.workbooks import check_workbook, unpacked_size

WHOLE_BYTES = 4 * 2**20
"""A file up to this size is read whole: a fraction of a second. Of a larger one its beginning."""


def check_data(config: RunConfig) -> None:
    """Raises `ConfigError` where a run trains on a file that is missing or broken, as far as that is soon seen.

    What it says is what reading the file for the run would say, which finds the rest.
    """
    if config.data is None or not is_own_file(config.workload, config.data):
        return
    path, data = Path(config.data).expanduser(), config.data
    suffix = suffix_of(path.name)
    if config.workload == "text" and suffix in TEXT_SUFFIXES:
        check_file(path, data)
    else:
        check_table_name(path, data)
    small = path.stat().st_size <= WHOLE_BYTES
    if is_packed(path.name):
        chunks = unpacked_chunks(path)
        if small:
            for _ in chunks:
                pass
        else:
            next(chunks, None)
        return
    loader = LOADERS.get(suffix)
    if loader == "xlsx":
        check_workbook(path)
        if unpacked_size(path) <= WHOLE_BYTES:
            with plain(path) as sheet:  # which the run finds unpacked
                csv_layout(sheet)
    elif loader == "parquet":
        check_parquet(path)
    else:
        if small:
            check_utf8(path)
        if loader == "csv":
            layout = csv_layout(path)
            # what of a TSV is refused is told by two readings: with quotes, and with quotes as characters
            if small and (problem := bad_record(path, layout)):
                if suffix == ".tsv":
                    problem = bad_record(path, csv_layout(path, csv.QUOTE_NONE))
                if problem:
                    raise problem
        elif loader == "json":
            check_json_array(path)
            if small and (problem := bad_json_line(path)):
                raise problem
