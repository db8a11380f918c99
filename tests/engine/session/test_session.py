"""Session: real runs in the real thread, and every way that one can end."""

from __future__ import annotations

import platform
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine.contract.as_json import record_to_json
from engine.contract.config import ConfigError, RunConfig
from engine.contract.events import (
    DeviceChosen,
    EngineReady,
    Event,
    Logged,
    MemoryMoment,
    RunFinished,
    RunRefused,
    RunStarted,
    Sampled,
    ScriptMade,
    Surveyed,
    TrainingStarted,
    UpdateDone,
)
from engine.contract.records import HostSample, Outcome, Phase
from engine.contract.run_figures import RunFigures, new_record
from engine.contract.stop_reason import BY_OUTPUT
from engine.devices.cpu import CpuDevice
from engine.history.history import History
from engine.session.forecasts import Forecasts, forecast_all
from engine.session.session import Session
from tests.engine.make_reviews import write_reviews

SMALL = RunConfig(device="cpu", samples=24, batch_size=4, seq_len=16)


class Driver:
    """A session with its history, and a patient reader of its mailbox."""

    def __init__(self, folder: Path) -> None:
        self.history = History(folder / "history.sqlite3")
        self.session = Session(self.history)
        self.events: list[Event] = []

    def until(self, kind: type[Event], after: int = 0) -> Event:
        """Wait for an event of `kind` beyond the first `after` ones; fails after two minutes without any event."""
        while True:
            found = [event for event in self.events if isinstance(event, kind)]
            if len(found) > after:
                return found[after]
            more = self.session.wait(120)
            assert more, f"no event came while waiting for {kind.__name__}"
            self.events += more

    def run(self, config: RunConfig) -> RunFinished:
        before = sum(isinstance(event, RunFinished) for event in self.events)
        self.session.start(config)
        finished = self.until(RunFinished, before)
        assert isinstance(finished, RunFinished)
        return finished


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    torch.set_num_threads(1)
    driver = Driver(tmp_path)
    driver.session.open()
    yield driver
    driver.session.close()
    driver.history.close()


def test_a_run_from_start_to_row(driver: Driver) -> None:
    record = driver.run(SMALL).record
    assert record.outcome is Outcome.COMPLETED
    assert record.updates == record.planned_updates == 6
    assert record.n_parameters == 4_386_178
    assert record.samples_per_s == pytest.approx(24 / (record.train_runtime_s or 0))
    assert record.peak_used
    assert record.peak_used > 50 * 2**20
    assert record.train_loss == pytest.approx(
        sum(e.loss for e in driver.events if isinstance(e, UpdateDone)) / record.updates
    )
    kinds = [type(event) for event in driver.events if not isinstance(event, Logged)]
    assert kinds.index(EngineReady) < kinds.index(RunStarted) < kinds.index(TrainingStarted) < kinds.index(UpdateDone)
    moments = [event.moment for event in driver.events if isinstance(event, MemoryMoment)]
    assert moments == ["start", "context", "model", "trained"]
    assert driver.history.runs() == [record]
    begun = next(event for event in driver.events if isinstance(event, RunStarted))
    said = [event for event in driver.events if not isinstance(event, Sampled)]  # the run does not hear the sampler
    figures = RunFigures(new_record(begun.run_id, begun.config, begun.device, begun.started_at)).after(said)
    assert record.host == platform.node()
    told = replace(figures.as_record(), outcome=Outcome.COMPLETED, host=record.host)
    assert replace(told, host_cores=record.host_cores, host_free_cores=record.host_free_cores) == record
    assert record.threads == 1


def test_a_run_on_a_virtual_gpu_keeps_the_cards_speed_by_forecast(driver: Driver) -> None:
    config = SMALL.with_values(device="virtual:tesla-p4", samples=8)
    record = driver.run(config).record
    made = forecast_all([config])[0]
    assert record.outcome is Outcome.COMPLETED
    assert record.forecast_samples_per_s == made.samples_per_s
    assert made.samples_per_s
    assert record.forecast_samples_per_s != record.samples_per_s
    assert driver.history.runs() == [record]
    told = record_to_json(record)
    assert told["forecast_samples_per_s"] == made.samples_per_s
    assert told["forecast_runtime_s"] == pytest.approx(8 / made.samples_per_s)


