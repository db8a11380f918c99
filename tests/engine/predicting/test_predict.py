"""What a classifier says of a file, against what transformers says of the same texts."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from engine.contract.config import ConfigError
from engine.predicting.classifier import Classifier, load
from engine.predicting.predict import predict
from engine.predicting.written import CsvWriter, JsonWriter
from engine.workloads.sources.text_rows import Row, open_rows
from tests.engine.make_reviews import make_rows
from tests.engine.training.saving.whole_runs import do, small

TEXTS = [text for text, _ in make_rows(40, seed=3)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a classifier of reviews that were cut at 24 tokens."""
    root = tmp_path_factory.mktemp("trained")
    do(small(root, save_steps=0))
    return root / "out"


@pytest.fixture(scope="module")
def classifier(trained: Path) -> Classifier:
    return load(str(trained), "cpu")


def by_transformers(folder: Path, texts: list[str], length: int) -> list[list[float]]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    rows = []
    for text in texts:  # one by one: padding must make no difference
        with torch.no_grad():
            logits = model(**tokenizer(text, truncation=True, max_length=length, return_tensors="pt")).logits
        rows.append(logits.softmax(-1)[0].tolist())
    return rows


def test_it_says_what_transformers_says_in_the_order_of_the_texts(trained: Path, classifier: Classifier) -> None:
    classifier.n_cut = 0
    answers = classifier.answer(TEXTS, 8)
    expected = by_transformers(trained, TEXTS, 24)
    for answer, shares in zip(answers, expected, strict=True):
        assert answer.probabilities == pytest.approx(shares, abs=2e-6)
        assert answer.label == ("negative", "positive")[shares[1] > shares[0]]
        assert answer.probability == max(answer.probabilities or ())
    lengths = [len(ids) for ids in AutoTokenizer.from_pretrained(trained)(TEXTS)["input_ids"]]
    assert classifier.n_cut == sum(length > 24 for length in lengths) > 0


def test_rows_without_a_text_have_no_answer(classifier: Classifier) -> None:
    answers = classifier.answer([None, TEXTS[0], None], 8)
    assert [answer.label is None for answer in answers] == [True, False, True]
    assert classifier.answer([None], 8)[0].probability is None


def files(folder: Path) -> Iterator[Path]:
    rows = [{"id": str(i), "text": text} for i, text in enumerate(TEXTS)]
    for name, separator in (("a.csv", ","), ("a.tsv", "\t")):
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["id", "text"], delimiter=separator)
            writer.writeheader()
            writer.writerows(rows)
        yield folder / name
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "a.jsonl").write_text(lines)
    yield folder / "a.jsonl"
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    yield folder / "b.jsonl.gz"
    (folder / "a.txt").write_text("\ufeff" + "\r\n".join(TEXTS), encoding="utf-8")
    yield folder / "a.txt"
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "a.parquet")
    yield folder / "a.parquet"


def test_every_kind_of_file_gives_its_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINTOP_HOME", str(tmp_path / "home"))
    for file in files(tmp_path):
        with open_rows(str(file), None) as (rows, columns):
            assert [row.text for row in rows] == TEXTS, file
        assert columns == (["id", "text"] if file.suffix in (".csv", ".tsv", ".parquet") else [])


def test_a_large_file_is_read_as_it_is_answered(classifier: Classifier) -> None:
    taken = 0

    def rows() -> Iterator[Row]:
        nonlocal taken
        for text in TEXTS * 50:
            taken += 1
            yield Row({"text": text}, text)

    ahead: list[int] = []
    done = predict(
        classifier,
        rows(),
        JsonWriter(io.StringIO(), classifier.labels),
        2,
        lambda n: bool(ahead.append(taken - n) or n < 256),
    )
    assert done == 256
    assert set(ahead) == {0}


def test_csv_has_the_files_columns_first(tmp_path: Path, classifier: Classifier) -> None:
    file = tmp_path / "a.csv"
    file.write_text('id,text,note\n7,"good, really","a ""b"""\n8,,\n')
    out = io.StringIO()
    with open_rows(str(file), None) as (rows, columns):
        assert predict(classifier, rows, CsvWriter(out, columns, classifier.labels), 8) == 2
    first, second = csv.DictReader(io.StringIO(out.getvalue()))
    assert list(first) == ["id", "text", "note", "predicted", "probability", "p_negative", "p_positive"]
    assert (first["id"], first["text"], first["note"]) == ("7", "good, really", 'a "b"')
    assert float(first["p_negative"]) + float(first["p_positive"]) == pytest.approx(1, abs=1e-5)
    assert list(second.values()) == ["8", "", "", "", "", "", ""]


