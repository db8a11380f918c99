"""The forecast: exact where arithmetic is exact, affine in the batch, a clear sentence where it cannot be made."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from engine.contract.config import ConfigError, RunConfig
from engine.contract.forecast_types import BREAKDOWN, Forecast, ForecastError
from engine.forecast import replay
from engine.forecast.forecast import Assumptions, Forecaster
from engine.forecast.prepare import build_on_meta
from engine.forecast.recording import Names, Recording, Script
from engine.forecast.sizes import NotAlikeError, Sizes
from engine.forecast.step import StepPlan, record_scoring, record_step
from engine.forecast.traces import Family, Traces
from engine.forecast.work import Work
from engine.gpus.catalogue import find
from engine.gpus.units import MIB
from engine.tracing.stack import CURRENT
from engine.training.hub import Hub
from engine.training.models import resolve
from engine.workloads.data_shape import BatchShape
from engine.workloads.kinds.dummy import dummy_shape
from tests.engine.make_reviews import write_reviews
from tests.engine.model_folders import FAMILIES, model_folder

P4 = find("tesla-p4")
TASKS = {"bert": ("classification",), "t5": ("seq2seq-lm",)}
SMALL = RunConfig(model="bert-tiny", batch_size=4, seq_len=64, samples=32)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def forecaster() -> Forecaster:
    return Forecaster()


def _of_family(tmp_path: Path, family: str, task: str) -> RunConfig:
    attention = "eager" if family == "gpt-neo" else "sdpa"
    return SMALL.with_values(model=model_folder(tmp_path, family), task=task, attention=attention)


def _meta_model(config: RunConfig) -> torch.nn.Module:
    return build_on_meta(resolve(config.model, Hub()), config, CURRENT, n_labels=2, vocab_size=None)


def _plan(config: RunConfig, model: torch.nn.Module, gpu: str = "tesla-p4") -> StepPlan:
    return StepPlan(config=config, model=model, gpu=find(gpu), stack=CURRENT, fields=dummy_shape(config).fields)


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_gradients_and_optimizer_are_the_parameter_arithmetic(
    tmp_path: Path, forecaster: Forecaster, family: str
) -> None:
    for task in TASKS.get(family, ("classification", "causal-lm")):
        config = _of_family(tmp_path, family, task).with_values(optimizer_implementation="loop")
        model = _meta_model(config)
        parameters = [p.numel() * 4 for p in model.parameters()]  # a tied weight is one parameter
        buffers = [b.nbytes for b in model.buffers()]
        recording = record_step(_plan(config, model), BatchShape(2, 64, False))
        held = dict.fromkeys(recording.categories, 0)
        for size, category in zip(recording.sizes, recording.categories, strict=True):
            held[category] += size
        assert held["weights"] == sum(parameters) + sum(buffers)
        assert held["optimizer"] == 2 * sum(parameters)
        assert held["gradients"] == 2 * sum(parameters)  # of two updates
        assert forecaster.forecast(config, P4).n_parameters == sum(parameters) // 4


@pytest.mark.parametrize("family", FAMILIES)
def test_activations_grow_affinely_with_the_batch(tmp_path: Path, forecaster: Forecaster, family: str) -> None:
    config = _of_family(tmp_path, family, TASKS.get(family, ("causal-lm",))[0])
    sizes = [2, 4, 6, 8, 10]
    held = [forecaster.forecast(config.with_values(batch_size=b, samples=64), P4).peak_allocated for b in sizes]
    growth = [after - before for before, after in pairwise(held)]
    assert min(growth) > 0
    assert max(growth) - min(growth) <= 512 * 4000  # rounding of some thousand tensors to 512 bytes


@pytest.mark.parametrize("family", ["bert", "llama", "moe"])
@pytest.mark.parametrize("batch_size", [2, 5, 8])
def test_two_batch_sizes_foretell_the_others(tmp_path: Path, family: str, batch_size: int) -> None:
    config = _of_family(tmp_path, family, "classification")
    plan = _plan(config, _meta_model(config), "a100-40gb")

    def traced_at(samples: int) -> Recording:
        return record_step(plan, BatchShape(samples, 64, False), accumulates=True)

    told, traced = Sizes({(n, 64, 0): traced_at(n) for n in (2, 3)}).at(batch_size, 64, 0), traced_at(batch_size)
    assert told.events == traced.events
    assert told.sizes == traced.sizes
    assert told.categories == traced.categories


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("bert", {"task": "classification"}),
        ("bert", {"task": "classification", "attention": "eager", "gradient_checkpointing": "on"}),
        ("gpt2", {"precision": "fp16"}),
        ("llama", {"precision": "bf16"}),
    ],
)
def test_three_lengths_foretell_the_others(tmp_path: Path, family: str, changes: dict[str, str]) -> None:
    config = SMALL.with_values(model=model_folder(tmp_path, family), **{"task": "causal-lm", **changes})
    plan = _plan(config, _meta_model(config), "a100-40gb")
    plan = replace(plan, fields=(("attention_mask", True), *plan.fields))
    anchors = [(2, 160), (3, 160), (2, 80), (2, 41)]
    for record in (record_step, record_scoring):
        sizes = Sizes({(*point, 0): record(plan, BatchShape(*point, True)) for point in anchors})
        for samples, length in ((2, 16), (7, 57), (4, 129)):
            told, traced = sizes.at(samples, length, 0), record(plan, BatchShape(samples, length, True))
            assert (told.events, told.marks) == (traced.events, traced.marks)
            assert told.sizes == traced.sizes


def test_lengths_that_are_computed_in_other_ways_are_not_foretold(tmp_path: Path) -> None:
    """T5's bias of the positions is padded where rows are not aligned."""
    config = SMALL.with_values(model=model_folder(tmp_path, "t5"), task="seq2seq-lm")
    plan = _plan(config, _meta_model(config))
    with pytest.raises(NotAlikeError):
        Sizes({(n, w, 0): record_step(plan, BatchShape(n, w, False)) for n, w in [(2, 64), (3, 64), (2, 32), (2, 17)]})
    traces = Traces(plan)
    batches = [BatchShape(4, width, False) for width in (17, 30, 64)]
    traces.expect(batches, [], accumulates=False)
    for batch in batches:
        assert traces.step(batch, accumulates=False).sizes == record_step(plan, batch).sizes


