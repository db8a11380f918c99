"""The list of knobs: groups that fold, the cursor, what differs from the default, finding by name."""

from __future__ import annotations

import pytest

from engine.contract.by_job import defaults_of
from engine.contract.config import KNOBS, RunConfig
from engine.contract.knob import ANSWER, GROUPS, JOBS, OWN_JOBS, SCRIPT, TRAIN
from tests.tui import fake_scripts
from tui.state.knob_list import FIRST, IN_GROUPS, LETTERS, ORDER, KnobList, Row, every_row, found, set_knobs

TRAINED, ANSWERED = defaults_of(TRAIN), defaults_of(ANSWER)
KEYED = [Row("", name) for name in LETTERS[TRAIN]]
TRAINING = [group for group, names in IN_GROUPS[TRAIN].items() if names]
"""Groups that have knobs of a training."""


@pytest.fixture
def places() -> KnobList:
    return KnobList()


def test_every_knob_is_in_the_list_once_and_says_where_and_for_which_jobs() -> None:
    assert {name for job in JOBS for name in ORDER[job]} == set(KNOBS)
    for job in JOBS:
        may = {SCRIPT: (SCRIPT, TRAIN)}.get(job, (job,))  # a command may carry any knob of a training
        assert sorted(ORDER[job]) == sorted(name for name, knob in KNOBS.items() if {*may} & {*knob.jobs})
        assert ORDER[job][: len(LETTERS[job])] == tuple(LETTERS[job])
        assert len(set(LETTERS[job].values())) == len(LETTERS[job])
    for knob in KNOBS.values():
        assert knob.group in GROUPS
        assert knob.jobs
        assert set(knob.jobs) <= set(JOBS)


def test_at_first_the_keyed_knobs_and_a_heading_a_group(places: KnobList) -> None:
    assert places.rows(TRAINED) == [*KEYED, *(Row(group) for group in TRAINING)]
    assert places.cursor == Row("", FIRST)


def test_a_group_opens_and_closes_under_its_heading(places: KnobList) -> None:
    places.fold("batch")
    below = [Row("batch", "padding"), Row("batch", "seq_len"), Row("batch", "target_len")]
    assert places.rows(TRAINED) == [*KEYED, Row("what"), Row("batch"), *below, *(Row(g) for g in TRAINING[2:])]
    assert places.cursor == Row("batch")
    places.move(2, TRAINED)
    assert places.cursor == Row("batch", "seq_len")
    places.fold("batch")
    assert places.cursor == Row("batch")
    assert len(places.rows(TRAINED)) == len(KEYED) + len(TRAINING)
    places.fold("batch", is_open=False)
    assert not places.opened


def test_the_cursor_stops_at_the_ends(places: KnobList) -> None:
    places.move(-100, TRAINED)
    assert places.cursor == KEYED[0]
    places.move(1000, TRAINED)
    last = TRAINING[-1]
    assert places.cursor == Row(last)
    places.fold(last)
    places.move(1000, TRAINED)
    assert places.cursor == Row(last, IN_GROUPS[TRAIN][last][-1])


def test_all_groups_open_and_close_and_the_cursor_stays_in_sight(places: KnobList) -> None:
    assert places.fold_all()
    assert len(places.rows(TRAINED)) == len(ORDER[TRAIN]) + len(TRAINING)
    places.select("learning_rate", TRAINED)
    assert not places.fold_all()
    assert places.cursor == Row("optimizer")


def test_a_knob_that_is_chosen_opens_its_group(places: KnobList) -> None:
    places.select("learning_rate", TRAINED)
    assert places.opened == {"optimizer"}
    assert places.rows(TRAINED)[places.index(TRAINED)] == Row("optimizer", "learning_rate")
    places.select("batch_size", TRAINED)
    assert places.cursor == Row("", "batch_size")


def test_only_knobs_of_the_job_are_there(places: KnobList) -> None:
    places.fold_all()
    for job in OWN_JOBS:
        names = [row.knob for row in places.rows(defaults_of(job)) if row.knob]
        assert names == list(ORDER[job])
        assert [row.knob for row in found("", defaults_of(job))] == list(ORDER[job])
    assert "learning_rate" not in ORDER[ANSWER]
    assert "kv_cache" not in ORDER[TRAIN]
    places.select("learning_rate", TRAINED)
    assert places.rows(ANSWERED)[places.index(ANSWERED)] == Row("", FIRST)


def test_a_knob_with_a_key_in_one_job_is_in_a_group_in_the_other(places: KnobList) -> None:
    places.select("weights", ANSWERED)
    assert places.cursor == Row("", "weights")
    places.select("weights", TRAINED)
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
    names = [row.knob for row in found(query, TRAINED)]
    assert len(names) == n
    assert next(iter(names), None) == first


# the user's own command --------------------------------------------------------------------------------------------


def test_of_a_command_what_it_carries_stands_above_and_its_own_knobs_have_rows(places: KnobList) -> None:
    places.opened.add(SCRIPT)
    assert places.rows(fake_scripts.LOOP)[:9] == [
        *(Row("", name) for name in ("job", "batch_size", "gradient_accumulation_steps", "precision")),
        Row(SCRIPT),
        Row(SCRIPT, "command"),
        Row(SCRIPT, "command_flags"),
        Row(SCRIPT, "command_values", "block_size"),
        Row(SCRIPT, "command_values", "dropout_rate"),
    ]


def test_every_knob_of_a_training_is_in_the_list_of_a_command_once() -> None:
    for config in (fake_scripts.LOOP, fake_scripts.TRAINER, fake_scripts.BARE, defaults_of(SCRIPT)):
        names = [row.knob for row in every_row(config) if not row.own]
        own = [row.own for row in every_row(config) if row.own]
        wanted = set(ORDER[SCRIPT]) - ({"command_values"} if own else set())
        assert sorted(names) == sorted(wanted)
        assert own == list(config.script.own if config.script is not None else {})


def test_without_a_command_the_cursor_is_where_one_is_typed(places: KnobList) -> None:
    config = defaults_of(SCRIPT)
    places.opened.add(SCRIPT)
    assert places.rows(config)[places.index(config)] == Row(SCRIPT, "command")


def test_a_group_counts_what_a_command_carries() -> None:
    assert set_knobs("optimizer", fake_scripts.LOOP) == []
    carrying = fake_scripts.LOOP.with_values(
        command="python train.py --lr={learning_rate} --seed={seed}", precision="fp32"
    )
    assert set_knobs("optimizer", carrying) == ["learning_rate"]
    assert set_knobs("what", carrying) == ["seed"]
    assert set_knobs(SCRIPT, carrying) == ["command"]


def test_a_knob_of_the_scripts_own_is_found_by_its_name() -> None:
    assert found("block", fake_scripts.LOOP) == [Row(SCRIPT, "command_values", "block_size")]
