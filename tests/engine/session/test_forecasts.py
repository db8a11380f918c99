"""Forecasts of a session: which GPU, what runs have taught, and that a training beside them is not disturbed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine.contract.answers import AnswerFigures
from engine.contract.by_job import defaults_of
from engine.contract.conditions import Conditions, Neighbour
from engine.contract.config import ConfigError, RunConfig
from engine.contract.forecast_types import ForecastError
from engine.contract.records import DeviceInfo, Outcome, Phase, RunRecord
from engine.devices import link_speeds
from engine.devices.cuda import Outside
from engine.forecast.learned import learn
from engine.gpus.catalogue import find
from engine.gpus.units import MIB
from engine.history.errors import HistoryError
from engine.plans.course import named_plan, repeat_plan, sweep
from engine.process.machine import Machine
from engine.session.forecasts import Forecasts, Terms, forecast_all, gpu_of
from engine.session.outside import OutsideMemory
from engine.telemetry.nvml import Nvml
from engine.training.hub import Hub
from tests.engine.make_reviews import write_reviews
from tests.tui.app.test_forecast import forecast

SMALL = RunConfig(seq_len=32, batch_size=2, device="virtual:tesla-p4")


@pytest.fixture
def forecasts() -> Forecasts:
    return forecasts_of(list)


def forecasts_of(read_runs: Callable[[], list[RunRecord]], outside: Outside | None = None) -> Forecasts:
    hub, nvml = Hub(), Nvml()
    hub.probe()
    memory = OutsideMemory(nvml)
    if outside is not None:
        memory.on = lambda card: outside  # type: ignore[method-assign]
    return Forecasts(hub, read_runs, nvml, memory)


def test_the_gpu_is_that_of_the_device() -> None:
    assert gpu_of(RunConfig(device="virtual:a100-40gb"), Nvml())[0].key == "a100-40gb"
    with pytest.raises(ForecastError, match="no forecast for the CPU"):
        gpu_of(RunConfig(device="cpu"), Nvml())


def test_a_limit_decides(forecasts: Forecasts) -> None:
    assert forecasts.forecast(SMALL).fits
    small = forecasts.forecast(SMALL.with_values(vram_limit=540))
    assert not small.fits
    assert small.failing_phase == "load"


def test_what_is_hopeless_is_said_with_figures(forecasts: Forecasts) -> None:
    assert forecasts.hopeless(SMALL) is None
    why = forecasts.hopeless(SMALL.with_values(batch_size=2048, seq_len=512, samples=2048))
    assert why is not None
    assert why.startswith("forecast: ")
    assert why.endswith(" of 7,611 MiB")


PACKED = RunConfig(
    model="gpt2-tiny", workload="text", task="causal-lm", padding="packed", seq_len=64, batch_size=4, samples=32,
    device="virtual:tesla-p4",
)  # fmt: skip


def test_a_search_does_not_give_up_on_text_that_fits(forecasts: Forecasts) -> None:
    """With GPT-2's own 50,257 words it would not fit; the run trains some hundred."""
    need = forecasts.forecast(PACKED).peak_used
    random = forecasts.forecast(PACKED.with_values(workload="dummy", padding="longest")).peak_used
    limit = (need + random) // 2 // MIB
    assert forecasts.hopeless(PACKED.with_values(vram_limit=limit)) is None
    assert forecasts.hopeless(PACKED.with_values(workload="dummy", padding="longest", vram_limit=limit)) is not None
    assert forecasts.hopeless(PACKED.with_values(batch_size=2048, seq_len=512, samples=2048)) is not None


def test_reading_is_told_before_the_answer_and_once(forecasts: Forecasts) -> None:
    told: list[str] = []
    config = PACKED.with_values(seed=7)
    assert forecasts.answer(config, lambda: told.append("reading")).forecast is not None
    forecasts.answer(config.with_values(batch_size=8), lambda: told.append("again"))
    assert told == ["reading"]