def test_json_lines_keep_the_object(classifier: Classifier) -> None:
    out = io.StringIO()
    rows = iter([Row({"n": [1, 2], "text": "güt"}, "güt"), Row({"text": None}, None)])
    predict(classifier, rows, JsonWriter(out, classifier.labels), 8)
    first, second = map(json.loads, out.getvalue().splitlines())
    assert first["n"] == [1, 2]
    assert first["text"] == "güt"
    assert first["probabilities"].keys() == {"negative", "positive"}
    assert first["probabilities"][first["predicted"]] == first["probability"]
    assert second == {"text": None, "predicted": None, "probability": None, "probabilities": None}


@pytest.mark.parametrize(
    ("name", "content", "column", "said"),
    [
        ("a.csv", "id,comment\n1,good\n", "text", "'a.csv' has no column 'text': it has 'id', 'comment'."),
        ("a.csv", "id,what\n1,good\n", None, "Which column of 'a.csv' holds the text?"),
        ("a.csv", "id,text\n1,good\n2,so,so\n", None, "has 3 fields in row 3 and 2 in its header"),
        ("a.csv", 'id,text\n1,good\n2,"open\n', None, "opens a quote in row 3 that never closes"),
        ("a.jsonl", '{"text": "a"}\nno\n', None, "is not one JSON object in line 2, 'no'"),
        ("a.jsonl", '[{"text": "a"}]\n', None, "is one array"),
        ("a.txt", b"\xff\xfe\x00", None, "is not UTF-8"),
        ("a.pdf", "x", None, "has the unknown extension '.pdf'"),
        ("a.csv", "", None, "is empty"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_in_a_sentence(
    tmp_path: Path, name: str, content: str | bytes, column: str | None, said: str
) -> None:
    file = tmp_path / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ConfigError) as refused, open_rows(str(file), column) as (rows, _):
        list(rows)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def changed_config(trained: Path, folder: Path, **values: Any) -> str:
    import shutil

    shutil.copytree(trained, folder, ignore=shutil.ignore_patterns("last"))
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**said, **values}))
    return str(folder)


def test_models_that_name_no_classes_are_refused(trained: Path, tmp_path: Path) -> None:
    base = changed_config(trained, tmp_path / "base", architectures=["BertForMaskedLM"])
    with pytest.raises(ConfigError, match="is a BertForMaskedLM, which names no classes: give a text classifier"):
        load(base, "cpu")
    (tmp_path / "base" / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match="has no weights in safetensors"):
        load(base, "cpu")
    with pytest.raises(ConfigError, match="is not a folder"):
        load(str(tmp_path / "nothing"), "cpu")
    with pytest.raises(ConfigError, match="only counts memory: use cpu, cuda or cuda:N"):
        load(str(trained), "virtual:tesla-p4")


def test_a_text_may_have_several_labels(trained: Path, tmp_path: Path) -> None:
    folder = changed_config(trained, tmp_path / "several", problem_type="multi_label_classification")
    several = load(folder, "cpu")
    (answer,) = several.answer(TEXTS[:1], 8)
    assert answer.probabilities is not None
    assert sum(answer.probabilities) != pytest.approx(1, abs=1e-3)
    labels = zip(several.labels, answer.probabilities, strict=True)
    assert answer.label == ";".join(label for label, share in labels if share >= 0.5)


def test_an_adapter_answers_too_where_its_folder_was_moved(tmp_path: Path) -> None:
    do(small(tmp_path, save_steps=0, lora_rank=4))
    before = load(str(tmp_path / "out"), "cpu").answer(TEXTS, 8)
    (tmp_path / "out").rename(tmp_path / "elsewhere")
    assert load(str(tmp_path / "elsewhere"), "cpu").answer(TEXTS, 8) == before
    (tmp_path / "elsewhere/adapter_model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"has no adapter_model\.safetensors, and pickled weights are not read"):
        load(str(tmp_path / "elsewhere"), "cpu")
