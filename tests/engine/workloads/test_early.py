"""What is wrong with a file, told before anything heavy is imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from engine.contract.config import ConfigError, RunConfig
from engine.workloads import early
from engine.workloads.early import check_data
from engine.workloads.files.tables import open_table
from tests.engine.workloads.test_files import REFUSED, assert_one_sentence, packed, stray, workbook, write

HEAVY = ("torch", "transformers", "datasets", "numpy", "pandas", "pyarrow")


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINTOP_HOME", str(tmp_path / "home"))


def own(data: str, **knobs: str) -> RunConfig:
    return RunConfig(**{"workload": "reviews", "data": data, **knobs})  # type: ignore[arg-type]


FOUND_LATER = {
    "blank JSON",
    "broken array",
    "not Parquet",
    "address",
}
"""What only the reader of the table finds, or finds in other words."""


@pytest.mark.parametrize("case", [case for case in REFUSED if case not in FOUND_LATER])
def test_it_says_what_reading_the_file_would_say(tmp_path: Path, case: str) -> None:
    name, content, expected = REFUSED[case]
    data = str(tmp_path / name) if content is None else write(tmp_path, name, content)
    with pytest.raises(ConfigError) as early_one:
        check_data(own(data))
    with pytest.raises(ConfigError) as later:
        open_table(data)
    assert expected in early_one.value.message
    assert early_one.value.message == later.value.message
    assert_one_sentence(early_one.value.message)


def test_a_parquet_file_that_is_cut_short_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is cut short: it begins as Parquet"):
        check_data(own(write(tmp_path, "a.parquet", b"PAR1" + b"x" * 50)))
    with pytest.raises(ConfigError, match="is no Parquet file"):
        check_data(own(write(tmp_path, "a.parquet", b"x")))


def test_a_workbook_without_a_table_is_told(tmp_path: Path) -> None:
    far = stray('<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>')
    for sheets, said in (
        ({"one": []}, "has no sheet with rows"),
        ({"one": [("text", "label")]}, "has a header and no rows"),
        ({"one": far}, "has a cell at XFD1048576"),
    ):
        with pytest.raises(ConfigError, match=said):
            check_data(own(workbook(tmp_path / "a.xlsx", **sheets)))  # type: ignore[arg-type]
    check_data(own(workbook(tmp_path / "a.xlsx", one=[("text", "label"), ("a", 1)])))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b"text,label\na,1\n"),
        ("a.csv.gz", packed(b"text,label\na,1\n")),
        ("a.jsonl", b'{"text": "a", "label": 1}\n'),
        ("a.json", json.dumps([{"text": "a", "label": 1}]).encode()),
    ],
)
def test_a_sound_file_passes(tmp_path: Path, name: str, content: bytes) -> None:
    check_data(own(write(tmp_path, name, content)))


def test_a_text_for_a_language_model_passes(tmp_path: Path) -> None:
    data = write(tmp_path, "a.txt", "Once upon a time.")
    check_data(RunConfig(workload="text", task="causal-lm", model="gpt2-tiny", data=data))
    with pytest.raises(ConfigError, match="is plain text without labels"):
        check_data(own(data))


UNSOUND = {
    "uneven": (b"text,label\na,1\nb,2,3\n", "'a.csv' has 3 fields in row 3 and 2 in its header"),
    "latin1": (b"text,label\nx,\xe9\n", r"'a.csv' is not UTF-8: byte 13 \(line 2\) is 0xe9"),
    "a NUL": (b"text,label\na,1\nb\0,2\n", r"'a.csv' has a NUL at byte 16 \(line 3\), which no text has"),
    "UTF-16 without its mark": ("text,label\na,1\n".encode("utf-16-le"), "'a.csv' is UTF-16, not UTF-8: convert it"),
}


@pytest.mark.parametrize("case", UNSOUND)
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_what_is_wrong_inside_a_gzip_is_told_as_of_a_plain_file(tmp_path: Path, case: str, name: str) -> None:
    content, said = UNSOUND[case]
    data = write(tmp_path, name, packed(content) if name.endswith(".gz") else content)
    with pytest.raises(ConfigError, match=said) as early_one:
        check_data(own(data))
    with pytest.raises(ConfigError) as later:
        open_table(data)
    assert early_one.value.message == later.value.message


def test_of_a_large_file_only_the_beginning_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early, "WHOLE_BYTES", 10)
    check_data(own(write(tmp_path, "a.csv", b"text,label\n" + b"a,1\n" * 20_000 + b"\xff")))
    with pytest.raises(ConfigError, match=r"byte 13 \(line 2\) is 0xff"):
        check_data(own(write(tmp_path, "a.csv", b"text,label\na,\xff\n")))
    with pytest.raises(ConfigError, match="has a header and no rows"):
        check_data(own(write(tmp_path, "a.csv", b"text,label,and_more")))


@pytest.mark.parametrize("config", [RunConfig(), RunConfig(data="x.csv"), own("generated"), own("owner/name")])
def test_what_is_no_file_of_the_users_is_not_looked_at(config: RunConfig) -> None:
    check_data(config)


def test_nothing_heavy_is_imported(tmp_path: Path) -> None:
    data = write(tmp_path, "a.csv", "text,label\na,1\n")
    program = (
        "import sys; from engine.workloads.early import check_data; from engine.contract.config import RunConfig; "
        f"check_data(RunConfig(workload='reviews', data={data!r})); "
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"
