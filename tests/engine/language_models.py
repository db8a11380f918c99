"""Tiny language models of the kinds that people train, for tests of what every one of them must bear."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    ModernBertConfig,
    ModernBertForMaskedLM,
    PreTrainedModel,
    RobertaConfig,
    RobertaForMaskedLM,
    T5Config,
    T5ForConditionalGeneration,
)

VOCABULARY = 200
_BERT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
_LLAMA: dict[str, Any] = {**_BERT, "num_key_value_heads": 2, "use_cache": False, "bos_token_id": 1, "eos_token_id": 2}

MAKERS: dict[str, Callable[[], PreTrainedModel]] = {
    "bert": lambda: BertForMaskedLM(BertConfig(**_BERT)),
    "roberta": lambda: RobertaForMaskedLM(RobertaConfig(**{**_BERT, "pad_token_id": 1})),
    "modernbert": lambda: ModernBertForMaskedLM(
        ModernBertConfig(**_BERT, cls_token_id=1, sep_token_id=2, bos_token_id=1, eos_token_id=2)
    ),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=64, use_cache=False)
    ),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**_LLAMA)),
    "mixtral": lambda: MixtralForCausalLM(MixtralConfig(**_LLAMA, num_local_experts=4)),
    "gemma2": lambda: Gemma2ForCausalLM(Gemma2Config(**_LLAMA, head_dim=8, final_logit_softcapping=2.0)),
    "cohere": lambda: CohereForCausalLM(CohereConfig(**_LLAMA, logit_scale=0.25)),
    "t5": lambda: T5ForConditionalGeneration(
        T5Config(
            vocab_size=VOCABULARY,
            d_model=32,
            d_kv=8,
            d_ff=64,
            num_layers=2,
            num_heads=4,
            decoder_start_token_id=0,
            use_cache=False,
        )
    ),
    "bart": lambda: BartForConditionalGeneration(
        BartConfig(
            vocab_size=VOCABULARY,
            d_model=32,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=64,
            decoder_ffn_dim=64,
            max_position_embeddings=64,
            use_cache=False,
        )
    ),
}


def make(kind: str, *, dropout: bool = True) -> PreTrainedModel:
    """The same weights every time. Attention is sdpa where the model has it."""
    torch.manual_seed(5)
    model = MAKERS[kind]()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout) and not dropout:
            module.p = 0.0
    return model.train()


def task_of(kind: str) -> str:
    """As `RunConfig.task` has it; a masked language model counts as a causal one, its loss is alike."""
    return "seq2seq-lm" if kind in ("t5", "bart") else "causal-lm"


def batch(samples: int = 3, length: int = 16, vocabulary: int = VOCABULARY) -> dict[str, torch.Tensor]:
    """Random tokens; a third of the labels is ignored."""
    random = torch.Generator().manual_seed(11)
    tokens = torch.randint(3, vocabulary, (samples, length), generator=random)
    labels = tokens.masked_fill(torch.rand(tokens.shape, generator=random) < 1 / 3, -100)
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": labels}
