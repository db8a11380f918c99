"""What a run that answers comes to: percentiles, rates, counters, the same wherever its events are folded."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median, quantiles

import pytest

from engine.contract.answer_entries import prompt_tokens_of
from engine.contract.answers import AnswerFigures, from_plain, to_plain
from engine.contract.by_job import defaults_of
from engine.contract.config import RunConfig
from engine.contract.events import CachesHold, Event, MemoryMoment, QualityMeasured, Sampled, TokensCompared
from engine.contract.knob import ANSWER
from engine.contract.records import DeviceInfo, HostSample, Memory, RunRecord
from engine.contract.run_figures import RunFigures, new_record
from engine.history.history import History
from tests.engine.contract.answering_events import MEMORY, answered, batch, done, scored, started

CPU = DeviceInfo(name="Intel Xeon", kind="cpu", memory_label="RAM")
CONFIG = defaults_of(ANSWER)
RUN_ID = 1


def record_of(events: Iterable[Event], config: RunConfig = CONFIG) -> RunRecord:
    figures = RunFigures(new_record(RUN_ID, config, CPU, 1.0))
    for event in events:
        figures.add(event)
    return figures.as_record()


def answer_of(events: Iterable[Event], config: RunConfig = CONFIG) -> AnswerFigures:
    answer = record_of(events, config).answer
    assert answer is not None
    return answer


def uneven(n_requests: int, seed: int = 0) -> list[Event]:
    """One after the other, after a warm-up that is slower than all of them."""
    numbers = random.Random(seed)
    events: list[Event] = [started(RUN_ID, n_requests), *batch(RUN_ID, [0], 0.5, ttft=9.0, gaps=[4.0, 5.0])]
    t = 20.0
    for number in range(1, n_requests + 1):
        ttft = numbers.uniform(0.02, 0.2)
        gaps = [numbers.lognormvariate(-4, 0.5) for _ in range(numbers.randint(3, 40))]
        events += batch(RUN_ID, [number], t, prompt=numbers.randint(8, 64), ttft=ttft, gaps=gaps, per_event=7)
        t += ttft + sum(gaps)
    return events


def test_time_to_first_token_and_the_gaps_after_it_are_end_to_end() -> None:
    gaps = [0.01, 0.02, 0.03, 0.5]
    answer = answer_of([started(RUN_ID, 1), *batch(RUN_ID, [1], 3.0, ttft=0.25, gaps=gaps)])
    assert answer.ttft is not None
    assert answer.e2e is not None
    assert answer.tpot is not None
    assert answer.e2e.p50 == pytest.approx(answer.ttft.p50 + sum(gaps))
    assert answer.tpot.p99 == pytest.approx(sum(gaps) / 4)


def test_percentiles_are_exact_and_the_warm_up_is_in_none() -> None:
    events = uneven(50)
    record = record_of(events)
    answer = record.answer
    assert answer is not None
    gaps = [gap for event in events for gap in getattr(event, "gaps", ()) if not getattr(event, "warmup", False)]
    wanted = quantiles(gaps, n=100, method="inclusive")
    assert answer.itl is not None
    assert [answer.itl.p50, answer.itl.p90, answer.itl.p99] == pytest.approx([wanted[49], wanted[89], wanted[98]])
    assert answer.ttft is not None
    assert answer.ttft.p99 < 0.2
    assert (answer.n_requests, answer.planned_requests) == (50, 50)
    last = max(getattr(event, "t", 0.0) for event in events)
    assert record.train_runtime_s == pytest.approx(last - 20.0)
    assert answer.requests_per_s == pytest.approx(50 / (last - 20.0))


def test_shares_are_the_time_of_the_run() -> None:
    record = record_of(uneven(5))
    assert record.answer is not None
    shares = record.answer.shares
    assert shares is not None
    assert shares.prefill + shares.decode + shares.draft + shares.sampling == pytest.approx(record.train_runtime_s)


@pytest.mark.parametrize("accepted", [(0, 0, 0, 0), (4, 0, 2, 1), (4, 4, 4, 4)])
def test_tokens_are_forwards_and_accepted_guesses(accepted: Sequence[int]) -> None:
    config = CONFIG.with_values(speculate="lookup")
    events = batch(RUN_ID, [1], 0.0, gaps=[0.01] * 4, accepted=accepted)
    answer = answer_of([started(RUN_ID, 1), *batch(RUN_ID, [0], 0.0, gaps=[1.0], accepted=[4]), *events], config)
    assert answer.new_tokens == answer.forwards + (answer.accepted or 0) == 5 + sum(accepted)
    assert (answer.proposed, answer.accepted) == (16, sum(accepted))
    assert answer.acceptance == sum(accepted) / 16
    assert answer.tokens_per_forward == answer.new_tokens / 5


def test_without_speculation_and_caches_their_figures_are_unknown() -> None:
    answer = answer_of(uneven(3))
    assert (answer.proposed, answer.accepted, answer.acceptance) == (None, None, None)
    assert (answer.hits, answer.hit_rate, answer.held) == (None, None, None)
    assert answer.tokens_per_forward == 1


def test_a_prompt_that_is_being_answered_counts_among_those_that_were_read() -> None:
    """A run that is stopped in its third answer was asked as long prompts as before."""
    events = [
        started(RUN_ID, 8),
        *batch(RUN_ID, [1], 1.0),
        *batch(RUN_ID, [2], 2.0),
        *batch(RUN_ID, [3], 3.0, ends=False),
    ]
    record = record_of(events)
    assert record.answer is not None
    assert (record.answer.n_requests, record.answer.n_prompts) == (2, 3)
    assert prompt_tokens_of(record) == 64


def test_what_the_last_batch_left_in_a_cache_counts_as_held() -> None:
    config = CONFIG.with_values(response_cache=True)
    events = [started(RUN_ID, 2), *batch(RUN_ID, [1], 1.0), *batch(RUN_ID, [2], 2.0)]
    assert answer_of(events, config).held == 0  # nothing was kept, which is known
    kept = [CachesHold(run_id=RUN_ID, held=held, t=3.0) for held in (400, 900, 700)]  # the oldest may go
    assert answer_of([*events, *kept], config).held == 900


def test_prompt_and_generation_rates_are_medians_of_the_batches() -> None:
    events: list[Event] = [started(RUN_ID, 12)]
    for index, speed in enumerate((1.0, 2.0, 4.0)):
        first = 1 + 4 * index
        gaps = [0.01 / speed] * 4
        events += batch(RUN_ID, range(first, first + 4), 10.0 * index, ttft=0.1 / speed, gaps=gaps)
    answer = answer_of(events)
    assert answer.generation_tokens_per_s == pytest.approx(4 / 0.005)
    assert answer.prompt_tokens_per_s == pytest.approx(4 * 64 / (0.05 * 0.8))
    rates = [400.0, 800.0, 1600.0]
    wanted = quantiles(rates, n=100, method="inclusive")
    assert median(rates) == pytest.approx(answer.generation_tokens_per_s)
    assert answer.generation_spread == pytest.approx((wanted[83] - wanted[15]) / 2)


def test_requests_that_begin_while_others_are_written_share_one_rate() -> None:
    first = batch(RUN_ID, [1], 0.0, gaps=[0.01, 0.01], ends=False)
    second = batch(RUN_ID, [2], 0.1, gaps=[0.02, 0.02])
    answer = answer_of([started(RUN_ID, 2), *first, *second, done(RUN_ID, 1, 0.0, 0.05, 0.3)])
    assert answer.generation_tokens_per_s == pytest.approx(4 / 0.06)
    assert answer.generation_spread is None


def test_padding_and_cached_tokens_are_told_apart() -> None:
    config = CONFIG.with_values(prefix_cache=True)
    plain = batch(RUN_ID, [1, 2], 0.0, prompt=48, padded=64)
    again = batch(RUN_ID, [3, 4], 1.0, prompt=64, cached=32)
    answer = answer_of([started(RUN_ID, 4), *plain, *again], config)
    assert answer.padding_share == pytest.approx(32 / (128 + 64))
    assert answer.cached_tokens == 64
    assert answer.prompt_tokens == 2 * 48 + 2 * 64


def test_what_memory_answers_costs_no_time_per_token_but_counts_as_a_request() -> None:
    config = CONFIG.with_values(response_cache=True)
    hit = done(RUN_ID, 2, 1.0, 0.0001, 0.0001, new=4, hit="response")
    answer = answer_of([started(RUN_ID, 2), *batch(RUN_ID, [1], 0.0), hit], config)
    assert (answer.n_requests, answer.hits, answer.hit_rate) == (2, 1, 0.5)
    assert answer.new_tokens == 8
    assert answer.tokens_per_forward == 1
    assert answer.tpot is not None
    assert answer.tpot.p50 == pytest.approx(0.02)
    assert answer.ttft is not None
    assert answer.ttft.p50 == pytest.approx((0.05 + 0.0001) / 2)


def test_a_request_that_was_stopped_is_in_all_but_end_to_end() -> None:
    whole, cut = batch(RUN_ID, [1], 0.0), batch(RUN_ID, [2], 1.0, gaps=[0.04], reason="stopped")
    answer = answer_of([started(RUN_ID, 8), *whole, *cut])
    assert (answer.n_requests, answer.planned_requests) == (1, 8)
    assert answer.e2e == answer_of([started(RUN_ID, 8), *whole]).e2e
    assert answer.new_tokens == 4 + 2
    assert answer.tpot is not None
    assert answer.tpot.p50 == pytest.approx((0.02 + 0.04) / 2)


def test_a_process_that_dies_in_the_middle_leaves_what_it_told() -> None:
    answer = answer_of([started(RUN_ID, 8), *batch(RUN_ID, [1], 0.0, gaps=[0.01, 0.02], ends=False)])
    assert answer.ttft is not None
    assert answer.ttft.p50 == 0.05
    assert (answer.n_requests, answer.new_tokens) == (0, 3)
    assert answer.generation_tokens_per_s == pytest.approx(2 / 0.03)
    assert (answer.e2e, answer.requests_per_s) == (None, None)


def test_what_looks_back_at_the_answers_is_in_no_figure_of_memory_or_host() -> None:
    def sample(free: float) -> Sampled:
        host = HostSample(cores=2.0, free_cores=free)
        return Sampled(run_id=RUN_ID, t=1.0, gpu=None, host=host, memory=Memory(used=7000 if free < 1 else 2000))

    compared = TokensCompared(run_id=RUN_ID, n_requests=1, n_tokens=9, n_same=7, promised=False, detail="7 of 9.")
    measured = QualityMeasured(
        run_id=RUN_ID, text_name="held-out", n_tokens=99, agreement=0.9, perplexity=12.0, own_perplexity=11.0
    )
    before = [started(RUN_ID, 1), *batch(RUN_ID, [1], 0.0), sample(2.0), answered(RUN_ID)]
    record = record_of([*before, sample(0.5), compared, measured])
    assert (record.peak_used, record.host_free_cores) == (2000, 2.0)
    assert record.train_runtime_s == record_of(before).train_runtime_s
    assert record.answer is not None
    assert (record.answer.same_tokens, record.answer.compared_tokens) == (7, 9)
    assert (record.answer.agreement, record.answer.perplexity, record.answer.own_perplexity) == (0.9, 12.0, 11.0)


def test_peaks_and_the_time_to_compile() -> None:
    warm = done(RUN_ID, 0, 0.0, 60.0, 61.0, compile_s=59.5)
    high = replace(MEMORY, used=4000, allocated=3500)
    record = record_of([started(RUN_ID, 2), warm, *batch(RUN_ID, [1, 2], 70.0, memory=high)])
    assert (record.peak_used, record.peak_allocated, record.n_parameters, record.threads) == (4000, 3500, 960_000, 2)
    assert record.answer is not None
    assert record.answer.compile_s == 59.5
    assert record.answer.kv_cache == 4096 * (64 + 4) * 2
    assert record.answer.weights == 3_840_000


def test_a_classifier_has_samples_a_second_and_nothing_of_tokens() -> None:
    config = RunConfig(job=ANSWER, task="classification", batch_size=4)
    events = [
        started(RUN_ID, 12),
        *(
            scored(number, t, seconds)
            for number, t, seconds in ((0, 5.0, 5.0), (1, 6.0, 0.5), (2, 7.0, 0.5), (3, 8.0, 1.0))
        ),
    ]
    record = record_of(events, config)
    assert record.train_runtime_s == pytest.approx(2.5)
    assert record.samples_per_s == pytest.approx(12 / 2.5)
    assert record.steady_samples_per_s == pytest.approx(8.0)
    answer = record.answer
    assert answer is not None
    assert (answer.n_requests, answer.ttft, answer.tpot, answer.itl) == (12, None, None, None)
    assert answer.padding_share == pytest.approx(0.25)
    assert prompt_tokens_of(record) == answer.prompt_tokens / 12  # what its texts had, not the most that they could
    assert answer.e2e is not None
    assert answer.e2e.p50 == 0.5


@pytest.mark.parametrize("n_requests", [0, 1, 60])
def test_the_row_of_a_killed_process_the_record_and_a_replay_tell_the_same(tmp_path: Path, n_requests: int) -> None:
    with History(tmp_path / "history.sqlite3") as history:
        run_id = history.writer.begin_run(CONFIG, CPU, 1.0)
        assert run_id == RUN_ID
        events: list[Event] = [MemoryMoment(run_id=run_id, moment="start", memory=Memory(used=10)), *uneven(n_requests)]
        for index, event in enumerate(events):
            history.writer.append(event)
            if index % 37 == 0:  # as twice a second: the row is written while the run goes on
                assert history.writer.flush() is None
        assert history.writer.flush() is None
        row, whole = history.run(run_id), record_of(events)
        assert row is not None
        assert (row.answer, row.train_runtime_s) == (whole.answer, whole.train_runtime_s)
        assert record_of(event for _, event in history.series(run_id)) == whole


def test_a_copy_goes_its_own_way() -> None:
    figures = RunFigures(new_record(RUN_ID, CONFIG, CPU, 1.0)).after([started(RUN_ID, 9), *batch(RUN_ID, [1], 0.0)])
    before = figures.as_record()
    assert figures.after(batch(RUN_ID, [2], 1.0, ends=False)).as_record() != before
    assert figures.as_record() == before


def test_figures_come_back_from_plain_values_and_foreign_ones_do_not_matter() -> None:
    answer = answer_of(uneven(4))
    plain = to_plain(answer)
    assert plain is not None
    assert from_plain(plain) == answer
    assert from_plain({**plain, "ttft": "soon", "agreement": True, "new": 1}) == replace(answer, ttft=None)
    assert from_plain([1]) is None
    assert to_plain(None) is None
