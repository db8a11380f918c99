"""Files, columns and labels: what is read, and the one sentence that refuses the rest."""

from __future__ import annotations

import errno
import gzip
import json
import os
import re
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets.arrow_writer import ArrowWriter

from engine.contract.config import ConfigError
from engine.workloads.files import workbooks
from engine.workloads.files.plain_files import quoted
from engine.workloads.files.tables import open_table
from engine.workloads.files.unpacked import make_room
from engine.workloads.sources.classes import encode_labels
from engine.workloads.sources.columns import find_columns


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINTOP_HOME", str(tmp_path / "home"))


def write(folder: Path, name: str, content: str | bytes) -> str:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def columns(rows: dict[str, list[object]], text: str | None = None, label: str | None = None) -> tuple[str, str]:
    return find_columns(datasets.Dataset.from_dict(rows), "x.csv", text, label)


def assert_one_sentence(message: str) -> None:
    assert message.isprintable()
    assert "\n" not in message
    assert message.endswith(".")
    assert len(message) < 400
    assert "Traceback" not in message


def packed(content: bytes) -> bytes:
    """A gzip of no time of its own, so that tests are called the same in every process."""
    return gzip.compress(content, mtime=0)


def damaged(content: bytes) -> bytes:
    """`content` with one bit turned in its middle."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0x10]) + content[middle + 1 :]


REFUSED = {
    "folder": ("", None, "is a folder: name one file"),
    "missing": ("missing.csv", None, "does not exist"),
    "empty": ("a.csv", "", "is empty"),
    "blank": ("a.csv", "\n\n", "is blank"),
    "uneven TSV": ("a.tsv", "text\tlabel\na\t1\nb\t2\t3\n", "3 fields in row 3 and 2 in its header"),
    "header only": ("a.csv", "text,label\n", "has a header and no rows"),
    "plain text": ("a.txt", "x", "is plain text without labels: train a language model on it with --workload text"),
    "extension": ("a.docx", "x", "unknown extension '.docx': save it as CSV"),
    "no workbook": ("a.xlsx", "text,label\n", "is no Excel workbook: save it as .xlsx or as CSV"),
    "old workbook": ("a.xlsx", b"\xd0\xcf\x11\xe0" + b"x" * 99, "is an old .xls workbook"),
    "a zip": ("a.xlsx", b"PK\x03\x04" + b"x" * 99, "cannot be read as an Excel workbook"),
    "no gzip": ("a.csv.gz", "text,label\na,1\n", "is no gzip file"),
    "cut gzip": ("a.csv.gz", packed(b"text,label\na,1\n" * 99)[:-9], "is cut short: its gzip has no end"),
    "damaged gzip": ("a.csv.gz", damaged(packed(bytes(i * i % 251 for i in range(999)))), "is damaged inside its gzip"),
    "packed twice": ("a.csv.gz", packed(packed(b"text,label\na,1\n")), "is packed twice: unpack it once (gunzip)"),
    "bytes after a gzip": ("a.csv.gz", packed(b"text,label\na,1\n") + b"rest", "has bytes after the end of its gzip"),
    "empty in a gzip": ("a.csv.gz", packed(b"\n"), "'a.csv' is blank"),
    "latin1 in a gzip": ("a.csv.gz", packed(b"text,label\nx,\xe9\n"), "byte 13 (line 2) is 0xe9"),
    "Parquet in a gzip": ("a.parquet.gz", packed(b"x"), "is a .parquet inside a gzip"),
    "no extension": ("reviews", "x", "unknown extension ''"),
    "too many fields": ("a.csv", "text,label\na,1\nb,2,3\n", "3 fields in row 3 and 2 in its header"),
    "too many fields in the first row": (
        "a.csv",
        "text,label\na,1,2\nb,2,3\n",
        "3 fields in row 2 and 2 in its header",
    ),
    "too many fields after a blank line": (
        "a.csv",
        'text,label\n"a\nb",1\n\n"c, d",2\ne,f,3\n',
        "3 fields in row 5 and 2 in its header",
    ),
    "too many fields, of semicolons": ("a.csv", "text;label\na;1\nb;2;3", "3 fields in row 3 and 2 in its header"),
    "open quote at the very end": ("a.csv", 'text,label\na,1\n"', "opens a quote in row 3 that never closes"),
    "open quote at the end": ("a.csv", 'text,label\na,1\nb,"', "opens a quote in row 3 that never closes"),
    "open quote over commas": ("a.csv", 'text,label\na,1\nb,"c,d,e\nf,g,h\n', "opens a quote in row 3"),
    "open quote": ("a.csv", 'text,label\na,1\n"b,2\nc,3\n', "opens a quote in row 3 that never closes"),
    "blank JSON": ("a.jsonl", "\n\n", "has no rows"),
    "broken JSON": ("a.jsonl", '{"text":"a","label":1}\n{"text":"b"', "is not one JSON object in line 2"),
    "JSON list": ("a.jsonl", '{"text":"a","label":1}\n[1]\n', "is not one JSON object in line 2, '[1]'"),
    "lone surrogate": ("a.jsonl", '{"text":"\\ud800","label":1}', "is not one JSON object in line 1"),
    "array of numbers": ("a.json", "[1,2,3]", "is an array of numbers, not of objects: write {"),
    "array of texts": ("a.json", ' [\n"a", "b"]', "is an array of texts, not of objects"),
    "array of arrays": ("a.json", "[[1], [2]]", "is an array of arrays, not of objects"),
    "array of nothing": ("a.json", "[null]", "is an array of other values, not of objects"),
    "broken array": ("a.json", '[{"text":"a","label":1},', "cannot be read as JSON lines"),
    "not Parquet": ("a.parquet", "PAR1 but no more", "cannot be read as Parquet"),
    "latin1": ("a.csv", "text,label\ncaf\xe9,1\n".encode("latin1"), "byte 14 (line 2) is 0xe9"),
    "cut in a character": ("a.csv", b"text,label\nx,\xc3", "byte 13 (line 2) is 0xc3"),
    "UTF-16": ("a.csv", "text,label\na,1\n".encode("utf-16"), "is UTF-16, not UTF-8: convert it with iconv"),
    "address": ("a::b.csv", "text,label\na,1\n", "rename it"),
}


@pytest.mark.parametrize(("name", "content", "expected"), REFUSED.values(), ids=REFUSED)
def test_a_file_that_is_no_table_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, content: str | bytes | None, expected: str
) -> None:
    data = str(tmp_path / name) if content is None else write(tmp_path, name, content)
    with pytest.raises(ConfigError, match=re.escape(expected)) as refused:
        open_table(data)
    assert refused.value.knob == "data"
    assert_one_sentence(refused.value.message)
    assert capfd.readouterr() == ("", "")


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write(tmp_path, "a.csv", "text,label\na,1\n")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ConfigError, match="may not be read by you"):
        open_table(data)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this platform")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(ConfigError, match="not a regular file"):
        open_table(str(tmp_path / "a.csv"))


def occupy_the_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "occupied").write_text("a file where a folder belongs")
    monkeypatch.setenv("TRAINTOP_HOME", str(folder / "occupied"))


def test_without_a_cache_the_rows_are_kept_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    occupy_the_cache(tmp_path, monkeypatch)
    for name, content in (("a.csv", "text,label\na,1\n"), ("a.jsonl", '{"text": "a", "label": "1"}')):
        warnings: list[str] = []
        table = open_table(write(tmp_path, name, content), warnings.append)
        assert table[:] == {"text": ["a"], "label": ["1"]}
        assert len(warnings) == 1
        assert "cannot be written" in warnings[0]
        assert "set TRAINTOP_HOME" in warnings[0]
        assert_one_sentence(warnings[0])


def test_a_disk_that_fills_up_while_rows_are_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first writer, that of the cache, cannot flush its rows; memory still takes them."""
    finalize, full = ArrowWriter.finalize, [True]

    def fills_up(writer: ArrowWriter, *arguments: Any, **more: Any) -> Any:
        if full and full.pop():
            raise OSError(errno.ENOSPC, "No space left on device")
        return finalize(writer, *arguments, **more)

    monkeypatch.setattr(ArrowWriter, "finalize", fills_up)
    warnings: list[str] = []
    table = open_table(write(tmp_path, "a.csv", "text,label\na,1\n"), warnings.append)
    assert table[:] == {"text": ["a"], "label": ["1"]}
    assert full == []
    assert len(warnings) == 1
    assert "(No space left on device): the rows are kept in memory; free space" in warnings[0]
    # nothing half-written is taken for the rows later
    assert open_table(str(tmp_path / "a.csv"))[:] == {"text": ["a"], "label": ["1"]}


