"""Runs, their series, notes and the baseline, in real files."""

from __future__ import annotations

import math
import platform
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import engine.history.history
import engine.history.writer
from engine.contract.config import RunConfig
from engine.contract.events import (
    EvalDone,
    Event,
    Logged,
    MicroStepDone,
    RankBeat,
    RanksStarted,
    RunProgress,
    Sampled,
    TrainingStarted,
    UpdateDone,
)
from engine.contract.knob import ANSWER, SCRIPT, TRAIN
from engine.contract.records import (
    DeviceInfo,
    GpuSample,
    HostSample,
    Memory,
    Outcome,
    Phase,
    RankInfo,
    RankShare,
    RunRecord,
    Shares,
)
from engine.history.history import History, HistoryError

DEVICE = DeviceInfo(
    name="Tesla P4",
    kind="cuda",
    index=1,
    memory_total=7611 * 2**20,
    gpu_index=3,
    uuid="GPU-11111111-aaaa-bbbb-cccc-000000000000",
    software="driver 535.129.03, CUDA 12.6, PyTorch 2.9.0",
)
HOSTILE = "\x1b[2J[bold]\x00'\"\\ \ud800 \u202e"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.sqlite3"


@pytest.fixture
def history(path: Path) -> Iterator[History]:
    with History(path) as opened:
        yield opened


def update(run_id: int, number: int, loss: float = 0.5) -> UpdateDone:
    return UpdateDone(
        run_id=run_id,
        update=number,
        epoch=number / 100,
        loss=loss,
        learning_rate=5e-5,
        grad_norm=None,
        loss_scale=65536.0,
        skipped=False,
        n_samples=8,
        n_tokens=4096,
        update_s=0.5,
        warmup=False,
        t=number / 2,
        shares=Shares(data=0.1, forward=0.1, backward=0.2, optimizer=0.1),
        memory=Memory(used=100 + number, reserved=50, allocated=20, peak_allocated=30, total=1000),
    )


def sampled(run_id: int | None, used: int = 5) -> Sampled:
    return Sampled(run_id=run_id, t=0.5, gpu=None, host=HostSample(cpu=3.0), memory=Memory(used=used))


def begin(history: History, **knobs: object) -> int:
    return history.writer.begin_run(RunConfig(**knobs), DEVICE, started_at=1000.5, planned_updates=64)  # type: ignore[arg-type]


def stored(history: History, run_id: int) -> list[Event]:
    return [event for _, event in history.series(run_id)]


def test_a_run_has_its_row_from_its_first_second(history: History) -> None:
    run_id = begin(history, batch_size=4, model="bert-base")
    assert history.runs() == [
        RunRecord(
            run_id=run_id,
            config=RunConfig(batch_size=4, model="bert-base"),
            outcome=Outcome.RUNNING,
            device=DEVICE,
            started_at=1000.5,
            host=platform.node(),
            planned_updates=64,
            memory_total=DEVICE.memory_total,
        )
    ]
    assert history.run(run_id) == history.runs()[0]
    assert history.run(99) is None


def test_what_was_appended_is_read_back_in_order_after_a_flush(history: History) -> None:
    run_id = begin(history)
    events: list[Event] = [
        RunProgress(run_id=run_id, phase=Phase.LOAD, detail=HOSTILE),
        TrainingStarted(
            run_id=run_id,
            n_parameters=10,
            n_train=8,
            n_eval=2,
            planned_updates=32,
            micro_steps_per_epoch=8,
            label_names=("bad", HOSTILE),
        ),
        update(run_id, 1),
        sampled(run_id),
        update(run_id, 2, loss=math.inf),
        Logged(source="stderr", text=HOSTILE, level="warning"),
        EvalDone(
            run_id=run_id,
            epoch=1.0,
            update=2,
            accuracy=None,
            loss=0.25,
            n_samples=2,
            eval_s=0.5,
            t=2.5,
            macro_f1=0.5,
            confusion=((1, 0), (1, 0)),
        ),
    ]
    for event in events:
        history.writer.append(event)
    assert stored(history, run_id) == []
    assert history.writer.flush() is None
    assert stored(history, run_id) == events
    assert list(history.series(run_id, after=5)) == [(6, events[5]), (7, events[6])]

    record = history.run(run_id)
    assert record is not None
    assert (record.updates, record.planned_updates, record.n_parameters) == (2, 32, 10)
    assert (record.train_runtime_s, record.samples_per_s) == (2.5, 16 / 2.5)
    assert (record.train_loss, record.last_loss, record.eval_loss) == (math.inf, math.inf, 0.25)
    assert (record.peak_used, record.peak_reserved, record.peak_allocated) == (102, 50, 30)
    assert (record.eval_macro_f1, record.eval_confusion, record.best_update) == (0.5, ((1, 0), (1, 0)), 2)
    assert record.label_names == ("bad", HOSTILE)