def test_a_file_is_read_from_the_command_line_too(tmp_path: Path) -> None:
    data = write_reviews(tmp_path / "a.csv", 100)
    configs = [SMALL.with_values(workload="reviews", data=str(data), batch_size=n) for n in (2, 4)]
    one, two = forecast_all(configs)
    assert one.peak_allocated < two.peak_allocated
    assert any(note.startswith("Read from the data: 80 samples") for note in one.notes)


def test_an_answer_is_never_an_exception(forecasts: Forecasts) -> None:
    answer = forecasts.answer(SMALL.with_values(seq_len=1024))
    assert answer.forecast is None
    assert "--seq-len 512" in (answer.message or "")
    assert forecasts.answer(SMALL.with_values(model="no-such/model")).message


@pytest.mark.parametrize("checkpointing", ["off", "on"])
def test_forecasting_leaves_the_random_generator_alone(forecasts: Forecasts, checkpointing: str) -> None:
    """A training in another thread draws its dropout from the same generator."""
    torch.manual_seed(3)
    before = torch.get_rng_state()
    forecasts.forecast(SMALL.with_values(gradient_checkpointing=checkpointing, lora_rank=0))
    assert torch.equal(torch.get_rng_state(), before)


def test_an_unknown_gpu_is_refused_with_a_suggestion() -> None:
    with pytest.raises(ConfigError, match=r"did you mean tesla-p4.* like it .*: --gpu tesla-p4\S* --vram-limit MIB\.$"):
        forecast_all([SMALL], Terms(gpu="tesla-p5"))


P4 = DeviceInfo(
    name="Tesla P4", kind="cuda", index=0, memory_total=7611 * MIB, uuid="GPU-1", software="driver 535, PyTorch 2.9"
)


ALONE = Conditions(neighbours=(), shared=0.0, peak_others=0)
CROWDED = Conditions(neighbours=(Neighbour(pid=4242, peak_memory=30_000 * MIB, share=1.0),), shared=1.0)


def _finished(run_id: int, kind: str = "cuda", **values: object) -> RunRecord:
    record = {
        "run_id": run_id,
        "config": RunConfig(),
        "outcome": Outcome.COMPLETED,
        "device": replace(P4, kind=kind),
        "steady_samples_per_s": 6.32,
        "peak_used": 7100 * MIB,
        "peak_reserved": 6600 * MIB,
        **values,
    }
    return RunRecord(**record)  # type: ignore[arg-type]


def test_learns_memory_and_speed_from_runs_on_the_same_card() -> None:
    learned = learn([_finished(1), _finished(2)], P4, lambda record: forecast(samples_per_s=7.9))
    assert learned.n_runs == 2
    assert learned.outside_bytes == 500 * MIB
    assert learned.speed == pytest.approx(0.8)


def test_learns_nothing_from_virtual_runs_other_cards_failures_and_busy_hosts() -> None:
    others = [
        _finished(1, kind="virtual"),
        _finished(2, outcome=Outcome.OUT_OF_MEMORY),
        _finished(3, device=replace(P4, name="Tesla T4")),
        _finished(4, device=replace(P4, software="driver 580, PyTorch 2.9")),
        _finished(5, host_cores=8.0, host_free_cores=0.5),
    ]
    learned = learn(others, P4, lambda record: forecast())
    assert (learned.n_runs, learned.outside_bytes, learned.speed) == (0, None, None)


def test_a_neighbour_on_the_card_teaches_nothing() -> None:
    """Three runs beside 30,000 MiB of somebody else's once taught 30,650 MiB of context, and half the speed."""
    beside = {"conditions": CROWDED, "peak_used": 37_250 * MIB, "steady_samples_per_s": 3.0}
    crowded = [_finished(number, **beside) for number in (2, 3, 4)]
    learned = learn([_finished(1, conditions=ALONE), *crowded], P4, lambda record: forecast(samples_per_s=6.32))
    assert (learned.outside_bytes, learned.speed, learned.n_runs) == (500 * MIB, 1.0, 1)
    nothing = learn(crowded, P4, lambda record: forecast())
    assert (nothing.outside_bytes, nothing.speed) == (None, None)
    # what is not known to have been alone counts only where nothing is
    unknown = _finished(5, peak_used=9000 * MIB)
    assert learn([_finished(1, conditions=ALONE), unknown], P4, lambda record: forecast()).outside_bytes == 500 * MIB
    assert learn([unknown], P4, lambda record: forecast()).outside_bytes == 2400 * MIB