def test_a_cache_that_cannot_be_written_is_named_where_nothing_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    occupy_the_cache(tmp_path, monkeypatch)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=r"through the cache in .* set TRAINTOP_HOME"):
        open_table(write(tmp_path, "a.csv", "text,label\na,1\n"))


def test_a_wrong_byte_far_into_a_file_is_found(tmp_path: Path) -> None:
    lines = b"text,label\n" + "é,1\n".encode() * 600_000  # 3 MB: chunks end inside characters
    with pytest.raises(ConfigError, match=r"byte 3,000,012 \(line 600,002\) is 0xff"):
        open_table(write(tmp_path, "a.csv", lines + b"x\xff,1\n"))


def test_words_of_absence_and_leading_zeros_stay_text(tmp_path: Path) -> None:
    table = open_table(write(tmp_path, "a.csv", "text,label\nNone,NA\nnan,01\n,null\n"))
    assert table[:] == {"text": ["None", "nan", ""], "label": ["NA", "01", "null"]}


def test_byte_order_mark_quotes_and_line_ends(tmp_path: Path) -> None:
    content = b'\xef\xbb\xbf"text",label\r\n"a, ""b""\nc",1\r\n\r\nd,2\r\n'
    assert open_table(write(tmp_path, "a.csv", content))[:] == {"text": ['a, "b"\nc', "d"], "label": ["1", "2"]}


