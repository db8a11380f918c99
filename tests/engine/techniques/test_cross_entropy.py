"""A loss without logits is the loss with them, and so are its gradients; what cannot be so is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (as everywhere in the field)
from torch.utils._python_dispatch import TorchDispatchMode

from engine.contract.config import ConfigError, RunConfig
from engine.devices.precision import Precision
from engine.techniques import checkpointing, cross_entropy, lora
from engine.tracing.losses import chunk_size
from engine.training.trainer import micro_step
from tests.engine.language_models import MAKERS, VOCABULARY, batch, make, task_of

pytestmark = pytest.mark.skipif(not hasattr(F, "linear_cross_entropy"), reason="PyTorch before 2.13")


def _config(kind: str, **more: Any) -> RunConfig:
    return RunConfig(device="cpu", task=task_of(kind), **more)


def _trained(kind: str, config: RunConfig, **step: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss of one micro-step and its gradients."""
    model: Any = make(kind)
    torch.manual_seed(9)
    model = lora.apply(model, config)
    checkpointing.apply(model, config)
    cross_entropy.apply(model, config)
    torch.manual_seed(3)
    loss = micro_step(model, {**batch(), **step}, Precision(config.precision, "cpu"), 1, lambda phase: None)
    return loss, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def _assert_same(kind: str, tolerance: dict[str, float], config: RunConfig, **step: Any) -> None:
    loss, gradients = _trained(kind, config, **step)
    plain, expected = _trained(kind, config.with_values(cross_entropy="plain"), **step)
    torch.testing.assert_close(loss, plain, **tolerance)
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], **tolerance, msg=lambda text, name=name: f"{name}: {text}")


EXACT = {"rtol": 1e-4, "atol": 1e-6}
ROUNDED = {"rtol": 0.05, "atol": 2e-3}


@pytest.mark.parametrize("kind", MAKERS)
def test_loss_and_gradients_are_those_of_the_plain_one(kind: str) -> None:
    _assert_same(kind, EXACT, _config(kind, cross_entropy="chunked"))


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gemma2", "t5"])
@pytest.mark.parametrize("checkpointed", ["on", "selective"])
def test_with_checkpointing_and_lora(kind: str, checkpointed: str) -> None:
    _assert_same(kind, EXACT, _config(kind, cross_entropy="chunked", gradient_checkpointing=checkpointed, lora_rank=4))


@pytest.mark.parametrize("kind", ["bert", "llama", "gemma2", "t5"])
def test_in_autocast(kind: str) -> None:
    _assert_same(kind, ROUNDED, _config(kind, cross_entropy="chunked", precision="bf16"))


@pytest.mark.parametrize("kind", ["gpt2", "llama", "mixtral"])
def test_divided_by_the_labels_of_a_window(kind: str) -> None:
    config = _config(kind, cross_entropy="chunked")
    _assert_same(kind, EXACT, config, num_items_in_batch=torch.tensor(77))


class _Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The most elements that any operator's result had."""

    n = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.n = max(self.n, tensor.numel())
        return result


@pytest.mark.parametrize("kind", ["bert", "llama", "gemma2", "t5"])
@pytest.mark.parametrize("training", [True, False])
def test_the_logits_are_never_there(kind: str, training: bool) -> None:
    def largest(how: str) -> int:
        model = make(kind)
        cross_entropy.apply(model, _config(kind, cross_entropy=how))
        with _Largest() as seen, torch.set_grad_enabled(training):  # type: ignore[no-untyped-call]
            loss = model(**batch(samples=32)).loss
            if training:
                loss.backward()
        return seen.n

    assert largest("plain") >= 32 * 16 * VOCABULARY
    assert largest("chunked") < 32 * 16 * VOCABULARY


def test_a_chunk_is_as_large_as_pytorchs() -> None:
    for rows, features, classes in ((8192, 4096, 128256), (513, 768, 30522), (7, 64, 32)):
        for halved, method in ((False, "aspect_ratio"), (True, "aspect_ratio:2")):
            options = torch.nn.LinearCrossEntropyOptions(chunking_method=method)
            adjusted = options._adjust(rows, features, classes, torch.float32)
            assert chunk_size(rows, classes, features, halved=halved) == adjusted.batch_chunk_size


def test_all_labels_ignored_is_nan_as_in_torch() -> None:
    model = make("llama")
    cross_entropy.apply(model, _config("llama", cross_entropy="chunked"))
    tokens = batch() | {"labels": torch.full((3, 16), -100)}
    assert torch.isnan(model(**tokens).loss)


def test_a_head_that_is_no_plain_linear_layer_is_refused() -> None:
    model: Any = make("llama")
    model.lm_head = torch.nn.Sequential(model.lm_head)
    with pytest.raises(ConfigError, match="has a Sequential: use --cross-entropy plain"):
        cross_entropy.apply(model, _config("llama", cross_entropy="chunked"))


def test_what_a_model_does_with_its_logits_is_refused_where_it_is_not_known() -> None:
    model: Any = make("llama")
    cross_entropy.apply(model, _config("llama", cross_entropy="chunked"))
    model.loss_function = lambda logits, labels, **more: logits.softmax(-1).sum()
    with pytest.raises(ConfigError, match="does not know softmax of logits"):
        model(**batch())
    model.loss_function = lambda logits, labels, **more: torch.ones(())
    with pytest.raises(ConfigError, match="finds no loss"):
        model(**batch())


@pytest.mark.parametrize(
    ("changes", "fix"),
    [
        ({"task": "classification"}, "small head: use --cross-entropy plain"),
        ({"task": "causal-lm", "torch_compile": True}, "--torch-compile off"),
    ],
)
def test_refused_with(changes: dict[str, Any], fix: str) -> None:
    with pytest.raises(ConfigError, match=fix):
        RunConfig(cross_entropy="chunked", **changes)