def test_memory_is_learned_by_the_name_and_speed_by_the_card() -> None:
    """A card that runs hot is slower than its neighbour of the same name; a context takes the same on both."""
    slow = _finished(1, device=replace(P4, uuid="GPU-2"), steady_samples_per_s=5.0)
    told = lambda record: forecast(samples_per_s=10.0)  # noqa: E731
    other = learn([slow], P4, told)
    assert (other.outside_bytes, other.speed, other.on_this_card) == (500 * MIB, 0.5, False)
    both = learn([slow, _finished(2, steady_samples_per_s=9.0)], P4, told)
    assert (both.speed, both.n_speeds, both.n_runs, both.on_this_card) == (0.9, 1, 2, True)


def test_the_acceptance_of_guesses_is_that_of_the_newest_run_that_has_ended() -> None:
    guessing = defaults_of("answer").with_values(
        model="gpt2-tiny", device="virtual:tesla-p4", prompt_len=16, max_new_tokens=8, speculate="lookup"
    )
    runs: list[RunRecord] = []
    n_read = 0

    def read_runs() -> list[RunRecord]:
        nonlocal n_read
        n_read += 1
        return runs

    forecasts = forecasts_of(read_runs)

    def told(config: RunConfig) -> float | None:
        answer = forecasts.forecast(config).answer
        assert answer is not None
        return answer.acceptance

    assert told(guessing) is None
    for number, (share, config) in enumerate(((0.3, guessing), (0.6, guessing), (0.9, SMALL)), 1):
        figures = AnswerFigures(acceptance=share)
        runs.append(RunRecord(run_id=number, config=config, outcome=Outcome.COMPLETED, answer=figures))
    forecasts.forget_learned()
    assert told(guessing) == 0.6
    assert told(guessing.with_values(prompt_len=24)) == 0.6
    assert n_read == 2, "once until a run ends"
    assert told(guessing.with_values(speculate_tokens=2)) is None
    assert told(guessing.with_values(speculate="off")) is None
    assert n_read == 3


def _real(read_runs: Callable[[], list[RunRecord]], monkeypatch: pytest.MonkeyPatch) -> Forecasts:
    monkeypatch.setattr("engine.session.forecasts.gpu_of", lambda config, nvml: (find("tesla-p4"), P4))
    return forecasts_of(read_runs)