def test_names_with_pattern_characters_and_capital_extensions_open(tmp_path: Path) -> None:
    table = open_table(write(tmp_path, "a[1]*?.CSV", "text,label\na,1\n"))
    assert table["text"][:] == ["a"]


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_a_csv_may_be_separated_by_semicolons_tabs_or_bars(tmp_path: Path, separator: str) -> None:
    content = f"text{separator}label\na, b{separator}1\nc{separator}2\n"
    assert open_table(write(tmp_path, "a.csv", content))[:] == {"text": ["a, b", "c"], "label": ["1", "2"]}


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ('text\tlabel\n"a\nb"\t1\n"c ""d"""\t2\n', ["a\nb", 'c "d"']),
        ('text\tlabel\n"a\t1\nb"\t2\n', ['"a', 'b"']),
        ('text\tlabel\nx\t1\n"a\t2\n', ["x", '"a']),
    ],
    ids=["spreadsheet", "opened and closed", "never closed"],
)
def test_quotes_of_tsv_files_are_a_spreadsheets_or_plain_characters(
    tmp_path: Path, content: str, texts: list[str]
) -> None:
    table = open_table(write(tmp_path, "a.tsv", content))
    assert table["text"][:] == texts
    assert table["label"][:] == ["1", "2"]


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    data = write(tmp_path, "a.csv", "text,label\na,1\n")
    assert len(open_table(data)) == 1
    write(tmp_path, "a.csv", "text,label\na,1\nb,2\n")
    os.utime(data, (1, 1))
    assert len(open_table(data)) == 2