def test_a_forecast_that_breaks_takes_no_row(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(Forecasts, "card_speed", broken)
    record = driver.run(SMALL.with_values(device="virtual:tesla-p4", samples=8)).record
    assert record.outcome is Outcome.COMPLETED
    assert record.forecast_samples_per_s is None


def test_readings_say_where_a_long_step_is(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.training.whereabouts.LONG_S", 0.0)
    driver.session.start(SMALL.with_values(samples=100_000))
    while not (places := [e.place for e in driver.events if isinstance(e, Sampled) and e.place is not None]):
        driver.until(Sampled, sum(isinstance(event, Sampled) for event in driver.events))
    driver.session.stop()
    assert isinstance(driver.until(RunFinished), RunFinished)
    assert places[0].layers in (None, 2)  # none in between: clipping, the optimizer, data
    assert driver.session._place() is None


def test_what_is_ready_is_the_device_that_was_asked_for(tmp_path: Path) -> None:
    """`run --device cpu` was once told as a run on a virtual Tesla P4. The next run's device may be another."""
    driver = Driver(tmp_path)
    driver.session = Session(driver.history, device="cpu", measures=True)
    driver.session.open()
    ready = driver.until(EngineReady)
    assert isinstance(ready, EngineReady)
    assert (ready.device.kind, ready.device.uuid, ready.note) == ("cpu", None, None)
    driver.session.look_at("no such device")
    driver.session.look_at("virtual:tesla-t4")
    chosen = driver.until(DeviceChosen)
    assert isinstance(chosen, DeviceChosen)
    assert (chosen.device.name, chosen.device.kind) == ("Tesla T4", "virtual")
    driver.session.survey(SMALL)
    survey = driver.until(Surveyed)
    assert isinstance(survey, Surveyed)
    if not torch.cuda.is_available():
        assert survey.choices == ()
        assert survey.message
    assert driver.session.close(60)
    driver.history.close()


def test_update_times_are_whole(driver: Driver) -> None:
    driver.run(SMALL)
    for update in (event for event in driver.events if isinstance(event, UpdateDone)):
        shares = update.shares
        parts = shares.data + shares.forward + shares.backward + shares.optimizer
        assert parts == pytest.approx(update.update_s)
        assert min(shares.data, shares.forward, shares.backward, shares.optimizer) > 0


def test_stop_keeps_the_row(driver: Driver) -> None:
    driver.session.start(SMALL.with_values(samples=100_000))
    driver.until(UpdateDone)
    assert driver.session.busy
    driver.session.stop()
    finished = driver.until(RunFinished)
    assert isinstance(finished, RunFinished)
    assert finished.record.outcome is Outcome.STOPPED
    assert finished.record.updates >= 1
    assert driver.history.runs()[0].outcome is Outcome.STOPPED
    assert driver.run(SMALL).record.outcome is Outcome.COMPLETED


def _raise_in(phase: Phase, monkeypatch: pytest.MonkeyPatch, error: Exception, micro_step: int = 3) -> None:
    """Inject an error where the device would raise it: inside the phase's work, in the `micro_step`-th one."""
    seen = {"n": 0, "armed": True}

    def enter(self: CpuDevice, entered: Phase) -> None:
        if entered is phase:
            seen["n"] += 1
            if seen["armed"] and seen["n"] == micro_step:
                seen["armed"] = False
                raise error

    monkeypatch.setattr(CpuDevice, "enter", enter)


@pytest.mark.parametrize(
    "phase",
    [Phase.FORWARD, *(pytest.param(p, marks=pytest.mark.slow) for p in (Phase.BACKWARD, Phase.CLIP)), Phase.OPTIMIZER],
)
def test_out_of_memory_is_an_outcome_and_the_next_run_works(
    phase: Phase, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 7.43 GiB\nof which …"
    _raise_in(phase, monkeypatch, torch.OutOfMemoryError(text))
    record = driver.run(SMALL).record
    assert record.outcome is Outcome.OUT_OF_MEMORY
    assert record.failed_phase is phase
    assert record.updates == 2
    assert f"Out of memory in {phase.value} of micro-step 3 (update 3): CUDA out of memory." in (record.message or "")
    assert "Tried to allocate 20.00 MiB" in (record.message or "")
    assert driver.history.runs()[0] == record
    again = driver.run(SMALL).record
    assert again.outcome is Outcome.COMPLETED


def test_out_of_memory_gives_the_memory_back(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    import gc
    import weakref

    alive: list[weakref.ref[torch.nn.Module]] = []
    original = CpuDevice.create_context

    def enter(self: CpuDevice, phase: Phase) -> None:
        if phase is Phase.BACKWARD:
            models = [o for o in gc.get_objects() if type(o).__name__ == "BertForSequenceClassification"]
            alive.extend(weakref.ref(model) for model in models)
            big = torch.zeros(1000)
            raise torch.OutOfMemoryError(f"CUDA out of memory. {big.numel()}")

    monkeypatch.setattr(CpuDevice, "enter", enter)
    driver.run(SMALL)
    assert alive
    assert all(ref() is None for ref in alive)
    assert CpuDevice.create_context is original


def test_other_errors_fail_the_run_in_one_sentence(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    _raise_in(Phase.BACKWARD, monkeypatch, RuntimeError("mat1 and mat2\nshapes cannot be multiplied"))
    record = driver.run(SMALL).record
    assert record.outcome is Outcome.FAILED
    assert record.message == (
        "Failed in backward of micro-step 3 (update 3): RuntimeError: mat1 and mat2. Details are in the log file."
    )
    assert driver.run(SMALL).record.outcome is Outcome.COMPLETED


@pytest.mark.parametrize(
    ("config", "knob", "words"),
    [
        (SMALL.with_values(precision="fp16"), "precision", "use --precision bf16"),
        (SMALL.with_values(precision="tf32"), "precision", "use --precision fp32"),
        (SMALL.with_values(seq_len=1000), "seq_len", "use --seq-len 512 or less"),
        (SMALL.with_values(model="no-such/model"), "model", "A hub name that exists"),
        (SMALL.with_values(device="cuda:7"), "device", "--device cpu"),
        (SMALL.with_values(workload="reviews", data="nowhere.csv"), "data", "nowhere.csv"),
    ],
)
def test_refusals_name_the_fix_and_leave_no_row(driver: Driver, config: RunConfig, knob: str, words: str) -> None:
    driver.session.start(config)
    refused = driver.until(RunRefused)
    assert isinstance(refused, RunRefused)
    assert refused.knob == knob
    assert words in refused.message
    assert driver.history.runs() == []
    assert driver.run(SMALL).record.outcome is Outcome.COMPLETED


def test_runs_queue_and_stop_forgets_the_queued(driver: Driver) -> None:
    long = SMALL.with_values(samples=100_000)
    for _ in range(3):
        driver.session.start(long)
    driver.until(UpdateDone)
    driver.session.stop(BY_OUTPUT)
    driver.session.stop()  # what came first stopped it
    driver.until(RunFinished)
    driver.session.start(SMALL)
    driver.until(RunFinished, 1)
    first, second = driver.history.runs()
    assert [first.outcome, second.outcome] == [Outcome.STOPPED, Outcome.COMPLETED]
    assert first.message == "Stopped: the output could not be written."
    assert not driver.session.busy


def test_close_during_a_run_keeps_the_row(tmp_path: Path) -> None:
    driver = Driver(tmp_path)
    driver.session.open()
    driver.session.start(SMALL.with_values(samples=100_000))
    driver.until(UpdateDone)
    assert driver.session.close(60)
    assert driver.history.runs()[0].outcome is Outcome.STOPPED
    driver.history.close()


@pytest.mark.slow
def test_reviews_learn_and_repeat(driver: Driver, tmp_path: Path) -> None:
    from tests.engine.make_reviews import write_reviews

    file = write_reviews(tmp_path / "reviews.csv", 400)
    config = SMALL.with_values(
        workload="reviews", data=str(file), samples=320, batch_size=16, seq_len=32, learning_rate=1e-3, epochs=2
    )
    first, second = driver.run(config).record, driver.run(config).record
    assert first.eval_accuracy is not None
    assert first.eval_accuracy == second.eval_accuracy
    assert first.train_loss == second.train_loss


def test_workers_start_and_end(driver: Driver) -> None:
    before = {thread.name for thread in threading.enumerate()}
    alone = driver.run(SMALL).record
    helped = driver.run(SMALL.with_values(dataloader_num_workers=2)).record
    assert helped.outcome is Outcome.COMPLETED
    assert helped.train_loss == alone.train_loss
    for thread in threading.enumerate():
        if thread.name not in before | {"engine", "sampler"}:
            thread.join(60)  # the feeder of the workers' queue may take a moment to end
            assert not thread.is_alive(), thread.name


def test_switches_of_torch_are_put_back(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    read: Callable[[], tuple[object, ...]] = lambda: (  # noqa: E731
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.backends.cuda.matmul.allow_tf32,
        torch.is_grad_enabled(),
    )
    before = read()
    _raise_in(Phase.FORWARD, monkeypatch, torch.OutOfMemoryError("CUDA out of memory."))
    driver.run(SMALL)
    assert read() == before


def test_a_reading_that_fails_keeps_no_history_from_being_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with History(tmp_path / "history.sqlite3") as history:
        session = Session(history)
        written = threading.Event()
        flush = history.writer.flush

        def note() -> str | None:
            written.set()
            return flush()

        def fail(event: Event) -> None:
            raise RuntimeError("the driver did something new")

        monkeypatch.setattr(history.writer, "flush", note)
        monkeypatch.setattr(session, "_emit", fail)
        with pytest.raises(RuntimeError, match="something new"):
            session._on_sample((), HostSample())
        assert written.is_set()


def test_a_file_that_is_missing_is_refused_at_once(tmp_path: Path) -> None:
    """Without a thread that would have to load PyTorch first, and without a number."""
    driver = Driver(tmp_path)
    missing = RunConfig(workload="reviews", data=str(tmp_path / "nowhere.csv"), device="cpu")
    driver.session.start(missing)
    assert not driver.session.busy
    (refused,) = driver.session.drain()
    assert isinstance(refused, RunRefused)
    assert (refused.run_id, refused.knob) == (None, "data")
    assert "does not exist" in refused.message
    driver.session.close()
    driver.history.close()


def test_a_file_that_breaks_while_it_waits_takes_no_number(driver: Driver, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("text,label\na,1\n")
    config = SMALL.with_values(workload="reviews", data=str(file))
    file.unlink()
    with pytest.raises(ConfigError):
        driver.session.check_data(config)
    driver.session._queue(config)  # as it would have been while the file was there
    refused = driver.until(RunRefused)
    assert isinstance(refused, RunRefused)
    assert refused.run_id is None
    assert driver.run(SMALL).record.run_id == 1


def test_own_rows_train_all_and_are_counted(driver: Driver, tmp_path: Path) -> None:
    rows = write_reviews(tmp_path / "mine.csv", 600)
    config = RunConfig(workload="reviews", data=str(rows), device="cpu", seq_len=8, batch_size=120)
    record = driver.run(config).record
    assert (record.n_train, record.n_eval, record.updates) == (480, 120, 4)
    assert record.config.samples is None
    assert record.eval_majority is not None
    assert 0.5 <= record.eval_majority < 0.6
    assert driver.history.runs() == [record]


def test_a_run_is_handed_over_as_a_script(driver: Driver) -> None:
    driver.session.hand_over(SMALL, "run 3")
    made = driver.until(ScriptMade)
    assert isinstance(made, ScriptMade)
    assert made.text is not None
    assert made.text.startswith("# Run 3 of traintop as a script")
    driver.session.hand_over(SMALL.with_values(model="./nowhere"), "run 4")
    refused = driver.until(ScriptMade, 1)
    assert isinstance(refused, ScriptMade)
    assert refused.text is None
    assert "is not a folder" in (refused.message or "")
