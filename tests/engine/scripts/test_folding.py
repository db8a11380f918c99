"""From messages to a run's events: one process, ranks, trainings after each other, processes that do not train."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from engine.contract.config import RunConfig
from engine.contract.events import Event, FigureLogged, Logged, MemoryMoment, RanksStarted, ScriptKnown, UpdateDone
from engine.contract.run_figures import RunFigures, new_record
from engine.scripts import folding as module
from engine.scripts.device import ScriptDevice, cpu
from engine.scripts.folding import Folding
from engine.scripts.messages import read
from engine.telemetry.nvml import Nvml
from tests.engine.scripts.speaking import MODEL, row, updates


class Told:
    """A folding with a clock of its own, and what it made of what it was told."""

    def __init__(self) -> None:
        self.now = 100.0
        self.device = ScriptDevice(cpu(), Nvml())
        self.folding = Folding(
            run_id=7, device=self.device, nvml=Nvml(), host="here", log_path="/log", clock=lambda: self.now
        )
        self.events: list[Event] = []

    def by(self, number: int, *messages: Mapping[str, Any] | None) -> None:
        for message in messages:
            told = None if message is None else read(message)
            self.events += self.folding.take(number, None, told)

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def updates(self) -> list[tuple[int, float]]:
        return [(each.update, each.t) for each in self.of(UpdateDone)]


@pytest.fixture
def told() -> Told:
    return Told()


def _hello(rank: int | None = None, size: int = 1) -> dict[str, Any]:
    environment = {} if rank is None else {"rank": str(rank), "local_rank": str(rank), "world_size": str(size)}
    return {"kind": "hello", "pid": 1000 + (rank or 0), **environment}


def test_one_process(told: Told) -> None:
    told.by(1, _hello(), MODEL, updates(1, 2, tokens=80), updates(3, 3, tokens=80), {"kind": "end", "updates": 3}, None)
    told.events += told.folding.rest()
    kinds = [type(event) for event in told.events]
    assert kinds == [MemoryMoment, ScriptKnown, UpdateDone, UpdateDone, UpdateDone]
    known = told.of(ScriptKnown)[0]
    assert (known.model, known.optimizer, known.n_parameters, known.n_trained) == ("GPT", "AdamW", 125, 100)
    assert (known.batch_size, known.gradient_accumulation_steps, known.frozen) == (8, 1, 100)
    assert (known.n_processes, known.planned_updates, known.log_path) == (1, None, "/log")
    update = told.of(UpdateDone)[-1]
    assert (update.update, update.t, update.loss, update.update_s) == (3, pytest.approx(0.3), 1 / 3, 0.1)
    assert (update.n_samples, update.n_tokens, update.learning_rate, update.epoch) == (8, 80, 1e-3, None)
    assert update.ranks == ()
    assert update.memory.by_category == {"weights": 500, "gradients": 400, "optimizer": 800}
    assert update.memory.allocated is None
    assert told.folding.trains


def test_the_figures_of_a_record_come_of_the_events_alone(told: Told) -> None:
    told.by(1, _hello(), MODEL, updates(1, 1, samples=None), updates(2, 20, tokens=80))
    told.by(1, {"kind": "log", "by": "transformers", "update": 20, "figures": {"eval_loss": 0.5, "eval_f1": 0.7}}, None)
    figures = RunFigures(new_record(7, RunConfig(job="script", command="python train.py"), cpu(), 0.0))
    later = figures.after(told.events)
    record = later.as_record()
    assert figures.as_record().updates == 0
    assert (record.updates, record.train_runtime_s, record.n_parameters) == (20, pytest.approx(2.0), 125)
    assert record.samples_per_s == pytest.approx(19 * 8 / 1.9)  # the first update's samples are not known
    assert record.steady_samples_per_s == pytest.approx(80.0)
    assert record.tokens_per_s == pytest.approx(800.0)
    assert (record.eval_loss, record.eval_accuracy, record.wait_share) == (0.5, None, None)
    assert record.script is not None
    assert record.script.held == {"weights": 400, "gradients": 400, "optimizer": 800, "frozen": 100}
    assert (record.script.batch_size, record.script.gradient_accumulation_steps, record.script.seq_len) == (8, 1, 10)
    assert (record.script.model, record.script.optimizer, record.script.told_by) == ("GPT", "AdamW", None)
    assert record.script.figures == {"eval_loss": 0.5, "eval_f1": 0.7}
    assert record.script.exit_code is None
    assert record.script.n_processes == 1


def test_the_usual_batch_is_told_again_when_it_is_another(told: Told) -> None:
    told.by(1, _hello(), MODEL, updates(1, 1, samples=3, micro_steps=1), updates(2, 3, samples=8, micro_steps=2))
    assert [(each.batch_size, each.gradient_accumulation_steps) for each in told.of(ScriptKnown)] == [(3, 1), (4, 2)]
    told.by(1, updates(4, 9, samples=8, micro_steps=2))
    assert len(told.of(ScriptKnown)) == 2


def test_a_plan_is_told_when_it_is_made_and_time_begins(told: Told) -> None:
    told.by(1, _hello(), {"kind": "plan", "by": "transformers", "updates": 50, "epochs": 2, "batch_size": 8})
    known = told.of(ScriptKnown)[0]
    assert (known.planned_updates, known.planned_epochs, known.told_by, known.t) == (50, 2.0, "transformers", 0.0)
    told.now += 3.0
    told.by(1, MODEL, updates(1, 6))
    assert told.of(ScriptKnown)[-1].t == pytest.approx(3.0)
    assert [each.warmup for each in told.of(UpdateDone)] == [True] * 5 + [False]


def test_ranks_are_joined_update_by_update(told: Told) -> None:
    for number, rank in ((1, 0), (2, 1)):
        told.by(number, _hello(rank, 2), MODEL)
    told.by(1, updates(1, 3, loss=1.0, t=5.0))
    assert not told.of(UpdateDone)
    told.by(2, updates(1, 1, loss=3.0, seconds=0.3, t=5.2))
    [update] = told.of(UpdateDone)
    assert (update.update, update.loss, update.n_samples, update.update_s, update.t) == (1, 2.0, 16, 0.3, 5.2)
    assert [(share.rank, share.n_samples, share.update_s) for share in update.ranks] == [(0, 8, 0.1), (1, 8, 0.3)]
    assert sum(getattr(update.shares, name) for name in ("data", "forward", "backward", "optimizer", "other")) == (
        pytest.approx(0.1)
    )
    [ranks] = told.of(RanksStarted)
    assert [(rank.rank, rank.pid, rank.host, rank.device.kind) for rank in ranks.ranks] == [
        (0, 1000, "here", "cpu"),
        (1, 1001, "here", "cpu"),
    ]
    told.by(2, updates(3, 3))  # its second was dropped on the way
    assert [update for update, _ in told.updates()] == [1, 2, 3]
    assert len(told.of(UpdateDone)[1].ranks) == 1
    assert told.of(ScriptKnown)[-1].n_processes == 2


def test_a_rank_that_is_gone_keeps_nobody_waiting(told: Told) -> None:
    for number, rank in ((1, 0), (2, 1)):
        told.by(number, _hello(rank, 2), MODEL, updates(1, 1))
    told.by(1, updates(2, 2))
    told.by(2, None)
    assert [update for update, _ in told.updates()] == [1, 2]
    told.by(1, None)
    assert told.folding.lost is not None
    assert told.folding.lost.rank == 1


def test_a_rank_that_is_read_after_the_other_has_ended_trains_with_it(told: Told) -> None:
    for number, rank in ((1, 0), (2, 1)):
        told.by(number, _hello(rank, 2), MODEL, updates(1, 5), {"kind": "end", "updates": 5}, None)
    assert [update for update, _ in told.updates()] == [1, 2, 3, 4, 5]
    assert told.of(ScriptKnown)[-1].n_processes == 2
    told.by(3, _hello(0, 2), MODEL, updates(1, 1))
    told.by(4, _hello(1, 2), MODEL, updates(1, 1))
    assert told.updates()[-1][0] == 6  # of a second training


def test_who_ends_in_its_own_way_is_not_lost_nor_who_ends_with_it(told: Told) -> None:
    for number, rank in ((1, 0), (2, 1)):
        told.by(number, _hello(rank, 2), MODEL, updates(1, 1))
    told.by(1, {"kind": "end", "updates": 1}, None)
    told.by(2, None)
    assert told.folding.lost is None


def test_ranks_on_other_machines_are_waited_for_half_a_minute(told: Told) -> None:
    told.by(1, _hello(0, 4), MODEL, updates(1, 1))
    told.now += 29.0
    told.by(1, updates(2, 2))
    assert not told.of(UpdateDone)
    told.now += 2.0
    told.by(1, updates(3, 3))
    assert [update for update, _ in told.updates()] == [1, 2, 3]


def test_processes_that_form_a_group_by_themselves_are_ranks(told: Told) -> None:
    for number, rank in ((1, 1), (2, 0)):
        told.by(number, {"kind": "hello", "pid": number}, {**MODEL, "rank": rank, "world_size": 2})
    told.by(1, updates(1, 1))
    told.by(2, updates(1, 1))
    [update] = told.of(UpdateDone)
    assert [share.rank for share in update.ranks] == [0, 1]
    assert not told.of(Logged)


def test_who_steps_no_optimizer_is_none_of_those_that_train(told: Told) -> None:
    for number in range(1, 4):
        told.by(number, _hello())
    told.by(2, MODEL, updates(1, 1))
    told.by(1, {"kind": "end", "updates": 0}, None)
    told.by(3, None)
    assert told.of(ScriptKnown)[0].n_processes == 1
    assert told.folding.n_heard == 3
    assert told.folding.errors == []


def test_a_second_training_of_the_command_goes_on_counting(told: Told) -> None:
    told.by(1, _hello(), MODEL, updates(1, 2), None)
    told.now += 10.0
    told.by(2, _hello(), MODEL, updates(1, 2))
    assert told.updates() == [
        (1, pytest.approx(0.1)),
        (2, pytest.approx(0.2)),
        (3, pytest.approx(10.2)),
        (4, pytest.approx(10.3)),
    ]
    assert told.of(ScriptKnown)[-1].n_processes == 1


def test_a_second_training_beside_the_first_is_told_once_and_not_followed(told: Told) -> None:
    told.by(1, _hello(), MODEL, updates(1, 1))
    told.by(2, {"kind": "hello", "pid": 2000}, MODEL, updates(1, 5))
    told.by(1, updates(2, 2))
    assert [update for update, _ in told.updates()] == [1, 2]
    [warning] = told.of(Logged)
    assert warning.text == "Process 2000 trains too, by itself: it is not in the figures."


def test_updates_that_are_told_again_count_once(told: Told) -> None:
    told.by(1, _hello(), MODEL, updates(1, 3), updates(2, 4))
    assert [update for update, _ in told.updates()] == [1, 2, 3, 4]


def test_many_fast_updates_come_as_one_event_with_the_same_figures(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    one_by_one = Told()
    messages = [_hello(), MODEL, *(updates(10 * n + 1, 10 * n + 10, tokens=16) for n in range(20))]
    one_by_one.by(1, *messages)
    monkeypatch.setattr(module, "_EACH", 100)
    told.by(1, *messages)
    assert len(told.of(UpdateDone)) == 100 + 10
    assert sum(each.n_updates for each in told.of(UpdateDone)) == 200
    config = RunConfig(job="script", command="python train.py")
    records = [
        RunFigures(new_record(7, config, cpu(), 0.0)).after(each.events).as_record() for each in (told, one_by_one)
    ]
    for name in ("updates", "train_runtime_s", "train_loss", "samples_per_s", "steady_samples_per_s", "tokens_per_s"):
        assert getattr(records[0], name) == pytest.approx(getattr(records[1], name)), name


def test_figures_that_come_too_fast_are_told_together(told: Told) -> None:
    told.by(1, _hello(), MODEL, updates(1, 1))
    for step in range(1, 50):
        told.now += 0.01
        told.by(1, {"kind": "log", "by": "lightning", "update": step, "figures": {"loss": float(step)}})
    told.events += told.folding.rest()
    logged = told.of(FigureLogged)
    assert 4 <= len(logged) <= 7
    assert (logged[-1].update, logged[-1].figures) == (49, {"loss": 49.0})
    assert told.folding.known.told_by == "lightning"


def test_what_is_switched_off_is_told_and_known(told: Told) -> None:
    told.by(1, _hello(), MODEL, updates(1, 1), {"kind": "off", "why": "KeyError: 'x'"})
    assert told.of(ScriptKnown)[-1].switched_off == "KeyError: 'x'"
    assert told.of(Logged)[-1].text == "Process 1000 is watched no more (KeyError: 'x'); the script goes on."


def test_errors_are_kept_with_their_process(told: Told) -> None:
    for number, rank in ((1, 0), (2, 1)):
        told.by(number, _hello(rank, 2), MODEL, updates(1, 1))
    told.by(2, {"kind": "end", "updates": 1, "error": "OutOfMemoryError: CUDA", "out_of_memory": True}, None)
    [process] = told.folding.errors
    assert process.hello.rank == 1
    assert process.end is not None
    assert process.end.out_of_memory


@pytest.mark.parametrize("messages", [[updates(1, 1)], [{"kind": "end"}], [None], [MODEL], [row(1), {"kind": "log"}]])
def test_who_skips_what_comes_first_breaks_nothing(told: Told, messages: Iterable[Any]) -> None:
    told.by(1, *(message for message in messages if message is None or "kind" in message))
    told.events += told.folding.rest()