def test_six_pairs_of_lengths_foretell_the_others(tmp_path: Path) -> None:
    """What a model reads and what it writes, each with its own length."""
    folder = tmp_path / "bart"
    folder.mkdir()
    sizes = {"d_model": 64, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128}
    heads = {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "max_position_embeddings": 256}
    (folder / "config.json").write_text(json.dumps({"model_type": "bart", "vocab_size": 1000, **sizes, **heads}))
    config = SMALL.with_values(model=str(folder), task="seq2seq-lm", seq_len=160, target_len=96)
    plan = _plan(config, _meta_model(config), "a100-40gb")
    n_traced = 0

    def record(shape: BatchShape) -> Recording:
        nonlocal n_traced
        n_traced += 1
        return record_step(plan, shape)

    family = Family(record, (160, 96))
    shapes = [BatchShape(n, w, False, t) for n, w, t in ((4, 16, 9), (7, 57, 80), (4, 129, 3), (4, 57, 41))]
    family.expect(shapes)
    for shape in shapes:
        told, traced = family.at(shape, alone=False), record_step(plan, shape)
        assert (told.events, told.marks) == (traced.events, traced.marks)
        assert told.sizes == traced.sizes
    assert n_traced == 7


def test_lengths_with_copies_of_their_own_are_told_and_traced_where_they_decide_the_peak(tmp_path: Path) -> None:
    config = SMALL.with_values(model=model_folder(tmp_path, "t5"), task="seq2seq-lm", target_len=40)
    plan = _plan(config, _meta_model(config))
    traces = Traces(plan)
    batches = [BatchShape(4, width, False, 70 - width) for width in range(17, 64, 8)]
    traces.expect(batches, [], accumulates=False)
    for batch in batches[::2]:
        assert traces.step(batch, accumulates=False).sizes == record_step(plan, batch).sizes
    smaller = BatchShape(4, 17, False, 20)
    assert traces.step(smaller, accumulates=False).sizes == record_step(plan, smaller).sizes
    aligned = BatchShape(4, 16, False, 20)  # told with a copy of the trained bias, which such rows do without
    told, real = sum(traces.step(aligned, accumulates=False).sizes), sum(record_step(plan, aligned).sizes)
    assert real < told < 1.01 * real


