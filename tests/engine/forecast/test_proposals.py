"""What would fit: chosen by where it died, the smallest change first."""

from __future__ import annotations

from collections.abc import Callable

from engine.contract.config import ConfigError, RunConfig
from engine.contract.forecast_types import Forecast
from engine.contract.records import Phase
from engine.forecast.proposals import propose
from tests.tui.app.test_forecast import forecast

LARGE = RunConfig(model="bert-large-uncased", batch_size=8)


def _fits(when: Callable[[RunConfig], bool]) -> Callable[[RunConfig], Forecast]:
    return lambda config: forecast(4000 if when(config) else 9000)


def _labels(config: RunConfig, when: Callable[[RunConfig], bool]) -> list[str]:
    return [proposal.label for proposal in propose(config, Phase.BACKWARD, _fits(when))]


def test_the_largest_batch_comes_first_then_what_keeps_the_effective_one() -> None:
    nine = LARGE.with_values(batch_size=9)
    assert _labels(nine, lambda config: config.batch_size < 9) == [
        "batch 8",
        "batch 3 × accumulation 3",
        "batch 1 × accumulation 9",
        "batch 5 × accumulation 2",
    ]
    assert _labels(LARGE, lambda config: True) == [
        "batch 7",
        "batch 4 × accumulation 2",
        "checkpointing",
        "batch 2 × accumulation 4",
    ]


def test_the_largest_batch_is_the_largest_that_fits() -> None:
    for largest in range(1, 40):
        first, *_ = _labels(LARGE.with_values(batch_size=40), lambda config, n=largest: config.batch_size <= n)
        assert first == f"batch {largest}"
    assert not any(label.startswith("batch") for label in _labels(LARGE.with_values(batch_size=1), lambda config: True))


def test_the_effective_batch_is_kept() -> None:
    largest, *others = propose(LARGE, Phase.FORWARD, _fits(lambda config: config.batch_size <= 2))
    assert largest.config == LARGE.with_values(batch_size=2)
    assert others
    for proposal in others:
        assert proposal.config.effective_batch_size == LARGE.effective_batch_size


def test_what_cannot_accumulate_is_offered_a_smaller_batch_alone() -> None:
    config = LARGE.with_values(optimizer_in_backward=True, max_grad_norm=0.0)
    assert _labels(config, lambda config: config.batch_size <= 3) == ["batch 3"]


def test_the_optimizer_step_asks_for_fused_before_anything_else() -> None:
    config = LARGE.with_values(optimizer_implementation="foreach", batch_size=1)
    first, *_ = propose(config, Phase.OPTIMIZER, _fits(lambda config: True))
    assert first.label == "fused AdamW"
    assert first.config == config.with_values(optimizer_implementation="fused")


def test_fused_is_combined_before_the_batch_is_touched_alone() -> None:
    config = LARGE.with_values(optimizer_implementation="foreach")
    needs_both = _fits(lambda c: c.optimizer_implementation == "fused" and c.gradient_checkpointing == "on")
    first, *_ = propose(config, Phase.OPTIMIZER, needs_both)
    assert first.label == "fused AdamW, checkpointing"


def test_weights_ask_for_a_smaller_model() -> None:
    found = propose(LARGE, Phase.LOAD, _fits(lambda config: config.model != LARGE.model))
    assert found
    assert all(proposal.config.model != LARGE.model for proposal in found)


def test_nothing_that_does_not_fit_is_proposed() -> None:
    assert propose(LARGE, Phase.BACKWARD, _fits(lambda config: False)) == []


def test_what_the_card_cannot_do_is_passed_over() -> None:
    def no_half(config: RunConfig) -> Forecast:
        if config.precision == "bf16":
            raise ConfigError("precision", "no")
        return forecast(4000 if config.precision == "fp16" else 9000)

    found = propose(LARGE, Phase.BACKWARD, no_half)
    assert [proposal.config.precision for proposal in found] == ["fp16"]


def _on(config: RunConfig, *gpus: int) -> list[RunConfig]:
    return [config.with_values(gpus=n, device="cuda") for n in gpus]


def test_more_gpus_are_the_last_proposal_and_keep_the_effective_batch() -> None:
    fits = _fits(lambda config: config.batch_size <= 2)
    *others, last = propose(LARGE, Phase.FORWARD, fits, _on(LARGE, 2, 4))
    assert all(proposal.config.gpus == 1 for proposal in others)
    assert last.label == "4 GPUs, ddp, batch 2 on each"
    assert last.config.effective_batch_size == LARGE.effective_batch_size
    assert last.config.device == "cuda"


def test_where_the_batch_cannot_be_divided_the_weights_are() -> None:
    one = LARGE.with_values(batch_size=1)
    (last,) = propose(one, Phase.OPTIMIZER, _fits(lambda config: config.parallel == "fsdp"), _on(one, 2, 4))
    assert last.label == "2 GPUs, fsdp, batch 1 on each"


def test_on_the_same_gpus_less_on_each_comes_before_more_of_them() -> None:
    two = LARGE.with_values(gpus=2, device="cuda")
    *_, last = propose(two, Phase.OPTIMIZER, _fits(lambda config: config.parallel != "ddp"), _on(two, 4))
    assert (last.label, last.config.gpus) == ("zero1", 2)
    sharded = two.with_values(parallel="fsdp")
    *_, last = propose(sharded, Phase.FORWARD, _fits(lambda config: config.batch_size <= 4), _on(sharded, 4))
    assert last.label == "4 GPUs, ddp, batch 4 on each"


def test_without_other_gpus_nothing_is_left_to_them() -> None:
    assert len(propose(LARGE, Phase.FORWARD, _fits(lambda config: True))) == 4
