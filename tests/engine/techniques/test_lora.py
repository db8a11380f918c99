"""LoRA on every kind of model: what is trained, that it starts where the model is, and that it learns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertLMHeadModel,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    MixtralConfig,
    MixtralForCausalLM,
    MixtralForSequenceClassification,
    PreTrainedModel,
    RobertaConfig,
    RobertaForSequenceClassification,
    T5Config,
    T5ForConditionalGeneration,
)

from engine.contract.config import ConfigError, RunConfig
from engine.techniques import lora
from engine.training.trainer import micro_step, train
from tests.engine.jobs import make_job, tiny_model

CONFIG = RunConfig(
    device="cpu",
    batch_size=4,
    samples=22,
    seq_len=16,
    learning_rate=1e-3,
    dropout=False,
    seed=3,
    lora_rank=4,
    lora_targets="all-linear",
)
_BERT: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "vocab_size": 512,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "use_cache": False,
}
_GPT2 = GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=512, n_positions=64, pad_token_id=0, use_cache=False)
_MIXTRAL = MixtralConfig(**_BERT, num_key_value_heads=2, num_local_experts=4)
_T5 = T5Config(
    d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2, vocab_size=512, decoder_start_token_id=0, use_cache=False
)
# model, its head that is trained whole, and linear layers or expert matrices in it
KINDS: dict[str, tuple[Callable[[], PreTrainedModel], tuple[str, ...], int]] = {
    "bert": (lambda: BertForSequenceClassification(BertConfig(**_BERT)), ("classifier",), 2 * 6 + 1),
    "roberta": (
        lambda: RobertaForSequenceClassification(RobertaConfig(**{**_BERT, "pad_token_id": 1})),
        ("classifier",),
        2 * 6,
    ),
    "distilbert": (
        lambda: DistilBertForSequenceClassification(
            DistilBertConfig(dim=32, n_layers=2, n_heads=2, hidden_dim=64, vocab_size=512)
        ),
        ("pre_classifier", "classifier"),
        2 * 6,
    ),
    "gpt2": (lambda: GPT2ForSequenceClassification(_GPT2), ("score",), 2 * 4),
    "mixtral": (lambda: MixtralForSequenceClassification(_MIXTRAL), ("score",), 2 * (4 + 1 + 2)),
    "bert-lm": (lambda: BertLMHeadModel(BertConfig(**_BERT, is_decoder=True)), (), 2 * 6 + 1),
    "gpt2-lm": (lambda: GPT2LMHeadModel(_GPT2), (), 2 * 4),
    "mixtral-lm": (lambda: MixtralForCausalLM(_MIXTRAL), (), 2 * (4 + 1 + 2)),
    "t5": (lambda: T5ForConditionalGeneration(_T5), (), 2 * 6 + 2 * 10),
}


def _task(kind: str) -> str:
    return "seq2seq-lm" if kind == "t5" else "causal-lm" if kind.endswith("-lm") else "classification"


def _batch(kind: str) -> dict[str, torch.Tensor]:
    tokens = torch.arange(2 * 8).reshape(2, 8) + 5
    return {"input_ids": tokens, "labels": torch.tensor([0, 1]) if _task(kind) == "classification" else tokens}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("checkpointing", ["off", "on"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_trains_its_thin_matrices_and_its_head_alone(kind: str, checkpointing: str) -> None:
    make, heads, n_linear = KINDS[kind]
    config = CONFIG.with_values(task=_task(kind), gradient_checkpointing=checkpointing)
    torch.manual_seed(1)
    recorded = make_job(CONFIG, tiny_model())  # for its precision and nothing else
    model = lora.apply(make(), config)
    if checkpointing == "on":
        from engine.techniques import checkpointing as technique

        technique.apply(model, config)
    micro_step(model.train(), _batch(kind), recorded.job.precision, 1, lambda phase: None)

    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    thin = [name for name in trained if "lora_" in name]
    assert len(thin) == 2 * n_linear
    assert {name.split(".modules_to_save")[0].rsplit(".", 1)[-1] for name in trained if name not in thin} == set(heads)
    assert all(parameter.grad is not None for parameter in trained.values())
    assert all(parameter.grad is None for parameter in model.parameters() if not parameter.requires_grad)


@pytest.mark.parametrize("kind", KINDS)
def test_starts_as_the_model_that_it_was(kind: str) -> None:
    make, _, _ = KINDS[kind]
    torch.manual_seed(1)
    plain = make().eval()
    with torch.no_grad():
        before = plain(**_batch(kind)).loss
        after = lora.apply(plain, CONFIG.with_values(task=_task(kind))).eval()(**_batch(kind)).loss
    torch.testing.assert_close(after, before, rtol=0, atol=1e-6)


def test_gradients_are_those_of_the_full_run_seen_through_the_matrices() -> None:
    """W' = W + 2·B·A, and A = what it is, B = 0 at the start: so dL/dB = 2·(dL/dW)·Aᵀ and dL/dA = 0."""
    config = CONFIG.with_values(samples=4)
    full = make_job(config.with_values(lora_rank=0), tiny_model(dropout=0.0))
    thin = make_job(config, tiny_model(dropout=0.0))
    batch = next(iter(full.job.loader))
    for recorded in (full, thin):
        loss = micro_step(recorded.job.model.train(), dict(batch), recorded.job.precision, 1, lambda phase: None)
        assert loss.isfinite()
    layer = "bert.encoder.layer.0.intermediate.dense"
    weight = full.job.model.get_parameter(f"{layer}.weight")
    a, b = (thin.job.model.get_parameter(f"base_model.model.{layer}.lora_{which}.default.weight") for which in "AB")
    assert weight.grad is not None
    assert a.grad is not None
    torch.testing.assert_close(b.grad, 2 * weight.grad @ a.T, rtol=1e-4, atol=1e-7)
    assert torch.count_nonzero(a.grad) == 0