def test_unnamed_and_repeated_columns_get_names_of_their_own(tmp_path: Path) -> None:
    assert open_table(write(tmp_path, "a.csv", "text,,text\na,b,c\n")).column_names == ["text", "column 2", "text'"]


def test_quoted_text_is_short_and_printable() -> None:
    assert quoted("\x1b[31mred\x07\n\u202e") == "'·[31mred···'"
    assert len(quoted("x" * 10_000_000)) == 63


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ({"Text": ["a", "b"], "LABEL": [0, 1]}, ("Text", "LABEL")),
        ({"stars": [1, 2], "review": ["a", "b"]}, ("review", "stars")),
        ({"text": ["a", "b"], "content": ["a", "b"], "label": [0, 1], "stars": [1, 2]}, ("text", "label")),
        ({"id": [1, 2, 3, 4], "said": ["long words"] * 4, "mood": ["a", "b", "a", "b"]}, ("said", "mood")),
        ({"label": ["a long name of a class"] * 4, "quote": ["short"] * 4}, ("quote", "label")),
    ],
)
def test_columns_are_found_by_name_then_by_content(rows: dict[str, list[object]], expected: tuple[str, str]) -> None:
    assert columns(rows) == expected


def test_columns_given_are_taken() -> None:
    rows: dict[str, list[object]] = {"text": ["a", "b"], "label": [0, 1], "title": ["c", "d"], "stars": [1, 2]}
    assert columns(rows, "title", "stars") == ("title", "stars")


FOUR_TEXTS: list[object] = ["some words"] * 4
TWICE: list[object] = ["a", "b", "a", "b"]


@pytest.mark.parametrize(
    ("rows", "given", "knob", "expected"),
    [
        (
            {"a": FOUR_TEXTS, "b": FOUR_TEXTS, "label": TWICE},
            (None, None),
            "text_column",
            "could be the text ('a', 'b'): name one",
        ),
        ({"review": FOUR_TEXTS, "content": FOUR_TEXTS}, (None, None), "text_column", "Several columns"),
        ({"text": FOUR_TEXTS, "u": TWICE, "v": TWICE}, (None, None), "label_column", "with --label-column"),
        ({"text": FOUR_TEXTS, "stars": TWICE, "score": TWICE}, (None, None), "label_column", "('stars', 'score')"),
        ({"text": FOUR_TEXTS, "id": [1, 2, 3, 4]}, (None, None), "label_column", "no column of classes"),
        (
            {"n": [1, 2], "label": [1, 2]},
            (None, None),
            "text_column",
            "no column of text among 'n' (int64), 'label' (int64)",
        ),
        ({"text": FOUR_TEXTS, "label": TWICE}, ("x", None), "text_column", "no column 'x': it has 'text', 'label'"),
        ({"text": FOUR_TEXTS, "label": TWICE}, (None, "x"), "label_column", "no column 'x': it has"),
        ({"text": FOUR_TEXTS, "label": TWICE}, ("text", "text"), "label_column", "name two columns"),
        ({"text": FOUR_TEXTS, "label": TWICE}, (None, "text"), "text_column", "name one with"),
        ({"n": [1, 2], "label": [1, 2]}, ("n", None), "text_column", "holds int64, not text"),
        ({"text": FOUR_TEXTS, "tags": [["a"]] * 4}, (None, "tags"), "label_column", "holds lists"),
    ],
)
def test_columns_that_cannot_be_found_are_refused(
    rows: dict[str, list[object]], given: tuple[str | None, str | None], knob: str, expected: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(expected)) as refused:
        columns(rows, *given)
    assert refused.value.knob == knob
    assert_one_sentence(refused.value.message)


def test_a_file_without_a_header_is_recognised(tmp_path: Path) -> None:
    table = open_table(write(tmp_path, "a.csv", "5,it was a great evening\n1,never again\n" * 3))
    with pytest.raises(ConfigError, match="has no header: its first line, with '5', is a row"):
        find_columns(table, "a.csv", None, None)