def test_what_is_no_part_of_a_run_under_way_is_ignored(history: History) -> None:
    run_id = begin(history)
    history.writer.append(MicroStepDone(run_id=run_id, micro_step=1, micro_steps=2, t=0.5))
    history.writer.append(sampled(None))
    history.writer.append(update(run_id + 1, 1))
    history.writer.finish_run(RunRecord(run_id=run_id, config=RunConfig(), outcome=Outcome.STOPPED))
    history.writer.append(update(run_id, 1))
    history.writer.append(Logged(source="engine", text="idle"))
    history.writer.flush()
    assert stored(history, run_id) == []


def test_a_dropped_run_leaves_nothing_behind(history: History, path: Path) -> None:
    run_id = begin(history)
    history.writer.append(update(run_id, 1))
    history.writer.flush()
    history.writer.append(update(run_id, 2))
    history.writer.drop_run(run_id)
    history.writer.append(update(run_id, 3))
    assert history.writer.flush() is None
    assert (history.run(run_id), sql(path, "SELECT count(*) FROM batches")) == (None, 0)
    assert begin(history) == run_id + 1
    with pytest.raises(HistoryError, match="not under way"):
        history.writer.finish_run(RunRecord(run_id=run_id, config=RunConfig(), outcome=Outcome.FAILED))


@pytest.mark.parametrize("loss", [math.nan, -math.inf, 0.1 + 0.2])
def test_a_finished_run_is_complete(history: History, path: Path, loss: float) -> None:
    run_id = begin(history)
    history.writer.append(update(run_id, 1, loss=loss))
    record = RunRecord(
        run_id=run_id,
        config=RunConfig(text_column=HOSTILE),
        outcome=Outcome.OUT_OF_MEMORY,
        device=replace(DEVICE, name=HOSTILE),
        started_at=1001.0,
        host=platform.node(),
        updates=1,
        train_runtime_s=66.7,
        steady_spread=0.03,
        train_loss=loss,
        n_parameters=110_000_000,
        peak_used=7099 * 2**20,
        failed_phase=Phase.BACKWARD,
        message=HOSTILE,
    )
    history.writer.finish_run(record)
    with History(path) as reopened:
        (found,) = reopened.runs()
        assert repr(found) == repr(record)  # by its digits: NaN is not equal to itself
        assert repr(stored(reopened, run_id)) == repr([update(run_id, 1, loss=loss)])
        assert reopened.mark_interrupted() == []


def test_long_runs_merge_their_batches_without_a_trace(history: History, path: Path) -> None:
    run_id = begin(history)
    reader = history.series(run_id)
    for number in range(1, 201):
        history.writer.append(update(run_id, number))
        history.writer.flush()
        if number == 40:
            assert next(reader)[0] == 1  # a reader that holds still while batches merge
    numbers = [1, *(seq for seq, _ in reader)]
    assert numbers == list(range(1, 201))
    assert [seq for seq, _ in history.series(run_id, after=150)] == list(range(151, 201))
    assert sql(path, "SELECT count(*) FROM batches") == 3 + 200 % 64
    history.writer.finish_run(RunRecord(run_id=run_id, config=RunConfig(), outcome=Outcome.COMPLETED))
    assert sql(path, "SELECT count(*) FROM batches") == 4
    assert [seq for seq, _ in history.series(run_id)] == list(range(1, 201))


def sql(path: Path, statement: str) -> object:
    connection = sqlite3.connect(path)
    with connection:
        rows = connection.execute(statement).fetchall()
    connection.close()
    return rows[0][0] if rows else None