def test_a_run_that_ends_while_another_thread_learns_is_learned_from_next(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [_finished(1)]

    def read_runs() -> list[RunRecord]:
        known = list(runs)
        if len(known) == 1:  # the engine's thread finishes a run just now
            runs.append(_finished(2, steady_samples_per_s=3.16))
            forecasts.forget_learned()
        return known

    forecasts = _real(read_runs, monkeypatch)
    real = SMALL.with_values(device="cuda")
    assert "from 1 runs on this card" in forecasts.forecast(real).notes[-1]
    assert "from 2 runs" in forecasts.forecast(real).notes[-1]


def test_a_history_that_cannot_be_read_leaves_the_forecast_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def read_runs() -> list[RunRecord]:
        raise HistoryError("Another program keeps the history locked.")

    forecasts = _real(read_runs, monkeypatch)
    assert forecasts.forecast(SMALL.with_values(device="cuda")).fits


def test_what_was_measured_on_the_card_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """With other programs beside it a run has less room, and the forecast says so."""
    real = SMALL.with_values(device="cuda")
    monkeypatch.setattr("engine.session.forecasts.gpu_of", lambda config, nvml: (find("tesla-p4"), P4))
    outside = Outside(context=300 * MIB, libraries=90 * MIB, others=7200 * MIB)
    crowded = forecasts_of(list, outside).forecast(real)
    alone = forecasts_of(list, replace(outside, others=0)).forecast(real)
    assert crowded.peak_used - alone.peak_used == 7200 * MIB
    assert alone.fits
    assert not crowded.fits
    assert alone.breakdown["context"] == 300 * MIB
    assert alone.notes[-1].startswith("Measured on this GPU: a context of 300 MiB, 90 MiB of libraries, and 0 MiB")


def test_the_lectures_own_death_is_foretold_under_its_software(forecasts: Forecasts) -> None:
    """Its bert-large died in the optimizer at batch 1; today's software fits the same row."""
    plan = named_plan("bert-large", RunConfig(), "small")
    wanted = {"as the lecture: PyTorch 2.0 AdamW", "today's foreach AdamW"}
    told = forecasts.foretell(replace(plan, runs=tuple(run for run in plan.runs if run.label in wanted)))
    then, now = (run.foretold for run in told.runs)
    assert then is not None
    assert now is not None
    assert (then.gpu, then.fits, then.failing_phase) == ("Tesla P4", False, "optimizer")
    assert then.limit == now.limit == 7611 * MIB
    assert then.peak_used > then.limit
    assert now.fits
    assert then.peak_used - now.peak_used == pytest.approx(1_279 * MIB, rel=0.1)  # one more copy of all parameters


def test_a_plan_is_foretold_once_for_its_repeats_and_not_after_a_stop(forecasts: Forecasts) -> None:
    base = RunConfig(model="bert-tiny", seq_len=16, samples=16, device="virtual:tesla-p4")
    plan = repeat_plan(named_plan("checkpointing", base, "small", given=("model", "seq_len", "samples")), 2)
    told = forecasts.foretell(plan)
    assert [run.foretold is not None for run in told.runs] == [True] * 4 + [False] * 4
    assert forecasts.foretell(plan, lambda: True) == plan
    other = sweep(base, {"batch_size": ["1", "2"]})
    assert forecasts.foretell(other) == other


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Machine, "cores", lambda self: 4.0)


@pytest.mark.usefixtures("four_cores")
def test_all_gpus_are_counted_before_they_are_forecast(forecasts: Forecasts) -> None:
    made = forecasts.forecast(SMALL.with_values(gpus=None))
    assert made.gpus == len(made.peak_used_by_rank) == 4
    (on_its_own,) = forecast_all([SMALL.with_values(gpus=None)])
    assert on_its_own.peak_used_by_rank == made.peak_used_by_rank
    with pytest.raises(ConfigError, match="say how many"):
        forecast_all([RunConfig(gpus=None)], Terms(gpu="tesla-p4"))


@pytest.mark.usefixtures("four_cores")
def test_what_did_not_fit_is_looked_at_on_as_many_gpus_as_there_are(forecasts: Forecasts) -> None:
    assert [config.gpus for config in forecasts._on_more_cards(SMALL)] == [2, 4]
    assert [config.gpus for config in forecasts._on_more_cards(SMALL.with_values(gpus=2))] == [4]
    assert forecasts._on_more_cards(RunConfig(device="cpu")) == []
    large = SMALL.with_values(model="bert-base-uncased", batch_size=64, seq_len=512, samples=256)
    record = RunRecord(run_id=1, config=large, outcome=Outcome.OUT_OF_MEMORY, failed_phase=Phase.FORWARD)
    *_, last = forecasts.proposals(record).proposals
    assert last.config.gpus == 4
    assert last.config.effective_batch_size == 64
    assert last.forecast.fits