def test_recordings_that_differ_in_more_than_sizes_are_not_mixed() -> None:
    one, two = Recording(), Recording()
    one.allocate(10, "weights")
    two.allocate(10, "weights")
    two.free(0)
    with pytest.raises(NotAlikeError):
        Sizes({(2, 8, 0): one, (3, 8, 0): two})


def test_parts_can_be_played_again() -> None:
    """The batch of a micro-step dies in the next one: named by its place, not by its number."""
    plan = _plan(SMALL, _meta_model(SMALL))
    script = Script(record_step(plan, BatchShape(2, 64, False), accumulates=True), Names())
    assert set(script.parts) == {"load", "first", "next", "step", "again", "step again", "leave"}
    births = {
        part: [
            script.keys[e]
            for s in script.parts[part]
            if s.phase.value == "data"
            for e in script.events[s.start : s.end]
            if e >= 0
        ]
        for part in ("first", "next", "again")
    }
    assert births["first"] == births["next"] == births["again"]


def test_the_parts_of_used_memory_sum_to_it(forecaster: Forecaster) -> None:
    forecast = forecaster.forecast(SMALL, P4)
    assert tuple(forecast.breakdown) == BREAKDOWN
    assert sum(forecast.breakdown.values()) == forecast.peak_used
    assert min(forecast.breakdown.values()) >= 0
    assert forecast.peak_allocated <= forecast.peak_reserved < forecast.peak_used
    assert forecast.breakdown["context"] == P4.context_bytes


def test_mfu_leaves_recomputation_out(forecaster: Forecaster) -> None:
    plain = forecaster.forecast(SMALL, P4)
    again = forecaster.forecast(SMALL.with_values(gradient_checkpointing="on"), P4)
    assert again.flops_per_sample > plain.flops_per_sample
    assert again.model_flops_per_sample == pytest.approx(plain.model_flops_per_sample, rel=0.02)
    assert plain.model_flops_per_sample == pytest.approx(plain.flops_per_sample, rel=0.02)


def test_the_timeline_is_one_update(forecaster: Forecaster) -> None:
    forecast = forecaster.forecast(SMALL, P4)
    phases = [point.phase for point in forecast.timeline]
    assert list(dict.fromkeys(phases)) == ["data", "forward", "backward", "clip", "optimizer"]
    assert 20 <= len(phases) <= 201
    assert max(point.allocated for point in forecast.timeline) == forecast.peak_allocated
    assert all(sum(point.by_category.values()) == point.allocated for point in forecast.timeline)


def test_the_json_fields_are_stable(forecaster: Forecaster) -> None:
    told = json.loads(json.dumps(forecaster.forecast(SMALL, P4).to_json()))
    assert list(told) == [
        "gpu",
        "vram_total_mib",
        "verdict",
        "near_limit",
        "peak_used_mib",
        "peak_reserved_mib",
        "peak_allocated_mib",
        "breakdown_mib",
        "failing_phase",
        "samples_per_s",
        "flops_per_sample",
        "forecast_s",
        "failing_request_mib",
        "failing_free_mib",
        "limit_mib",
        "used_range_mib",
        "n_parameters",
        "gpus",
        "parallel",
        "peak_used_mib_by_gpu",
        "wait_share",
        "speedup",
        "notes",
    ]
    assert told["vram_total_mib"] == 7611
    assert list(told["breakdown_mib"]) == list(BREAKDOWN)


def _limited(forecaster: Forecaster, mib: float) -> Forecast:
    return forecaster.forecast(SMALL, P4, Assumptions(limit_bytes=int(mib * MIB)))


def test_the_verdict_follows_the_limit(forecaster: Forecaster) -> None:
    needed = forecaster.forecast(SMALL, P4).peak_used / MIB
    assert _limited(forecaster, needed).fits
    assert _limited(forecaster, needed).near_limit
    assert not _limited(forecaster, needed * 1.1).near_limit
    short = _limited(forecaster, needed - 30)
    assert not short.fits
    assert short.failing_phase in ("forward", "backward", "optimizer")
    assert short.peak_used == needed * MIB  # what it would need with no limit
    assert _limited(forecaster, 540).failing_phase == "load"
    assert _limited(forecaster, 10).failing_phase == "load"
    assert not forecaster.forecast(SMALL.with_values(vram_limit=540), P4).fits