def test_counts_and_bytes_all_but_vanish() -> None:
    torch.manual_seed(1)
    model = BertForSequenceClassification(BertConfig(hidden_size=128, num_hidden_layers=2, num_attention_heads=2))
    n_before = sum(parameter.numel() for parameter in model.parameters())
    adapted = lora.apply(model, CONFIG)
    trained = sum(parameter.numel() for parameter in adapted.parameters() if parameter.requires_grad)
    # per layer four 128×128 and two 128×3072 matrices; the pooler; the classifier with its bias
    assert trained == 4 * (2 * (4 * 256 + 2 * (128 + 3072)) + 256) + 2 * 128 + 2
    total = sum(parameter.numel() for parameter in adapted.parameters())
    assert total == n_before + trained
    assert lora.note(adapted, CONFIG) == (
        f"LoRA of rank 4: {trained:,} of {total:,} parameters are trained ({trained / total:.2%})."
    )


def _state_bytes(optimizer: torch.optim.Optimizer) -> int:
    return sum(
        value.numel() * value.element_size()
        for state in optimizer.state.values()
        for name, value in state.items()
        if name != "step"
    )


def test_the_optimizer_keeps_state_for_the_trained_alone() -> None:
    recorded = make_job(CONFIG, tiny_model())
    train(recorded.job)
    trained = sum(p.numel() for p in recorded.job.model.parameters() if p.requires_grad)
    assert _state_bytes(recorded.job.optimizer) == 8 * trained


@pytest.mark.parametrize(
    "changes", [{}, {"precision": "bf16"}, {"gradient_checkpointing": "on"}, {"optimizer": "adamw-8bit"}], ids=str
)
def test_learns_and_leaves_the_frozen_weights_alone(changes: dict[str, Any]) -> None:
    config = CONFIG.with_values(epochs=8, learning_rate=1e-2, **changes)
    recorded = make_job(config, tiny_model(dropout=0.0))
    frozen = {n: p.detach().clone() for n, p in recorded.job.model.named_parameters() if not p.requires_grad}
    assert train(recorded.job)
    assert sum(recorded.losses[-6:]) < 0.8 * sum(recorded.losses[:6])
    now = dict(recorded.job.model.named_parameters())
    assert all(torch.equal(weight, now[name]) for name, weight in frozen.items())


