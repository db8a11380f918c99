"""What belongs to the whole process, touched by two real threads whose steps are put in order by events."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (as everywhere in the field)
from transformers import BertConfig, BertForSequenceClassification

from engine.contract.config import RunConfig
from engine.forecast.forecast import Forecaster
from engine.gpus.catalogue import find
from engine.process import gate
from engine.tracing.kernels import AttentionCall
from engine.training import models
from engine.training.hub import Hub
from tests.engine.model_folders import model_folder
from tests.engine.threads import Other

PATIENCE_S = 60.0


@pytest.fixture
def other() -> Iterator[Other]:
    with Other() as thread:
        yield thread


def _kernels() -> tuple[bool, ...]:
    """flash, math, memory-efficient, cuDNN: allowed or not."""
    names = ("flash_sdp_enabled", "math_sdp_enabled", "mem_efficient_sdp_enabled", "cudnn_sdp_enabled")
    return tuple(getattr(torch.backends.cuda, name)() for name in names)


def _tf32() -> tuple[bool, bool]:
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


def _stance() -> str:
    from torch._dynamo import eval_frame

    return str(eval_frame._stance.stance)


@pytest.mark.parametrize(
    ("hold", "hold_another", "read"),
    [
        (lambda: gate.attention_kernels("FLASH_ATTENTION"), lambda: gate.attention_kernels("MATH"), _kernels),
        (lambda: gate.threads(1), lambda: gate.threads(3), torch.get_num_threads),
        (lambda: gate.tf32(True), lambda: gate.tf32(False), _tf32),
        (lambda: gate.compiling("force_eager"), lambda: gate.compiling("default"), _stance),
    ],
    ids=["attention", "threads", "tf32", "compiling"],
)
def test_the_second_thread_waits_for_the_first_and_all_is_put_back(
    hold: Callable[[], AbstractContextManager[None]],
    hold_another: Callable[[], AbstractContextManager[None]],
    read: Callable[[], Any],
    other: Other,
) -> None:
    """In, in, out, out: each would put back what it found, so the second must not come in before the first is out."""
    before = read()
    seen: list[Any] = []
    with hold():
        first = read()

        def second() -> None:
            with hold_another():
                seen.append(read())

        asked = other.does(second)
        other.waits_at_the_gate(asked)
        assert read() == first
        assert not seen
    asked.result(PATIENCE_S)
    with hold_another():
        assert seen == [read()]
    assert seen != [first]
    assert read() == before


def test_a_forecast_takes_its_attention_kernel_without_the_switches(other: Other, tmp_path: Path) -> None:
    """Grouped queries in fp32 have the math kernel alone, while a training beside allows flash alone."""
    grouped = RunConfig(model=model_folder(tmp_path, "llama"), task="causal-lm", seq_len=16, device="virtual:tesla-p4")
    during: list[tuple[bool, ...]] = []
    kept = AttentionCall.compute_by_products

    def watched(self: AttentionCall, *inputs: Any) -> torch.Tensor:
        during.append(_kernels())
        return kept(self, *inputs)

    before = _kernels()
    with pytest.MonkeyPatch.context() as patch, gate.attention_kernels("FLASH_ATTENTION"):
        patch.setattr(AttentionCall, "compute_by_products", watched)
        made = other.does(lambda: Forecaster().forecast(grouped, find("tesla-p4"))).result(PATIENCE_S)
    assert set(during) == {(True, False, False, False)}
    assert _kernels() == before
    assert made.peak_allocated == Forecaster().forecast(grouped, find("tesla-p4")).peak_allocated


@pytest.mark.parametrize("kind", ["no mask", "bool", "float"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("grouped", [False, True])
def test_the_math_kernel_is_the_one_that_the_switch_chooses(kind: str, dtype: torch.dtype, grouped: bool) -> None:
    torch.manual_seed(4)
    query = torch.randn(2, 4, 10, 8, dtype=dtype)
    key, value = (torch.randn(2, 2 if grouped else 4, 10, 8, dtype=dtype) for _ in range(2))
    mask = {
        "no mask": None,
        "bool": torch.ones(2, 1, 10, 10, dtype=torch.bool).tril(),
        "float": torch.randn(2, 1, 10, 10, dtype=dtype),
    }[kind]
    call = AttentionCall(kernel="math", dropout_p=0.1, is_causal=mask is None, scale=None, enable_gqa=grouped)
    torch.manual_seed(5)
    ours = call.compute_by_products(query, key, value, mask)
    torch.manual_seed(5)
    with gate.attention_kernels("MATH"):
        theirs = F.scaled_dot_product_attention(
            query, key, value, mask, dropout_p=0.1, is_causal=mask is None, enable_gqa=grouped
        )
    assert torch.equal(ours, theirs)


def test_a_forecast_waits_while_a_training_reads_its_weights(other: Other, tmp_path: Path) -> None:
    """Meanwhile transformers ties no weights: a model built then would have more, and its trace would be kept."""
    config = BertConfig(vocab_size=1000, hidden_size=64, num_hidden_layers=2, num_attention_heads=4)
    torch.manual_seed(6)
    BertForSequenceClassification(config).save_pretrained(tmp_path / "weights")
    tied = RunConfig(
        model=model_folder(tmp_path, "gpt2"), task="causal-lm", seq_len=16, batch_size=2, device="virtual:tesla-p4"
    )
    alone = Forecaster().forecast(tied, find("tesla-p4"))
    source = models.resolve(str(tmp_path / "weights"), Hub())
    training = RunConfig(model=str(tmp_path / "weights"), seq_len=16, device="cpu")
    beside: list[Any] = []
    kept = BertForSequenceClassification.__init__

    def in_the_midst(self: Any, *arguments: Any, **more: Any) -> None:
        asked = other.does(lambda: Forecaster().forecast(tied, find("tesla-p4")))
        other.waits_at_the_gate(asked)  # transformers' patches are on
        beside.append(asked)
        kept(self, *arguments, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BertForSequenceClassification, "__init__", in_the_midst)
        built = models.build(source, models.shape(source, training, n_labels=2, vocab_size=None), training)
    made = beside[0].result(PATIENCE_S)
    assert made.n_parameters == alone.n_parameters
    assert made.breakdown == alone.breakdown
    assert all(not parameter.is_meta for parameter in built.parameters())


def test_datasets_are_quiet_until_the_last_thread_is_out(other: Other) -> None:
    import datasets

    before = datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()
    inside, go_on = threading.Event(), threading.Event()

    def work() -> None:
        with gate.quiet_datasets():
            inside.set()
            assert go_on.wait(PATIENCE_S)
            assert datasets.are_progress_bars_disabled()

    with gate.quiet_datasets():
        quiet = datasets.logging.get_verbosity()
        asked = other.does(work)
        assert inside.wait(PATIENCE_S)
    assert datasets.are_progress_bars_disabled()
    assert datasets.logging.get_verbosity() == quiet
    go_on.set()
    asked.result(PATIENCE_S)
    assert (datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()) == before
