"""What `--data` stands for, and how many of its rows train."""

from __future__ import annotations

import pytest

from engine.contract.config import DEFAULT_SAMPLES, RunConfig
from engine.contract.own_data import data_name, is_file_name, suffix_of, work_of


def own(data: str, **knobs: int | None) -> RunConfig:
    return RunConfig(workload="reviews", data=data, **knobs)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("data", "is_one"),
    [
        (None, False),
        ("generated", False),
        ("yelp_review_full", False),
        ("owner/name:config", False),
        ("a.csv", True),
        ("a.CSV.gz", True),
        ("owner/a.jsonl", True),
        ("/x/y", True),
        ("~/reviews", True),
        ("a.docx.gz", False),
        ("a b", True),
    ],
)
def test_a_file_is_told_by_its_name(data: str | None, is_one: bool) -> None:
    assert is_file_name(data) is is_one


def test_all_rows_of_a_file_train_unless_a_number_is_given() -> None:
    assert own("a.csv").samples is None
    assert own("a.csv", samples=512).samples == 512
    assert RunConfig().samples == own("generated").samples == own("yelp_review_full").samples == DEFAULT_SAMPLES
    assert RunConfig(data="a.csv").samples == DEFAULT_SAMPLES  # the dummy workload does not read it
    assert RunConfig.from_dict({"workload": "reviews", "data": "a.csv", "samples": "all"}).samples is None
    assert own("a.csv").with_values(workload="dummy").samples == DEFAULT_SAMPLES
    assert RunConfig.from_dict(own("a.csv").to_dict()) == own("a.csv")


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("/a/b/train.csv", "train.csv"),
        ("C:\\data\\train.csv", "train.csv"),
        ("generated", "reviews"),
        ("Yelp/yelp_review_full", "Yelp/yelp_review_full"),
        ("/a/\x1b[2J.csv", "\ufffd[2J.csv"),
    ],
)
def test_data_is_called_by_its_files_name(data: str, name: str) -> None:
    assert data_name(own(data)) == name


def test_the_size_is_the_number_that_is_true() -> None:
    assert work_of(own("a.csv", seq_len=64)) == "a.csv all×64"
    assert work_of(own("a.csv", seq_len=64), 960) == "a.csv 960×64"
    assert work_of(RunConfig()) == "dummy 512×512"
    assert work_of(RunConfig(task="seq2seq-lm", seq_len=80, target_len=3)) == "dummy 512×80→3"


def test_the_ending_is_that_inside_the_gzip() -> None:
    assert [suffix_of(name) for name in ("a.CSV", "a.csv.gz", "a.tar.GZ", "a")] == [".csv", ".csv", ".tar", ""]
