"""What ranks tell each other, and that they stop as one."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.contract.config import ConfigError
from engine.contract.knob import Value
from engine.contract.records import Memory, Outcome, RankShare, Shares
from engine.techniques.parallel.exchange import row_of, share_of, whole_of
from tests.engine.techniques.parallel import cases
from tests.engine.techniques.parallel.cases import Told
from tests.engine.techniques.parallel.ranks import Ranks
from tests.engine.techniques.parallel.small_runs import WAYS, configured

SHARE = RankShare(
    rank=1,
    n_samples=8,
    n_tokens=4096,
    update_s=0.5,
    shares=Shares(data=0.1, forward=0.1, backward=0.1, optimizer=0.1, waiting=0.1),
    memory=Memory(used=2**40 + 1, peak_used=7, by_category={"weights": 5, "gradients": 0}),
)


def test_a_share_survives_the_way() -> None:
    assert share_of(1, row_of(SHARE)) == SHARE


def test_what_all_ranks_make_one() -> None:
    other = RankShare(
        rank=0, n_samples=6, n_tokens=1, update_s=0.75, shares=Shares(waiting=0.3), memory=Memory(peak_used=9)
    )
    whole = whole_of((other, SHARE), 0)
    assert (whole.n_samples, whole.n_tokens, whole.update_s) == (14, 4097, 0.75)
    assert whole.memory == other.memory
    assert whole.shares.waiting == pytest.approx(0.2)


@pytest.mark.parametrize("way", WAYS)
def test_all_stop_at_the_update_at_which_one_was_asked_to(two: Ranks, tmp_path: Path, way: str) -> None:
    config = configured(tmp_path, "bert", parallel=way, gradient_accumulation_steps=2, samples=40)
    both: list[Told] = two.each(cases.train, config, (1, 2))
    assert [told.outcome for told in both] == [Outcome.STOPPED] * 2
    assert len(both[0].updates) == len(both[1].updates) < both[0].began.planned_updates


@pytest.mark.parametrize("way", WAYS)
def test_waits_are_told_and_shares_sum_to_the_update(two: Ranks, tmp_path: Path, way: str) -> None:
    config = configured(tmp_path, "llama", parallel=way)
    both: list[Told] = two.each(cases.train, config)
    for told in both:
        for update in told.updates:
            assert [share.rank for share in update.ranks] == [0, 1]
            for share in update.ranks:
                parts = share.shares
                summed = parts.data + parts.forward + parts.backward + parts.optimizer + parts.waiting
                assert summed == pytest.approx(share.update_s, rel=1e-6)
                assert parts.waiting > 0
    first, second = both
    assert [update.ranks for update in first.updates] == [update.ranks for update in second.updates]
    assert first.losses == second.losses


def test_a_loss_that_is_nan_in_one_rank_ends_all(two: Ranks, tmp_path: Path) -> None:
    config = configured(tmp_path, "bert", non_finite_loss="stop")
    both: list[Told] = two.each(cases.train_with_nan, config, 1)
    for told in both:
        assert told.outcome is Outcome.FAILED
        assert "The loss is nan in update 1" in (told.message or "")
        assert len(told.losses) == 1


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"optimizer": "adafactor"}, "--optimizer adamw"),
        ({"optimizer": "paged-adamw-8bit"}, "--optimizer adamw"),
        ({"optimizer": "sgd"}, "--optimizer-implementation foreach"),
        ({"torch_compile": True}, "--torch-compile off"),
    ],
)
def test_what_fsdp_cannot_do_is_refused(tmp_path: Path, knobs: dict[str, Value], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        configured(tmp_path, "llama", parallel="fsdp", **knobs)


def test_weights_of_several_types_are_refused_with_zero1(two: Ranks, tmp_path: Path) -> None:
    config = configured(tmp_path, "bert", parallel="zero1", lora_rank=4, weights="bf16")
    for said in two.each(cases.refusal, config):
        assert "bfloat16 and float32" in said
        assert "--parallel ddp" in said
