"""What a process tells is read field by field: of what is wrong nothing is believed, and nothing breaks."""

from __future__ import annotations

import math
from typing import Any

import pytest

from engine.contract.records import Phase, Shares
from engine.scripts.messages import End, Figures, Hello, Model, Off, Planned, Updates, read
from tests.engine.scripts.speaking import MODEL, row, updates


def test_what_is_told_as_it_should_be_is_read_whole() -> None:
    hello = read({"kind": "hello", "pid": 7, "rank": "1", "local_rank": "1", "world_size": "2"})
    assert hello == Hello(pid=7, rank=1, local_rank=1, world_size=2, local_size=2)
    assert read({"kind": "hello", "pid": 7, "rank": "0", "world_size": "1"}) == Hello(
        pid=7, rank=None, local_rank=None, world_size=1, local_size=1
    )
    model = read({**MODEL, "device": {"name": "Tesla P4", "total": 8, "uuid": "GPU-1"}})
    assert isinstance(model, Model)
    assert (model.optimizer, model.model, model.n_trained, model.n_parameters) == ("AdamW", "GPT", 100, 125)
    assert model.card is not None
    assert (model.card.name, model.card.total, model.card.uuid) == ("Tesla P4", 8, "GPU-1")
    told = read({**updates(1, 2), "memory": {"allocated": 5, "peak_reserved": 9}})
    assert isinstance(told, Updates)
    assert [each.update for each in told.rows] == [1, 2]
    assert told.rows[0].shares == Shares(data=0.01, forward=0.03, backward=0.04, optimizer=0.01, other=0.01)
    assert (told.allocator.allocated, told.allocator.reserved, told.allocator.peak_reserved) == (5, None, 9)
    assert told.held["frozen"] == 100
    end = read(
        {"kind": "end", "updates": 3, "phase": "backward", "error": "OutOfMemoryError: x", "out_of_memory": True}
    )
    assert isinstance(end, End)
    assert (end.updates, end.phase, end.error, end.out_of_memory) == (3, Phase.BACKWARD, "OutOfMemoryError: x", True)
    assert read({"kind": "off", "why": "KeyError: 1"}) == Off(why="KeyError: 1")


@pytest.mark.parametrize("value", [None, "many", -1, 2**70, 1.5, True, [], {}, math.nan, math.inf, -math.inf])
def test_a_field_of_any_other_kind_is_unknown(value: Any) -> None:
    for message in (
        {"kind": "hello", "pid": value, "rank": value, "local_rank": value, "world_size": value},
        {**MODEL, "optimizer": value, "trained": value, "device": value},
        {"kind": "plan", "by": value, "updates": value, "epochs": value, "batch_size": value},
        {"kind": "updates", "rows": value, "held": value, "memory": value},
        {
            "kind": "updates",
            "rows": [value, {**row(1), "update": value}, row(1, t=value)],
            "held": {"weights": value},
            "memory": {},
        },
        {"kind": "updates", "rows": [row(1, seconds=value, samples=value, shares={"data": value, "x": value})]},
        {"kind": "log", "by": value, "update": value, "epoch": value, "figures": {"loss": value, 1: value}},
        {"kind": "off", "why": value},
        {"kind": "end", "updates": value, "phase": value, "error": value, "held": value, "allocator": value},
    ):
        read(message)
    told = read({"kind": "updates", "rows": [row(1, samples=value, seconds=value)]})
    assert isinstance(told, Updates)
    if value != 1.5:
        assert (told.rows[0].n_samples, told.rows[0].seconds) == (None, None)
    assert read({"kind": "news"}) is None


def test_a_loss_may_be_no_number_and_shares_are_never_negative() -> None:
    told = read({"kind": "updates", "rows": [row(1, loss=math.nan, shares={"data": -1.0, "sampling": 2.0})]})
    assert isinstance(told, Updates)
    assert told.rows[0].loss is not None
    assert math.isnan(told.rows[0].loss)
    assert told.rows[0].shares == Shares(other=2.0)


def test_a_plan_that_is_open_is_unknown() -> None:
    assert read({"kind": "plan", "by": "lightning", "updates": -1, "epochs": -1}) == Planned(
        told_by="lightning", updates=None, epochs=None, batch_size=None, gradient_accumulation_steps=None
    )


def test_figures_are_bounded() -> None:
    told = read({"kind": "log", "update": 5, "figures": {f"name {n}": n for n in range(1000)}})
    assert isinstance(told, Figures)
    assert len(told.figures) == 64
