"""Encoders with decoders: T5, Flan-T5, mT5, BART. Numbers of each repository's config.json."""

from __future__ import annotations

from engine.models.architecture import SEQ2SEQ, Architecture

_PRINTS = "public prints of the model's parameters"


def _t5(hub_name: str, n_parameters: int, width: int, feed_forward: int, layers: int, heads: int) -> Architecture:
    """T5 of 2019: d_kv is 64 but for the two largest, which have 128."""
    return Architecture(
        hub_name=hub_name,
        model_type="t5",
        settings={
            "d_model": width,
            "d_ff": feed_forward,
            "d_kv": 128 if feed_forward >= 16_384 else 64,
            "num_layers": layers,
            "num_decoder_layers": layers,
            "num_heads": heads,
            "decoder_start_token_id": 0,
        },
        head=SEQ2SEQ,
        n_parameters=n_parameters,
    )


def _gated(
    hub_name: str,
    n_parameters: int,
    width: int,
    feed_forward: int,
    layers: int,
    heads: int,
    *,
    vocab_size: int = 32_128,
) -> Architecture:
    """T5 1.1, Flan-T5 and mT5: gated GELU, and an output layer of its own."""
    return Architecture(
        hub_name=f"google/{hub_name}",
        model_type="mt5" if hub_name.startswith("mt5") else "t5",
        settings={
            "vocab_size": vocab_size,
            "d_model": width,
            "d_ff": feed_forward,
            "num_layers": layers,
            "num_decoder_layers": layers,
            "num_heads": heads,
            "decoder_start_token_id": 0,
            "feed_forward_proj": "gated-gelu",
            "tie_word_embeddings": False,
        },
        head=SEQ2SEQ,
        n_parameters=n_parameters,
        own_output=True,
    )


SEQUENCES: dict[str, Architecture] = {
    "t5-small": _t5("google-t5/t5-small", 60_506_624, 512, 2048, 6, 8),
    "t5-base": _t5("google-t5/t5-base", 222_903_552, 768, 3072, 12, 12),
    "t5-large": _t5("google-t5/t5-large", 737_668_096, 1024, 4096, 24, 16),
    "t5-3b": _t5("google-t5/t5-3b", 2_851_598_336, 1024, 16_384, 24, 32),
    "t5-11b": _t5("google-t5/t5-11b", 11_307_321_344, 1024, 65_536, 24, 128),
    "flan-t5-small": _gated("flan-t5-small", 76_961_152, 512, 1024, 8, 6),
    "flan-t5-base": _gated("flan-t5-base", 247_577_856, 768, 2048, 12, 12),
    "flan-t5-large": _gated("flan-t5-large", 783_150_080, 1024, 2816, 24, 16),
    "flan-t5-xl": _gated("flan-t5-xl", 2_849_757_184, 2048, 5120, 24, 32),
    "flan-t5-xxl": _gated("flan-t5-xxl", 11_135_332_352, 4096, 10_240, 24, 64),
    "mt5-small": _gated("mt5-small", 300_176_768, 512, 1024, 8, 6, vocab_size=250_112),
    "mt5-base": _gated("mt5-base", 582_401_280, 768, 2048, 12, 12, vocab_size=250_112),
    "bart-base": Architecture(
        hub_name="facebook/bart-base",
        model_type="bart",
        settings={
            "d_model": 768,
            "encoder_layers": 6,
            "encoder_ffn_dim": 3072,
            "encoder_attention_heads": 12,
            "decoder_layers": 6,
            "decoder_ffn_dim": 3072,
            "decoder_attention_heads": 12,
            "attention_dropout": 0.1,
            "activation_dropout": 0.1,
        },
        head=SEQ2SEQ,
        n_parameters=139_420_416,
        source=_PRINTS,
    ),
    "bart-large": Architecture(
        hub_name="facebook/bart-large",
        model_type="bart",
        settings={"attention_dropout": 0.1, "activation_dropout": 0.1},
        head=SEQ2SEQ,
        n_parameters=406_291_456,
        source=_PRINTS,
        also=("facebook/bart-large-cnn",),
    ),
}
