"""Where text comes from: generated, fetched, a file, the hub and its cache, and names that stand for nothing."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from engine.contract import own_data
from engine.contract.config import ConfigError, RunConfig
from engine.workloads.generated.reviews import STARS, make_review, make_reviews
from engine.workloads.prepare import prepare
from engine.workloads.prepared import PreparedData
from engine.workloads.sources import hub_data


class FakeHub:
    """A hub that answers, or does not."""

    problem = "the hub at https://example.test does not answer"

    def __init__(self, *, answers: bool) -> None:
        self.answers = answers
        self.asked = 0

    def reachable(self) -> bool:
        self.asked += 1
        return self.answers


def prepared(data: str | None, hub: FakeHub | None = None, **knobs: Any) -> PreparedData:
    values = {"workload": "reviews", "data": data, "seq_len": 32, "samples": 50, "eval_samples": 30, **knobs}
    return prepare(RunConfig(**values), hub=hub)


def ids(data: PreparedData) -> list[list[int]]:
    assert data.evaluation is not None
    return [part[i]["input_ids"].tolist() for part in (data.train, data.evaluation) for i in range(len(part))]


def assert_refused(words: str, data: str, hub: FakeHub | None = None, **knobs: Any) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        prepared(data, hub, **knobs)
    message = refused.value.message
    assert message.isprintable()
    assert message.endswith(".")
    assert len(message) < 500


# generated


def test_without_data_reviews_are_generated_and_said_to_be() -> None:
    data = prepared(None)
    assert data.evaluation is not None
    assert (len(data.train), len(data.evaluation)) == (50, 30)
    assert data.label_names == STARS
    assert any("The text is generated" in note and "seed 42" in note for note in data.notes)
    assert any("generated reviews" in note for note in data.notes[:1])
    assert ids(prepared("generated")) == ids(data)
    assert ids(prepared("generated", seed=1)) != ids(data)


def test_more_samples_begin_with_the_fewer_and_share_the_vocabulary() -> None:
    few, many = prepared(None), prepared(None, samples=200)
    assert ids(many)[:50] == ids(few)[:50]
    assert ids(many)[200:] == ids(few)[50:]
    assert many.vocab_size == few.vocab_size


def test_generated_reviews_have_every_class_and_lengths_like_real_ones() -> None:
    texts, stars = make_reviews(3, "train", 3_000)
    shares = np.bincount(stars, minlength=5) / 3_000
    assert 0.17 < shares.min() <= shares.max() < 0.23
    logs = np.log([len(text.split()) for text in texts])
    assert 0.5 < logs.std() < 0.8  # reviews on Yelp: about 0.7
    assert abs(float(((logs - logs.mean()) ** 3).mean()) / logs.std() ** 3) < 0.5  # log-normal, so hardly skewed
    assert all(text.isascii() and text.isprintable() for text in texts)
    assert len(set(texts)) > 2_990
    assert make_review(3, "train", 7) == (texts[7], stars[7])
    assert make_reviews(3, "test", 50)[0] != texts[:50]


def test_single_words_say_a_part_of_the_stars_and_not_all() -> None:
    """A naive Bayes over words, the usual yardstick: far above chance, far below certainty."""
    texts, stars = make_reviews(5, "train", 3_000)
    counts = [Counter[str]() for _ in STARS]
    for text, star in zip(texts, stars, strict=True):
        counts[star].update(set(text.lower().rstrip(".!").split()))
    vocabulary = set().union(*counts)
    logs = {w: np.log([(c[w] + 1) / (stars.count(k) + 2) for k, c in enumerate(counts)]) for w in vocabulary}
    tests, truth = make_reviews(5, "test", 500)
    right = 0
    for text, star in zip(tests, truth, strict=True):
        score = sum((logs[w] for w in set(text.lower().rstrip(".!").split()) if w in logs), np.zeros(5))
        right += int(np.argmax(score)) == star
    assert 0.4 < right / 500 < 0.75


# snippets


# the hub


REVIEWS: dict[str, list[Any]] = {
    "label": [i % 5 for i in range(200)],
    "text": [f"review number {i} of many" for i in range(200)],
}
FIVE = datasets.Features({"label": datasets.ClassLabel(names=list("12345")), "text": datasets.Value("string")})


@pytest.fixture
def yelp(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """`load_dataset` of a hub that has one data set; what it was asked."""
    calls: list[tuple[Any, ...]] = []
    train = datasets.Dataset.from_dict(REVIEWS, features=FIVE)
    test = datasets.Dataset.from_dict({k: v[:100] for k, v in REVIEWS.items()}, features=FIVE)

    def load_dataset(path: str, config: str | None = None) -> datasets.DatasetDict:
        calls.append((path, config))
        if path != "yelp_review_full":
            raise datasets.exceptions.DatasetNotFoundError(f"Dataset '{path}' doesn't exist on the Hub")
        return datasets.DatasetDict(train=train, test=test)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return calls


def test_the_lectures_data_is_the_first_of_its_shuffle(yelp: list[tuple[Any, ...]]) -> None:
    data = prepared("yelp_review_full", FakeHub(answers=True))
    assert data.evaluation is not None
    assert data.tokenizer is not None
    train = datasets.Dataset.from_dict(REVIEWS, features=FIVE).shuffle(seed=42).select(range(50))
    assert data.train.classes is not None
    assert data.train.classes.tolist() == train["label"][:]
    decoded = data.tokenizer.batch_decode(ids(data)[:50], skip_special_tokens=True)
    assert [text.replace(" ", "") for text in decoded] == [text.replace(" ", "") for text in train["text"][:]]
    assert len(data.evaluation) == 30
    assert data.label_names == tuple("12345")
    assert any("shuffle with seed 42" in note for note in data.notes)
    assert yelp == [("yelp_review_full", None)]


def test_a_hub_that_does_not_answer_is_not_asked(yelp: list[tuple[Any, ...]]) -> None:
    words = "no file here and no data set in the hub's cache, and the hub at https://example.test does not answer"
    assert_refused(words, "yelp_review_full", FakeHub(answers=False))
    assert yelp == []
    assert_refused("the hub was not asked", "owner/name")


def test_a_name_that_the_hub_does_not_know_is_refused(yelp: list[tuple[Any, ...]]) -> None:
    assert_refused("the hub has no data set of that name", "owner/no-such:config", FakeHub(answers=True))
    assert yelp[-1] == ("owner/no-such", "config")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("Config name is missing.\nPlease pick one among the available configs: ['a', 'b']"), "configurat"),
        (RuntimeError("Dataset scripts are no longer supported, but found x.py"), "scripts are no longer supported"),
        (OSError(28, "No space left on device"), r"could not be saved \(No space left on device\); free space"),
        (KeyError("\x1b[2Jevil\nlines"), "could not be loaded from the hub"),
        (TypeError(), "could not be loaded from the hub: TypeError"),
    ],
)
def test_what_the_hub_raises_becomes_one_sentence(
    error: Exception, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load_dataset(*_: Any) -> None:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert_refused(words, "owner/name", FakeHub(answers=True))


def test_a_cached_copy_needs_no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real cache of `datasets`, as a machine that was online once has it."""
    cache = tmp_path / "hub-cache"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(cache))
    source = tmp_path / "source"
    source.mkdir()
    table = datasets.Dataset.from_dict(REVIEWS, features=FIVE)
    for split in ("train", "test"):
        table.to_parquet(source / f"{split}-00000-of-00001.parquet")
    datasets.load_dataset(str(source), cache_dir=str(cache))
    made = next(folder for folder in cache.iterdir() if folder.is_dir())
    shutil.move(made, cache / "owner___name")
    for info in (cache / "owner___name").glob("*/*/*/"):
        for file in info.glob("source-*"):
            file.rename(file.with_name(file.name.replace("source-", "name-", 1)))
    hub = FakeHub(answers=False)
    data = prepared("owner/name", hub)
    assert len(data.train) == 50
    assert hub.asked == 0