def test_several_gpus_learn_from_runs_on_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Theirs have NCCL's buffers outside the allocator, which nobody has measured on one."""
    pair = _finished(2, config=RunConfig(gpus=2), peak_used=7_900 * MIB)
    forecasts = forecasts_of(
        lambda: [_finished(1), pair], outside=Outside(context=450 * MIB, libraries=50 * MIB, others=0)
    )
    monkeypatch.setattr("engine.session.forecasts.gpu_of", lambda config, nvml: (find("tesla-p4"), P4))
    monkeypatch.setattr("engine.session.forecasts._cards", lambda config, nvml: (P4, P4))
    config = SMALL.with_values(device="auto", gpus=2)
    both = forecasts.forecast(config)
    assert both.peak_used - both.peak_reserved == pair.peak_used - pair.peak_reserved
    assert both.used_range is None
    alone = forecasts.forecast(SMALL.with_values(device="auto"))
    assert alone.peak_used - alone.peak_reserved == 500 * MIB
    unknown = forecasts.forecast(config.with_values(gpus=4))
    assert unknown.used_range is not None


def test_a_link_that_was_measured_makes_the_speed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRAINTOP_HOME", str(tmp_path))
    monkeypatch.setattr("engine.session.forecasts.gpu_of", lambda config, nvml: (find("tesla-p4"), P4))
    monkeypatch.setattr("engine.session.forecasts._cards", lambda config, nvml: (P4, P4))
    config = SMALL.with_values(device="auto", gpus=2)
    assumed = forecasts_of(list).forecast(config)
    link_speeds.keep([link_speeds.number_of(P4.uuid or "")] * 2, 1e8)
    measured = forecasts_of(list).forecast(config)
    assert (measured.wait_share or 0) > (assumed.wait_share or 0) > 0
    assert any("measured on these cards" in note for note in measured.notes)


def test_rows_for_more_gpus_than_there_are_cores_are_there_by_forecast(
    forecasts: Forecasts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Machine, "threads", lambda self: 2)
    given = ("model", "seq_len", "samples", "device")
    base = RunConfig(model="bert-tiny", seq_len=16, samples=16, device="virtual:tesla-p4")
    told = forecasts.foretell(named_plan("gpus", base, "small", given=given))
    assert [run.by_forecast for run in told.runs] == [(run.config.gpus or 0) > 2 for run in told.runs]
    assert {run.skip for run in told.runs if run.by_forecast} == {"a virtual GPU takes a core, of 2 here"}
    assert all(run.foretold is not None and run.foretold.samples_per_s for run in told.runs)


SCRIPT_SOURCE = """
import torch
from transformers import BertForSequenceClassification
optimizer = torch.optim.AdamW(model.parameters())
"""


def test_a_script_is_forecast_on_a_card_that_is_there_and_nowhere_else(
    forecasts: Forecasts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "train.py").write_text(SCRIPT_SOURCE)
    command = f"python {tmp_path / 'train.py'} {{model}} {{batch_size}} {{seq_len}}"
    config = RunConfig(job="script", command=command, model="bert-mini", batch_size=2, seq_len=32)
    here = forecasts.answer(config)
    assert here.forecast is None
    assert here.message == "no forecast for the CPU: use traintop forecast --gpu NAME -- COMMAND"
    monkeypatch.setattr("engine.session.forecasts.gpu_of", lambda config, nvml: (find("tesla-p4"), P4))
    made = forecasts.answer(config).forecast
    assert made is not None
    assert made.notes[0].startswith("assumed: ")
    assert any(note.startswith("The loop is a script's") for note in made.notes)
    assert forecasts.answer(config.with_values(batch_size=4)).forecast != made
    # what is assumed decides nothing: no run is passed over by it, and no figure is made of it
    huge = config.with_values(batch_size=60_000)
    assert forecasts.hopeless(huge) is None
    assert forecasts.count(1, config) is None
    assert forecasts.speed(config) is None
    unnamed = forecasts.answer(
        config.with_values(command="python -c pass", batch_size=8, seq_len=512, model="bert-tiny")
    )
    assert unnamed.message == "no forecast for this command: python -c is no script whose flags are known"
