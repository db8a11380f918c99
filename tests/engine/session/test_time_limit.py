"""What will not end before the job does: by earlier runs, else by the forecast."""

from __future__ import annotations

from dataclasses import replace

from engine.contract.answers import AnswerFigures
from engine.contract.by_job import defaults_of
from engine.contract.config import RunConfig
from engine.contract.job import BatchJob
from engine.contract.records import DeviceInfo, Outcome, RunRecord
from engine.session.time_limit import TimeLimit

GPU = DeviceInfo(name="Tesla P4", kind="cuda", index=0)
CONFIG = RunConfig(samples=1000, epochs=2, device="cuda:0")
HOUR = BatchJob(job_id="42", node="node17", ends_at=3700.0, source="squeue")


def row(run_id: int, rate: float, **values: object) -> RunRecord:
    record = RunRecord(
        run_id=run_id, config=CONFIG.with_values(samples=64), outcome=Outcome.COMPLETED, device=GPU, samples_per_s=rate
    )
    return replace(record, **values)  # type: ignore[arg-type]


def limit(*rows: RunRecord, forecast: float | None = None, job: BatchJob | None = HOUR) -> TimeLimit:
    made = TimeLimit(lambda: rows, lambda config: forecast, clock=lambda: 100.0)
    made.job = job
    return made


def test_an_earlier_run_tells_the_speed_whatever_its_length() -> None:
    assert limit(row(1, 0.1), row(2, 1.0)).why_not([CONFIG], GPU, "This run") is None  # the newest: 2,000 s
    assert limit(row(1, 0.5)).why_not([CONFIG], GPU, "This run") == (
        "This run will not end in time: by earlier runs the training takes about 1 h 06 min, and Slurm job 42 on "
        "node17 ends in 1 h 00 min (squeue)."
    )


def test_other_devices_knobs_and_outcomes_tell_nothing() -> None:
    others = (
        row(1, 0.1, device=replace(GPU, name="H100")),
        row(2, 0.1, config=CONFIG.with_values(batch_size=64)),
        row(3, 0.1, outcome=Outcome.STOPPED),
        row(4, 0.1, device=None),
    )
    assert limit(*others).why_not([CONFIG], GPU, "This run") is None
    assert limit(row(1, 0.1)).why_not([CONFIG], None, "This run") is None


def test_else_the_forecast_does() -> None:
    why = limit(forecast=0.25).why_not([CONFIG], GPU, "This run")
    assert why is not None
    assert "by the forecast the training takes about 2 h 13 min" in why
    assert limit(forecast=2.0).why_not([CONFIG], GPU, "This run") is None


def test_a_plan_takes_the_sum_and_what_is_unknown_makes_it_a_least() -> None:
    other = CONFIG.with_values(batch_size=64)
    plan = [CONFIG, CONFIG.with_values(seed=2), CONFIG.with_values(seed=3), other]
    assert limit(row(1, 1.0)).why_not(plan[1:], GPU, "The plan") == (
        "The plan will not end in time: by earlier runs the training takes at least 1 h 06 min, and Slurm job 42 on "
        "node17 ends in 1 h 00 min (squeue)."
    )
    both = limit(row(1, 1.0), forecast=1.0).why_not(plan, GPU, "The plan")
    assert both is not None
    assert "by earlier runs and the forecast the training takes about 2 h 13 min" in both


def test_answers_take_what_earlier_ones_took_a_request() -> None:
    config = defaults_of("answer").with_values(device="cuda:0", requests=2000)
    few = row(
        1, 0.0, config=config.with_values(requests=4), samples_per_s=None, answer=AnswerFigures(requests_per_s=0.5)
    )
    assert limit(few).why_not([config], GPU, "This run") == (
        "This run will not end in time: by earlier runs the answering takes about 1 h 06 min, and Slurm job 42 on "
        "node17 ends in 1 h 00 min (squeue)."
    )
    assert limit(few).why_not([config.with_values(requests=None)], GPU, "This run") is None  # 8 of them
    assert limit(few).why_not([config.with_values(max_new_tokens=64)], GPU, "This run") is None
    assert limit(few).why_not([config.with_values(requests=None, prompts="asked.txt")], GPU, "This run") is None
    asked_once = config.with_values(requests=None, prompt="Why?")
    assert "takes about 2 h 46 min" in (limit(forecast=0.0001).why_not([asked_once], GPU, "This run") or "")


def test_without_an_end_nobody_is_asked() -> None:
    def asked(*_: object) -> None:
        raise AssertionError("nobody needs to know")

    for job in (None, BatchJob(job_id="42")):
        made = TimeLimit(asked, asked)  # type: ignore[arg-type]
        made.job = job
        assert made.why_not([CONFIG], GPU, "This run") is None