def test_unlabelled_test_parts_are_passed_over() -> None:
    def table(labels: list[int]) -> datasets.Dataset:
        return datasets.Dataset.from_dict({"label": labels, "text": ["a b"] * len(labels)})

    splits = datasets.DatasetDict(train=table([0, 1]), test=table([-1, -1]), validation=table([1, 0]))
    train, held_out = hub_data.pick_splits(splits, "x", "label")
    assert held_out is splits["validation"]
    assert hub_data.pick_splits(datasets.DatasetDict(all=table([0])), "x", "label")[1] is None
    with pytest.raises(ConfigError, match="no split 'train', only 'a', 'b'"):
        hub_data.pick_splits(datasets.DatasetDict(a=train, b=train), "x", "label")


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("imdb", True),
        ("owner/name", True),
        ("owner/name:config", True),
        ("a/b/c", False),
        ("../x", False),
        ("/x", False),
        ("~x", False),
        ("a b", False),
        ("x::y", False),
        ("", False),
    ],
)
def test_names_of_the_hub(name: str, is_one: bool) -> None:
    assert own_data.is_hub_name(name) is is_one


def test_files_win_over_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert_refused("does not exist", "no-such.csv", FakeHub(answers=True))
    assert_refused("does not exist", "./owner/name", FakeHub(answers=True))
    Path("owner").mkdir()
    assert_refused("is a folder", "owner", FakeHub(answers=True))