@pytest.mark.parametrize(
    ("values", "names", "ids"),
    [
        (["10", "9", "10", "9"], ("9", "10"), [1, 0, 1, 0]),
        ([2.0, 1.0, 2.0, 1.0], ("1", "2"), [1, 0, 1, 0]),
        (["1", "1.0", "-3", "-3"], ("-3", "1"), [1, 1, 0, 0]),
        ([True, False, True, False], ("false", "true"), [1, 0, 1, 0]),
        (["True", "false", "true", "FALSE"], ("false", "true"), [1, 0, 1, 0]),
        (["pos", " neg", "pos ", "neg"], ("neg", "pos"), [1, 0, 1, 0]),
        ([1, "x", 1, "x"], ("1", "x"), [0, 1, 0, 1]),
    ],
)
def test_labels_become_classes_in_natural_order(values: list[object], names: tuple[str, ...], ids: list[int]) -> None:
    classes = encode_labels(values, "a.csv", "label")
    assert classes.names == names
    assert classes.ids.tolist() == ids


def test_class_names_of_a_data_set_are_kept() -> None:
    classes = encode_labels([1, 0, 1, 0], "a.parquet", "label", datasets.ClassLabel(names=["bad", "good"]))
    assert classes.names == ("bad", "good")


def test_class_names_are_printable() -> None:
    assert encode_labels(["\x1b[2J"] * 2 + ["b" * 500] * 2, "a.csv", "label").names == ("·[2J", "b" * 60)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["a"] * 9, "has only one class, 'a'"),
        ([f"it was {i}" for i in range(9)], "has 9 different values in 9 rows"),
        ([str(i // 2) for i in range(4_000)], "has 2,000 different values in 4,000 rows"),
        ([0.5, 1.5] * 4, "numbers with a fraction, such as '0.5'"),
        ([float("inf"), 1.0] * 4, "holds 'inf', which is no class"),
        (["\x1b[31m" + "x" * 10_000_000] * 9, "has only one class, '·[31mxxx"),
    ],
    ids=["one class", "text", "many", "fractions", "infinite", "hostile"],
)
def test_labels_that_are_no_classes_are_refused(values: list[object], expected: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(expected)) as refused:
        encode_labels(values, "a.csv", "label")
    assert refused.value.knob == "label_column"
    assert_one_sentence(refused.value.message)


def test_a_class_of_one_row_is_left_out_and_said() -> None:
    classes = encode_labels(["a"] * 9 + ["b", "c"] + ["d"] * 3, "a.csv", "label", least=2)
    assert classes.names == ("a", "d")
    assert classes.ids.tolist() == [0] * 9 + [-1, -1] + [1] * 3
    assert classes.notes == (
        "2 classes, 'b', 'c', have only one row each and were left out: training and held-out part each need one.",
    )
    with pytest.raises(ConfigError, match=r"has only one class, 'a' \(The class 'b' has only one row and was left out"):
        encode_labels(["a"] * 9 + ["b"], "a.csv", "label", least=2)


def test_where_no_class_has_two_rows_it_is_said() -> None:
    with pytest.raises(ConfigError, match="has no class with two rows, which a held-out part needs, among 'a', 'b'"):
        encode_labels(["a", "b"], "a.csv", "label", least=2)


def test_labels_that_differ_in_capitals_or_blanks_are_one_class() -> None:
    values = ["Good", "good", " good", "good", "bad", "BAD", "no  one", "No one"]
    classes = encode_labels(values, "a.csv", "label")
    assert classes.names == ("bad", "good", "no  one")
    assert classes.ids.tolist() == [1, 1, 1, 1, 0, 0, 2, 2]
    assert classes.spellings == {"Good": 1, "good": 1, "bad": 0, "BAD": 0, "no  one": 2, "No one": 2}
    (note,) = classes.notes
    assert note.startswith(
        "Labels that differ in capitals or blanks alone are one class: 'Good' 1, 'good' 2, ' good' 1; 'bad' 1, 'BAD' 1;"
    )


@pytest.mark.parametrize("word", ["NaN", "nan", "null", "NULL", "n/a", "N/A", "None", "NA", "#N/A", " nan "])
def test_words_of_absence_in_the_label_column_are_no_class(word: str) -> None:
    classes = encode_labels(["1", "2", word, "1", "2"], "a.csv", "label")
    assert classes.names == ("1", "2")
    assert classes.ids.tolist() == [0, 1, -1, 0, 1]
    assert classes.notes == (f"1 row with the label {quoted(word, 20)} has none, and was left out.",)


def test_none_is_a_class_where_it_is_one_of_two() -> None:
    classes = encode_labels(["none", "toxic", "none", "toxic"], "a.csv", "label")
    assert (classes.names, classes.notes) == (("none", "toxic"), ())


def test_a_name_that_the_header_has_twice_is_said(tmp_path: Path) -> None:
    told: list[str] = []
    table = open_table(write(tmp_path, "a.csv", "text,label,text\na,b,c\n"), told.append)
    assert table[:] == {"text": ["a"], "label": ["b"], "text'": ["c"]}
    assert told == ["The header of 'a.csv' names 'text' more than once: the first is 'text', a later one 'text''."]


ROWS = [("it was, so to say, good", "1"), ("bad\nand long", "2"), ("é", "1")]
AS_CSV = 'text,label\n"it was, so to say, good",1\n"bad\nand long",2\né,1\n'
AS_LINES = "".join(json.dumps({"text": text, "label": label}, ensure_ascii=False) + "\n" for text, label in ROWS)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv.gz", AS_CSV),
        ("A.CSV.GZ", AS_CSV),
        ("a.csv.gz", "\ufeff" + AS_CSV),
        ("a.tsv.gz", "text\tlabel\n" + "".join(f"{json.dumps(t, ensure_ascii=False)}\t{v}\n" for t, v in ROWS)),
        ("a.jsonl.gz", AS_LINES),
        ("a.json.gz", AS_LINES),
    ],
)
def test_packed_files_are_read(tmp_path: Path, name: str, content: str) -> None:
    data = write(tmp_path, name, gzip.compress(content.encode()))
    rows = open_table(data)[:]
    assert rows["label"] == ["1", "2", "1"]
    assert rows["text"][2] == "é"
    # another content under the same name and time is another file
    write(tmp_path, name, gzip.compress(content.replace("é", "e").encode()))
    os.utime(data, (1, 1))
    assert open_table(data)["text"][2] == "e"


