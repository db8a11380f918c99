"""The list of knobs: groups that fold, the cursor, what differs from the default, finding by name."""

from __future__ import annotations

import pytest

from engine.contract.config import KNOBS, RunConfig
from engine.contract.knob import GROUPS, JOBS, TRAIN
from tui.state.knob_list import IN_GROUPS, LETTERS, ORDER, KnobList, Row, found, knobs_of, set_knobs

KEYED = [Row("", name) for name in LETTERS]


@pytest.fixture
def places() -> KnobList:
    return KnobList()


def test_every_knob_is_in_the_list_once_and_says_where_and_for_which_jobs() -> None:
    assert sorted(ORDER) == sorted(KNOBS)
    assert ORDER[: len(LETTERS)] == tuple(LETTERS)
    for knob in KNOBS.values():
        assert knob.group in GROUPS
        assert knob.jobs
        assert set(knob.jobs) <= set(JOBS)


def test_at_first_the_keyed_knobs_and_a_heading_a_group(places: KnobList) -> None:
    assert places.rows() == [*KEYED, *(Row(group) for group in GROUPS)]
    assert places.cursor == Row("", "batch_size")


def test_a_group_opens_and_closes_under_its_heading(places: KnobList) -> None:
    places.fold("batch")
    below = [Row("batch", "padding"), Row("batch", "seq_len"), Row("batch", "target_len")]
    assert places.rows() == [*KEYED, Row("what"), Row("batch"), *below, *(Row(g) for g in list(GROUPS)[2:])]
    assert places.cursor == Row("batch")
    places.move(2, TRAIN)
    assert places.cursor == Row("batch", "seq_len")
    places.fold("batch")
    assert places.cursor == Row("batch")
    assert len(places.rows()) == len(KEYED) + len(GROUPS)
    places.fold("batch", is_open=False)
    assert not places.opened


def test_the_cursor_stops_at_the_ends(places: KnobList) -> None:
    places.move(-1, TRAIN)
    assert places.cursor == KEYED[0]
    places.move(1000, TRAIN)
    last = list(GROUPS)[-1]
    assert places.cursor == Row(last)
    places.fold(last)
    places.move(1000, TRAIN)
    assert places.cursor == Row(last, IN_GROUPS[last][-1])


def test_all_groups_open_and_close_and_the_cursor_stays_in_sight(places: KnobList) -> None:
    assert places.fold_all()
    assert len(places.rows()) == len(KNOBS) + len(GROUPS)
    places.select("learning_rate")
    assert not places.fold_all()
    assert places.cursor == Row("optimizer")


def test_a_knob_that_is_chosen_opens_its_group(places: KnobList) -> None:
    places.select("learning_rate")
    assert places.opened == {"optimizer"}
    assert places.rows()[places.index(TRAIN)] == Row("optimizer", "learning_rate")
    places.select("batch_size")
    assert places.cursor == KEYED[0]


def test_only_knobs_of_the_job_are_there(places: KnobList) -> None:
    assert knobs_of(TRAIN) == list(ORDER)
    assert knobs_of("another") == []
    assert places.rows("another") == []
    assert places.index("another") == 0
    assert found("", "another") == []


def test_a_group_counts_what_is_not_at_its_default() -> None:
    config = RunConfig(learning_rate=1e-4, lr_scheduler="constant", optimizer_implementation="loop", seed=1)
    assert set_knobs("optimizer", config) == ["learning_rate", "lr_scheduler"]  # the keyed one stands above
    assert set_knobs("what", config) == ["seed"]
    assert all(set_knobs(group, RunConfig()) == [] for group in IN_GROUPS)


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
        ("", ORDER[0], len(KNOBS)),
    ],
)
def test_a_knob_is_found_by_its_label_its_flag_or_its_group(query: str, first: str | None, n: int) -> None:
    names = found(query, TRAIN)
    assert len(names) == n
    assert next(iter(names), None) == first