def test_context_and_libraries_can_be_given(forecaster: Forecaster) -> None:
    plain = forecaster.forecast(SMALL, P4)
    given = forecaster.forecast(SMALL, P4, Assumptions(context_bytes=100 * MIB, library_bytes=50 * MIB))
    assert given.peak_reserved == plain.peak_reserved
    assert given.peak_used == plain.peak_reserved + 150 * MIB
    assert any("measured on another such card" in note for note in plain.notes)
    assert any("not measured" in note for note in forecaster.forecast(SMALL, find("tesla-t4")).notes)
    assert not any("measured" in note for note in given.notes)


def test_techniques_save_what_they_promise(forecaster: Forecaster) -> None:
    config = SMALL.with_values(model="bert-mini", batch_size=16, seq_len=256, samples=64)

    def allocated(**changes: str | int | float | bool) -> int:
        return forecaster.forecast(config.with_values(**changes), find("tesla-t4")).peak_allocated

    plain = allocated()
    assert allocated(gradient_checkpointing="on") < allocated(gradient_checkpointing="every-second") < plain
    assert allocated(precision="fp16") < plain < allocated(attention="eager")
    assert allocated(batch_size=8, gradient_accumulation_steps=2) < plain
    assert allocated(lora_rank=4) < plain
    assert allocated(optimizer="sgd") < plain


def test_a_window_longer_than_the_epoch_is_one_update(forecaster: Forecaster) -> None:
    """Then no micro-step ever runs beside the optimizer's state."""
    one = forecaster.forecast(SMALL.with_values(batch_size=16, gradient_accumulation_steps=64, samples=64), P4)
    two = forecaster.forecast(
        SMALL.with_values(batch_size=16, gradient_accumulation_steps=64, samples=64, epochs=2), P4
    )
    assert one.peak_allocated < two.peak_allocated


def test_padding_is_forecast_from_the_data(tmp_path: Path, forecaster: Forecaster) -> None:
    data = write_reviews(tmp_path / "a.csv", 120)
    config = SMALL.with_values(workload="reviews", data=str(data), samples=64, seq_len=128, batch_size=8)
    longest, bucketed, full = (
        forecaster.forecast(config.with_values(padding=padding), P4)
        for padding in ("longest", "bucketed", "max_length")
    )
    assert full.tokens_per_sample == 128
    assert (bucketed.tokens_per_sample or 0) < (longest.tokens_per_sample or 0) < 128
    assert longest.peak_allocated < full.peak_allocated
    assert (longest.samples_per_s or 0) > (full.samples_per_s or 0)
    assert longest.flops_per_sample < full.flops_per_sample
    assert any(note.startswith("Read from the data: 64 samples of") for note in longest.notes)


def test_the_vocabulary_is_the_one_that_the_run_trains(tmp_path: Path, forecaster: Forecaster) -> None:
    data = write_reviews(tmp_path / "a.csv", 120)
    drawn = forecaster.forecast(SMALL, P4)
    read = forecaster.forecast(SMALL.with_values(workload="reviews", data=str(data)), P4)
    assert drawn.n_parameters - read.n_parameters > 29_000 * 128  # of bert-tiny's 30,522 words


def test_what_is_not_known_of_the_data_is_assumed_and_said(forecaster: Forecaster) -> None:
    told = forecaster.forecast(SMALL.with_values(workload="reviews", data="yelp_review_full"), P4)
    assert any(
        note.startswith("Assumed of the data (it is on the hub, and no run has read it yet)") for note in told.notes
    )


def test_a_tokenizer_that_a_run_would_fetch_is_not_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub()
    monkeypatch.setattr(hub, "reachable", lambda: True)
    told = Forecaster(hub).forecast(SMALL.with_values(workload="reviews"), P4)
    assert any(note.startswith("Assumed of the data (its tokenizer is not here yet)") for note in told.notes)
    assert told.n_parameters == Forecaster(hub).forecast(SMALL, P4).n_parameters + 3 * 129  # five classes