def test_checkpointing_changes_nothing() -> None:
    plain, checkpointed = (
        make_job(CONFIG.with_values(gradient_checkpointing=how), tiny_model(dropout=0.1)) for how in ("off", "on")
    )
    for recorded in (plain, checkpointed):
        torch.manual_seed(5)
        train(recorded.job)
    assert plain.losses == checkpointed.losses


def test_same_seed_same_matrices() -> None:
    first, second = (lora.apply(tiny_model(seed=7), CONFIG) for _ in range(2))
    other = lora.apply(tiny_model(seed=8), CONFIG)
    assert all(map(torch.equal, first.parameters(), second.parameters()))
    assert not all(map(torch.equal, first.parameters(), other.parameters()))


def test_a_rank_that_saves_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--lora-rank 64 is more than the hidden size 32.*use --lora-rank 8 or less"):
        lora.apply(tiny_model(), CONFIG.with_values(lora_rank=64))


@pytest.mark.parametrize(
    ("kind", "targets", "n_linear"),
    [
        ("bert", "default", 2 * 2),  # query and value
        ("gpt2-lm", "default", 2),  # c_attn
        ("t5", "q, v", 2 * 2 + 2 * 4),
        ("t5", "EncDecAttention.q", 2),
        ("distilbert", "default", 2 * 6),  # peft has none for it
    ],
)
def test_only_the_layers_that_were_named_are_adapted(kind: str, targets: str, n_linear: int) -> None:
    make, _, _ = KINDS[kind]
    config = CONFIG.with_values(task=_task(kind), lora_targets=targets)
    model = lora.apply(make(), config)
    thin = [name for name, p in model.named_parameters() if p.requires_grad and "lora_" in name]
    assert len(thin) == 2 * n_linear
    assert ("peft has no default layers" in lora.note(model, config)) is (kind == "distilbert")


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        ("q_proj", "'q_proj' is no linear layer of bert-tiny: it has query, key, value, dense."),
        ("query,valu", "'valu' is no linear layer of bert-tiny: did you mean value? It has query, key, value, dense."),
        ("classifier", "'classifier' is no linear layer"),  # the head is trained whole
    ],
)
def test_a_name_that_no_layer_has_is_refused(targets: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        lora.apply(KINDS["bert"][0](), CONFIG.with_values(lora_targets=targets))
    assert said in refused.value.message
    assert refused.value.knob == "lora_targets"


def test_alpha_and_dropout_are_those_of_the_knobs() -> None:
    layer = "base_model.model.bert.encoder.layer.0.attention.self.query"
    config = CONFIG.with_values(lora_alpha=2, lora_dropout=0.5, lora_targets="query")
    plain = lora.apply(KINDS["bert"][0](), config).get_submodule(layer)
    assert plain.scaling == {"default": 0.5}
    assert isinstance(plain.lora_dropout["default"], torch.nn.Identity)  # this run drops out nothing
    dropping = lora.apply(KINDS["bert"][0](), config.with_values(dropout=True)).get_submodule(layer)
    assert dropping.lora_dropout["default"].p == 0.5


def test_dropout_that_experts_cannot_have_is_refused_by_its_own_name() -> None:
    config = CONFIG.with_values(lora_dropout=0.1, dropout=True, task="causal-lm")
    with pytest.raises(ConfigError, match="use --lora-dropout 0, or --lora-targets without the experts") as refused:
        lora.apply(KINDS["mixtral-lm"][0](), config)
    assert refused.value.knob == "lora_dropout"
    lora.apply(KINDS["mixtral-lm"][0](), config.with_values(lora_targets="q_proj,v_proj"))  # as the sentence says


@pytest.mark.parametrize("weights", ["bf16", "fp16"])
def test_matrices_beside_weights_of_16_bits_are_in_fp32(weights: str) -> None:
    model = KINDS["gpt2-lm"][0]().to({"bf16": torch.bfloat16, "fp16": torch.float16}[weights])
    model = lora.apply(model, CONFIG.with_values(task="causal-lm", weights=weights))
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    assert torch.float32 not in {p.dtype for p in model.parameters() if not p.requires_grad}