def test_threads_append_while_another_flushes(history: History) -> None:
    run_id = begin(history)
    n_threads, n_each = 4, 300

    def write(thread: int) -> None:
        for number in range(n_each):
            history.writer.append(update(run_id, thread * n_each + number))

    threads = [threading.Thread(target=write, args=(thread,)) for thread in range(n_threads)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert history.writer.flush() is None
    history.writer.flush()
    events = [event.update for event in stored(history, run_id) if isinstance(event, UpdateDone)]
    assert sorted(events) == list(range(n_threads * n_each))
    for thread_index in range(n_threads):
        assert (own := [n for n in events if n // n_each == thread_index]) == sorted(own)


def test_a_locked_file_is_waited_for_and_then_told_once(
    history: History, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine.history.writer, "_FLUSH_WAIT_S", 0.01)
    run_id = begin(history)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    history.writer.append(update(run_id, 1))
    assert (history.writer.flush(), history.writer.failure) == (None, None)
    monkeypatch.setattr(engine.history.writer, "_TELL_LOCKED_S", 0.0)
    told = [flushed(history) for _ in range(3)]
    assert [bool(sentence) for sentence in told] == [True, False, False]
    assert "Another program keeps the history" in (history.writer.failure or "")
    other.execute("ROLLBACK")
    other.close()
    assert (flushed(history), history.writer.failure) == (None, None)
    assert stored(history, run_id) == [update(run_id, 1)]


def flushed(history: History) -> str | None:
    history.writer._retry_at = 0.0  # not to wait for the pause after a failure
    return history.writer.flush()


def writing(history: History) -> sqlite3.Connection:
    connection = history._store.opened.write
    assert connection is not None
    return connection


def fill_disk(history: History) -> None:
    pages = writing(history).execute("PRAGMA page_count").fetchone()[0]
    writing(history).execute(f"PRAGMA max_page_count = {pages}")


def test_a_full_disk_bounds_what_is_kept_in_memory(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.history.writer, "MAX_PENDING", 1000)
    run_id = begin(history)
    fill_disk(history)
    started = TrainingStarted(
        run_id=run_id, n_parameters=10, n_train=8, n_eval=2, planned_updates=32, micro_steps_per_epoch=8
    )
    history.writer.append(started)
    for number in range(1, 5001):
        history.writer.append(update(run_id, number, loss=math.sin(number)))
    sentence = flushed(history)
    assert sentence is not None
    assert "is full: free some space" in sentence
    with pytest.raises(HistoryError, match="full"):
        history.writer.finish_run(RunRecord(run_id=run_id, config=RunConfig(), outcome=Outcome.COMPLETED, updates=5000))

    writing(history).execute("PRAGMA max_page_count = 1000000")
    sentence = flushed(history)
    assert sentence is not None
    assert "had to be dropped" in sentence
    assert flushed(history) is None
    first, *updates = stored(history, run_id)
    assert first == started
    numbers = [event.update for event in updates if isinstance(event, UpdateDone)]
    assert 400 < len(numbers) <= 1000
    assert numbers[0] == 1
    assert numbers[-1] >= 4999
    assert numbers == sorted(numbers)
    record = history.run(run_id)
    assert record is not None
    assert (record.outcome, record.updates) == (Outcome.COMPLETED, 5000)


def test_a_read_only_history_is_told(history: History) -> None:
    begin(history)
    writing(history).execute("PRAGMA query_only = ON")
    with pytest.raises(HistoryError, match="is read-only: make it writable"):
        begin(history)
    sentence = history.writer.flush()
    assert sentence is not None
    assert "read-only" in sentence


def test_a_closed_history_says_so_instead_of_crashing(path: Path) -> None:
    history = History(path)
    begin(history)
    assert history.close() is None
    with pytest.raises(HistoryError, match="closed"):
        history.runs()


def test_pages_and_times(history: History) -> None:
    for _ in range(5):
        begin(history)
    with_times = [history.writer.begin_run(RunConfig(), DEVICE, started_at=2000.0) for _ in range(2)]

    def numbers(**page: object) -> list[int]:
        return [record.run_id for record in history.runs(**page)]  # type: ignore[arg-type]

    assert numbers() == [1, 2, 3, 4, 5, 6, 7]
    assert numbers(limit=3, newest_first=True) == [7, 6, 5]
    assert numbers(limit=3, newest_first=True, before_id=5) == [4, 3, 2]
    assert numbers(limit=2, after_id=3) == [4, 5]
    assert numbers(since=1500.0) == with_times
    assert history.n_runs() == 7


def test_deleting_can_be_undone_until_it_is_purged(
    history: History, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        run_id = begin(history)
        history.writer.append(update(run_id, 1))
        history.writer.finish_run(RunRecord(run_id=run_id, config=RunConfig(), outcome=Outcome.COMPLETED))
    history.delete([1, 3, 77])
    assert [record.run_id for record in history.runs()] == [2]
    assert history.n_runs() == 1
    history.restore([1])
    assert [record.run_id for record in history.runs()] == [1, 2]
    assert stored(history, 1) == [update(1, 1)]

    monkeypatch.setattr(engine.history.history, "UNDO_S", -1.0)
    history.delete([2])
    assert history.run(3) is None
    assert sql(path, "SELECT count(*) FROM batches") == 2
    history.restore([2, 3])
    assert [record.run_id for record in history.runs()] == [1, 2]
    history.delete([1, 2])
    history.delete([])
    assert begin(history) == 4  # a number is never given twice


def test_baseline_and_notes(history: History, path: Path) -> None:
    first, second = begin(history), begin(history)
    assert history.baseline() is None
    history.set_baseline(first)
    history.set_baseline(second)
    history.note(first, f"warm start {HOSTILE}")
    history.note(second, "x")
    history.note(second, "")
    with History(path) as other:
        assert other.baseline() == second
        assert other.notes() == {first: f"warm start {HOSTILE.replace(chr(0xD800), '?')}"}
        history.delete([second])
        assert other.baseline() is None
        history.restore([second])
        assert other.baseline() == second
    history.set_baseline(first, ANSWER)  # a job's own
    history.set_baseline(second, SCRIPT)
    assert history.baselines() == {TRAIN: second, ANSWER: first, SCRIPT: second}
    history.set_baseline(None, SCRIPT)
    assert history.baselines() == {TRAIN: second, ANSWER: first}
    history.set_baseline(None)
    assert history.baselines() == {ANSWER: first}
    assert history.baseline() is None


def test_a_watcher_sees_that_something_changed(history: History, path: Path) -> None:
    run_id = begin(history)
    with History(path) as watcher:
        own, others = history.change_token(), watcher.change_token()
        assert watcher.change_token() == others
        history.writer.append(update(run_id, 1))
        assert watcher.change_token() == others
        history.writer.flush()
        assert watcher.change_token() != others
        assert history.change_token() != own
        assert list(watcher.series(run_id)) == [(1, update(run_id, 1))]


def test_rows_of_other_versions_still_list(history: History, path: Path) -> None:
    for _ in range(7):
        begin(history, batch_size=4)
    changes = {
        1: """config = '{"model": "bert-base", "flux_capacitor": 88}'""",
        2: """config = '{"device": "virtual:tesla-p9", "workload": "text", "batch_size": -3, "seq_len": "long"}'""",
        3: "config = 'not json', device = '[1]', figures = '[]'",
        4: """figures = '{"updates": "many", "train_loss": true, "peak_used": 5, "aura": 3, "failed_phase": "warp"}'""",
        5: "outcome = 'ascended'",
        6: """device = '{"name": "H200", "kind": "cuda", "index": 0, "colour": "green"}', started_at = 'yesterday'""",
        7: """device = '{"name": 5, "kind": "cuda"}', config = '{"batch_size": 1e999, "epochs": true}'""",
    }
    for run_id, change in changes.items():
        sql(path, f"UPDATE runs SET {change} WHERE run_id = {run_id}")
    one, two, three, four, five, six, seven = history.runs()
    assert one.config == RunConfig(model="bert-base")
    assert (two.config.device, two.config.workload, two.config.batch_size) == ("virtual:tesla-p9", "text", -3)
    assert two.config.seq_len == RunConfig().seq_len
    assert (three.config, three.device, three.updates) == (RunConfig(), None, 0)
    assert (four.updates, four.train_loss, four.peak_used, four.failed_phase) == (0, None, 5, None)
    assert five.outcome is Outcome.FAILED
    assert "ascended" in (five.message or "")
    assert six.device == DeviceInfo(name="H200", kind="cuda", index=0)
    assert six.started_at is None
    assert seven.device is None
    assert seven.config == RunConfig()


def test_lora_of_before_there_were_targets_had_all_linear_layers(history: History, path: Path) -> None:
    """A row tells what ran, not what the same knobs would run today."""
    before, plain = begin(history), begin(history)
    today = begin(history, lora_rank=4)
    sql(path, f"""UPDATE runs SET config = '{{"lora_rank": 8, "task": "causal-lm"}}' WHERE run_id = {before}""")
    sql(path, f"""UPDATE runs SET config = '{{"lora_rank": 0}}' WHERE run_id = {plain}""")
    targets = {record.run_id: record.config.lora_targets for record in history.runs()}
    assert targets == {before: "all-linear", plain: "default", today: "default"}


def test_damage_within_a_series_ends_it_with_a_sentence(history: History, path: Path) -> None:
    run_id = begin(history)
    for number in (1, 2, 3):
        history.writer.append(update(run_id, number))
        history.writer.flush()
    sql(path, "UPDATE batches SET payload = x'00ff' WHERE last_seq = 2")
    series = history.series(run_id)
    assert next(series) == (1, update(run_id, 1))
    with pytest.raises(HistoryError, match=f"damaged: the series of run {run_id} ends after event 1"):
        next(series)
    assert list(history.series(99)) == []


def test_runs_under_way_end_with_their_process_as_interrupted(history: History, path: Path) -> None:
    run_id, done = begin(history), begin(history)
    history.writer.append(update(run_id, 1))
    history.writer.finish_run(
        replace(RunRecord(run_id=done, config=RunConfig(), outcome=Outcome.COMPLETED), last_loss=0.1)
    )
    history.writer.append(update(run_id, 2, loss=0.25))
    assert history.writer.interrupt_runs("It was left.") is None
    with History(path) as again:
        first, second = again.runs()
        assert (first.outcome, first.message, first.updates, first.last_loss) == (
            Outcome.INTERRUPTED,
            "It was left.",
            2,
            0.25,
        )
        assert second.outcome is Outcome.COMPLETED
        assert len(stored(again, run_id)) == 2
    with pytest.raises(HistoryError, match="not under way here"):
        history.writer.finish_run(first)


def under_way(history: History, run_id: int) -> RunRecord:
    found = history.run(run_id)
    assert found is not None
    return found


RANKS = tuple(
    RankInfo(rank=rank, device=replace(DEVICE, index=rank), host="here", pid=100 + rank, log_path=f"/log/rank-{rank}")
    for rank in range(2)
)


def test_a_run_on_several_gpus_is_read_back_whole(path: Path) -> None:
    with History(path) as history:
        run_id = begin(history, gpus=2, parallel="zero1")
        shares = tuple(
            RankShare(
                rank=n, n_samples=4, n_tokens=9, update_s=0.5, shares=Shares(waiting=0.1 * n), memory=Memory(used=n)
            )
            for n in range(2)
        )
        events: list[Event] = [
            RanksStarted(run_id=run_id, ranks=RANKS),
            replace(update(run_id, 1), ranks=shares),
            replace(sampled(run_id), gpus=(GpuSample(power=70.0), None)),
            RankBeat(run_id=run_id, rank=1, phase=Phase.FORWARD, update=2, since_s=12.0),
        ]
        short = RankBeat(run_id=run_id, rank=0, phase=Phase.BACKWARD, update=2, since_s=0.4)
        for event in (*events, short):
            history.writer.append(event)
        record = replace(
            under_way(history, run_id),
            outcome=Outcome.FAILED,
            peak_used_by_rank=(None, 2**40),
            wait_share=0.1 + 0.2,
            failed_rank=1,
        )
        history.writer.finish_run(record)
    with History(path, read_only=True) as again:
        assert [event for _, event in again.series(run_id)] == events
        assert again.run(run_id) == record


@pytest.mark.parametrize("value", ["[1, true]", '"12"', "[[1]]", "7", "[1.5]"])
def test_peaks_that_are_no_list_of_sizes_are_unknown(path: Path, value: str) -> None:
    with History(path) as history:
        run_id = begin(history, gpus=2)
        history.writer.finish_run(
            replace(under_way(history, run_id), outcome=Outcome.COMPLETED, peak_used_by_rank=(1, 2))
        )
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE runs SET figures = json_set(figures, '$.peak_used_by_rank', json(?))", (value,))
    with History(path) as history:
        found = history.run(run_id)
        assert found is not None
        assert found.peak_used_by_rank == ()