def test_without_a_cache_a_packed_file_is_read_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    occupy_the_cache(tmp_path, monkeypatch)
    data = write(tmp_path, "a.csv.gz", gzip.compress(AS_CSV.encode()))
    warnings: list[str] = []
    assert open_table(data, warnings.append)[:]["label"] == ["1", "2", "1"]
    assert "the rows are kept in memory" in warnings[0]


def sheet(rows: list[tuple[object, ...]]) -> str:
    """A worksheet's XML: text inline, numbers as numbers."""
    written = ""
    for number, row in enumerate(rows, start=1):
        cells = ""
        for column, value in zip("ABCDEF", row, strict=False):
            place = f'r="{column}{number}"'
            if isinstance(value, str):
                cells += f'<c {place} t="inlineStr"><is><t xml:space="preserve">{value}</t></is></c>'
            elif isinstance(value, bool):
                cells += f'<c {place} t="b"><v>{int(value)}</v></c>'
            elif value is not None:
                cells += f"<c {place}><v>{value}</v></c>"
        written += f'<row r="{number}">{cells}</row>'
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    return f'<worksheet xmlns="{main}"><sheetData>{written}</sheetData></worksheet>'


def workbook(path: Path, hidden: str = "", **sheets: list[tuple[object, ...]] | str) -> str:
    """Write an .xlsx with these sheets, of which one may be hidden, in the format's own words (ECMA-376).

    A sheet is its rows, or its XML.
    """
    package = "http://schemas.openxmlformats.org/package/2006"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    kinds = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    numbers = range(1, len(sheets) + 1)
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types"><Default Extension="rels" '
        'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{kinds}.sheet.main+xml"/>'
        + "".join(
            f'<Override PartName="/xl/worksheets/s{n}.xml" ContentType="{kinds}.worksheet+xml"/>' for n in numbers
        )
        + "</Types>",
        "_rels/.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" '
        f'Type="{office}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": '<workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" '
        f'xmlns:r="{office}"><sheets>'
        + "".join(
            f'<sheet name="{name}" sheetId="{n}"{" state=" + repr("hidden") if name == hidden else ""} r:id="r{n}"/>'
            for n, name in zip(numbers, sheets, strict=True)
        )
        + "</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}/relationships">'
        + "".join(f'<Relationship Id="r{n}" Type="{office}/worksheet" Target="worksheets/s{n}.xml"/>' for n in numbers)
        + "</Relationships>",
    }
    parts |= {
        f"xl/worksheets/s{n}.xml": rows if isinstance(rows, str) else sheet(rows)
        for n, rows in zip(numbers, sheets.values(), strict=True)
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, f'<?xml version="1.0" encoding="UTF-8"?>{content}')
    return str(path)