def test_the_work_of_other_lengths_is_foretold(tmp_path: Path) -> None:
    config = _of_family(tmp_path, "bert", "classification").with_values(seq_len=200)
    plan = _plan(config, _meta_model(config))
    traces, told = Traces(plan), Work()
    traces.expect([BatchShape(6, width, False) for width in (50, 57)], [], accumulates=False)
    traces.step(BatchShape(6, 57, False), accumulates=False)
    record_step(plan, BatchShape(6, 57, False), work=told)
    for name in ("flops", "forward_flops", "n_bytes", "step_bytes"):
        assert getattr(traces.work(6, 57, 0), name) == pytest.approx(getattr(told, name), rel=0.02)


def test_a_long_run_is_followed_in_part_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    config = SMALL.with_values(workload="reviews", samples=200, eval_samples=40)
    whole = Forecaster().forecast(config, P4)
    monkeypatch.setattr(replay, "MOST_EVENTS", 3_000)
    part = Forecaster().forecast(config, P4)
    assert any("only the largest were followed" in note for note in part.notes)
    assert not any("only the largest were followed" in note for note in whole.notes)
    assert part.peak_allocated == pytest.approx(whole.peak_allocated, rel=0.01)


@pytest.mark.parametrize(
    ("changes", "knob"),
    [({"precision": "bf16"}, "precision"), ({"seq_len": 1024}, "seq_len"), ({"task": "seq2seq-lm"}, "task")],
)
def test_what_a_run_would_refuse_is_refused(forecaster: Forecaster, changes: dict[str, str | int], knob: str) -> None:
    with pytest.raises(ConfigError) as refused:
        forecaster.forecast(SMALL.with_values(**changes), P4)
    assert refused.value.knob == knob


def test_what_depends_on_values_is_a_sentence_and_never_a_number(tmp_path: Path, forecaster: Forecaster) -> None:
    config = SMALL.with_values(model=model_folder(tmp_path, "t5"))  # its classifier looks for the end of every text
    with pytest.raises(ForecastError, match=r"cannot be traced without a GPU .* run it to measure"):
        forecaster.forecast(config, P4)


def test_lora_on_experts_is_said_to_be_what_cannot_be_traced(forecaster: Forecaster) -> None:
    config = SMALL.with_values(model="moe-tiny", task="causal-lm", lora_rank=4, lora_targets="all-linear")
    with pytest.raises(ForecastError, match=r"moe-tiny cannot be traced without a GPU \(LoRA computes the weights of"):
        forecaster.forecast(config, P4)


def test_an_unknown_stack_is_refused(forecaster: Forecaster) -> None:
    with pytest.raises(ConfigError, match="use current, 2023-2024, lecture-2023, 2022 or 2020-2021"):
        forecaster.forecast(SMALL, P4, Assumptions(stack="lecture-2024"))


def test_a_knob_that_changes_nothing_is_told(forecaster: Forecaster) -> None:
    made = forecaster.forecast(SMALL.with_values(lora_alpha=8), P4)
    assert "--lora-alpha changes nothing without --lora-rank." in made.notes


def test_a_changed_config_json_is_read_again(tmp_path: Path, forecaster: Forecaster) -> None:
    folder = model_folder(tmp_path, "bert")
    small = forecaster.forecast(SMALL.with_values(model=folder), P4).n_parameters
    settings = json.loads((Path(folder) / "config.json").read_text())
    (Path(folder) / "config.json").write_text(json.dumps({**settings, "num_hidden_layers": 4}))
    assert forecaster.forecast(SMALL.with_values(model=folder), P4).n_parameters > small


def test_no_more_traces_are_kept_than_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.forecast.forecast.MOST_KEPT", 2)
    forecaster, p4 = Forecaster(), find("tesla-p4")
    configs = [RunConfig(model=model, seq_len=32) for model in ("bert-tiny", "gpt2-tiny", "moe-tiny")]
    first = [forecaster.forecast(config, p4).peak_used for config in configs]
    assert len(forecaster._traces) == len(forecaster._sources) == 2
    again = [forecaster.forecast(config, p4).peak_used for config in configs]
    assert again == first
    assert len(forecaster._traces) == len(forecaster._sources) == 2
