"""The list of knobs: groups that fold, the cursor, what differs from the default, finding by name."""

from __future__ import annotations

import pytest

from engine.contract.by_job import defaults_of
from engine.contract.config import KNOBS, RunConfig
from engine.contract.knob import ANSWER, GROUPS, JOBS, TRAIN
from tui.state.knob_list import FIRST, IN_GROUPS, LETTERS, ORDER, KnobList, Row, found, set_knobs

KEYED = [Row("", name) for name in LETTERS[TRAIN]]
TRAINING = [group for group, names in IN_GROUPS[TRAIN].items() if names]
"""Groups that have knobs of a training."""


@pytest.fixture
def places() -> KnobList:
    return KnobList()


def test_every_knob_is_in_the_list_once_and_says_where_and_for_which_jobs() -> None:
    assert {name for job in JOBS for name in ORDER[job]} == set(KNOBS)
    for job in JOBS:
        assert sorted(ORDER[job]) == sorted(name for name, knob in KNOBS.items() if job in knob.jobs)
        assert ORDER[job][: len(LETTERS[job])] == tuple(LETTERS[job])
        assert len(set(LETTERS[job].values())) == len(LETTERS[job])
    for knob in KNOBS.values():
        assert knob.group in GROUPS
        assert knob.jobs
        assert set(knob.jobs) <= set(JOBS)


def test_at_first_the_keyed_knobs_and_a_heading_a_group(places: KnobList) -> None:
    assert places.rows() == [*KEYED, *(Row(group) for group in TRAINING)]
    assert places.cursor == Row("", FIRST)


def test_a_group_opens_and_closes_under_its_heading(places: KnobList) -> None:
    places.fold("batch")
    below = [Row("batch", "padding"), Row("batch", "seq_len"), Row("batch", "target_len")]
    assert places.rows() == [*KEYED, Row("what"), Row("batch"), *below, *(Row(g) for g in TRAINING[2:])]
    assert places.cursor == Row("batch")
    places.move(2, TRAIN)
    assert places.cursor == Row("batch", "seq_len")
    places.fold("batch")
    assert places.cursor == Row("batch")
    assert len(places.rows()) == len(KEYED) + len(TRAINING)
    places.fold("batch", is_open=False)
    assert not places.opened


def test_the_cursor_stops_at_the_ends(places: KnobList) -> None:
    places.move(-100, TRAIN)
    assert places.cursor == KEYED[0]
    places.move(1000, TRAIN)
    last = TRAINING[-1]
    assert places.cursor == Row(last)
    places.fold(last)
    places.move(1000, TRAIN)
    assert places.cursor == Row(last, IN_GROUPS[TRAIN][last][-1])


def test_all_groups_open_and_close_and_the_cursor_stays_in_sight(places: KnobList) -> None:
    assert places.fold_all()
    assert len(places.rows()) == len(ORDER[TRAIN]) + len(TRAINING)
    places.select("learning_rate")
    assert not places.fold_all()
    assert places.cursor == Row("optimizer")


def test_a_knob_that_is_chosen_opens_its_group(places: KnobList) -> None:
    places.select("learning_rate")
    assert places.opened == {"optimizer"}
    assert places.rows()[places.index(TRAIN)] == Row("optimizer", "learning_rate")
    places.select("batch_size")
    assert places.cursor == Row("", "batch_size")


def test_only_knobs_of_the_job_are_there(places: KnobList) -> None:
    places.fold_all()
    for job in JOBS:
        names = [row.knob for row in places.rows(job) if row.knob]
        assert names == list(ORDER[job])
        assert found("", job) == list(ORDER[job])
    assert "learning_rate" not in ORDER[ANSWER]
    assert "kv_cache" not in ORDER[TRAIN]
    places.select("learning_rate")
    assert places.rows(ANSWER)[places.index(ANSWER)] == Row("", FIRST)


def test_a_knob_with_a_key_in_one_job_is_in_a_group_in_the_other(places: KnobList) -> None:
    places.select("weights", ANSWER)
    assert places.cursor == Row("", "weights")
    places.select("weights", TRAIN)
    assert places.cursor == Row("memory", "weights")


def test_a_group_counts_what_is_not_at_its_default() -> None:
    config = RunConfig(learning_rate=1e-4, lr_scheduler="constant", optimizer_implementation="loop", seed=1)
    assert set_knobs("optimizer", config) == ["learning_rate", "lr_scheduler"]  # the keyed one stands above
    assert set_knobs("what", config) == ["seed"]
    assert all(set_knobs(group, defaults_of(job)) == [] for job in JOBS for group in GROUPS)
    assert set_knobs("answering", defaults_of(ANSWER).with_values(prefix_cache=True)) == ["prefix_cache"]


@pytest.mark.parametrize(
    ("query", "first", "n"),
    [
        ("learning", "learning_rate", 1),
        ("max-grad", "max_grad_norm", 1),
        ("seq_len", "seq_len", 1),
        ("batch size", "batch_size", 1),
        ("LORA", "lora_rank", 4),
        ("pre", "precision", 2),
        ("optimizer", "optimizer", sum(knob.group == "optimizer" for knob in KNOBS.values()) + 1),
        ("where", "device", 2),
        ("nothing like it", None, 0),
        ("", ORDER[TRAIN][0], len(ORDER[TRAIN])),
    ],
)
def test_a_knob_is_found_by_its_label_its_flag_or_its_group(query: str, first: str | None, n: int) -> None:
    names = found(query, TRAIN)
    assert len(names) == n
    assert next(iter(names), None) == first