def test_a_workbook_is_read(tmp_path: Path) -> None:
    data = workbook(tmp_path / "a.xlsx", one=[("text", "label", "n"), ('said, "so"', 1, 0.5), ("x", 2, None), (None,)])
    told: list[str] = []
    assert open_table(data, told.append)[:] == {
        "text": ['said, "so"', "x"],
        "label": ["1", "2"],
        "n": ["0.5", ""],
    }
    assert told == []


def test_of_several_sheets_the_first_with_rows_is_read_and_said(tmp_path: Path) -> None:
    rows: list[tuple[object, ...]] = [("text", "label"), ("a", True)]
    data = workbook(tmp_path / "a.xlsx", empty=[], data=rows, notes=[("x",), ("y",)])
    for _ in range(2):  # also where it was unpacked before
        told: list[str] = []
        assert open_table(data, told.append)[:] == {"text": ["a"], "label": ["true"]}
        assert told == ["Of the 3 sheets of 'a.xlsx', 'data' is read; not 'empty', 'notes'."]


def test_of_a_column_of_mixed_types_it_is_said_which(tmp_path: Path) -> None:
    rows = '{"text": "a", "label": 1}\n{"text": 2.5, "label": 1}\n{"text": {"en": "c"}, "label": 0}\n'
    table = open_table(write(tmp_path, "a.jsonl", rows))
    with pytest.raises(ConfigError, match=r"'text' of x holds mixed types \(texts, numbers, objects\), not text: name"):
        find_columns(table, "x", "text", "label")


def test_a_hidden_sheet_comes_after_those_that_are_seen(tmp_path: Path) -> None:
    rows: list[tuple[object, ...]] = [("text", "label"), ("a", 1)]
    told: list[str] = []
    data = workbook(tmp_path / "a.xlsx", hidden="lookup", lookup=[("text", "label"), ("no", 2)], data=rows)
    assert open_table(data, told.append)[:] == {"text": ["a"], "label": ["1"]}
    assert told == ["Of the 2 sheets of 'a.xlsx', 'data' is read; not 'lookup'."]
    assert open_table(workbook(tmp_path / "b.xlsx", hidden="only", empty=[], only=rows))[:]["text"] == ["a"]


def test_how_many_sheets_are_not_read_is_said(tmp_path: Path) -> None:
    told: list[str] = []
    sheets = {f"s{i}": [("text", "label"), ("a", i)] for i in range(1, 42)}
    open_table(workbook(tmp_path / "a.xlsx", **sheets), told.append)  # type: ignore[arg-type]
    listed = ", ".join(f"'s{i}'" for i in range(2, 10))
    assert told == [f"Of the 41 sheets of 'a.xlsx', 's1' is read; not {listed} and 32 more."]


ROWS: list[tuple[object, ...]] = [("text", "label"), *((f"a{i}", i % 2) for i in range(40))]


def stray(cells: str, dimension: str = "A1:B41") -> str:
    """`ROWS` and more cells, in a sheet that says it holds no more than `ROWS`."""
    xml = sheet(ROWS).replace("<sheetData>", f'<dimension ref="{dimension}"/><sheetData>')
    return xml.replace("</sheetData>", f"{cells}</sheetData>")


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (
            '<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>',
            "a cell at XFD1048576, which would make 17 billion cells",
        ),
        (
            '<row r="99"><c r="XFD99"><v>1</v></c></row><row r="1048576"><c r="A1048576"><v>1</v></c></row>',
            "cells at XFD99 and A1048576, which would make 17 billion cells",
        ),
        # rows and cells may go without a place, which is then the next
        ('<row r="999999"/><row><c r="ZZ1000000"/><c><v>1</v></c></row>', "a cell at AAA1000000, which would make 703"),
    ],
)
def test_a_cell_far_outside_the_table_is_refused_before_the_grid_is_made(tmp_path: Path, cells: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        open_table(workbook(tmp_path / "a.xlsx", one=stray(cells)))
    assert refused.value.message.endswith("delete what stands far outside the table, or save it as CSV.")
    assert_one_sentence(refused.value.message)


def test_far_cells_that_cost_nothing_are_no_reason_to_refuse(tmp_path: Path) -> None:
    # a cell with a format and no content is not in the grid, nor is a sheet that is not read
    far = stray('<row r="1048576"><c r="XFD1048576" s="1"/></row>', "A1:XFD1048576")
    wide = stray('<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>')
    assert len(open_table(workbook(tmp_path / "a.xlsx", one=far, two=wide))) == 40


def test_cells_are_found_wherever_the_file_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = workbook(tmp_path / "a.xlsx", one=stray('<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'))
    for size in (7, 64, 1_000):
        monkeypatch.setattr(workbooks, "CHUNK", size)
        with pytest.raises(ConfigError, match="a cell at XFD1048576, which would make 17 billion cells"):
            open_table(data)


def test_a_workbook_with_more_in_it_than_can_be_read_is_refused_unopened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = workbook(tmp_path / "a.xlsx", one=stray(" " * 3_000_000))
    assert len(open_table(data)) == 40
    monkeypatch.setattr(workbooks, "MAX_UNPACKED", 2**20)
    with pytest.raises(ConfigError, match="has 3 MiB packed in it, of which 1 can be read") as refused:
        open_table(workbook(tmp_path / "b.xlsx", one=stray(" " * 3_000_001)))
    assert_one_sentence(refused.value.message)


def test_a_workbook_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no sheet with rows"):
        open_table(workbook(tmp_path / "a.xlsx", one=[], two=[]))
    with pytest.raises(ConfigError, match="has a header and no rows"):
        open_table(workbook(tmp_path / "b.xlsx", one=[("text", "label")]))


def test_without_its_reader_a_workbook_is_refused_with_the_way_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "python_calamine", None)
    with pytest.raises(ConfigError, match=re.escape("pip install 'traintop[excel]', or save it as CSV")) as refused:
        open_table(workbook(tmp_path / "a.xlsx", one=[("text", "label"), ("a", 1)]))
    assert_one_sentence(refused.value.message)


def test_what_is_unpacked_makes_room_for_what_comes_after(tmp_path: Path) -> None:
    for i in range(3):
        (tmp_path / str(i)).mkdir()
        (tmp_path / str(i) / "a.csv").write_bytes(b"x" * 100)
        os.utime(tmp_path / str(i), (i, i))
    make_room(tmp_path, limit=250)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["1", "2"]
