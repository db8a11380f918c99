"""What `generate` is told: how long, how a token is chosen, which tokens end; the same for a run and its forecast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.contract.config import RunConfig

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel

WARMUP_TOKENS = 8
"""Are written to warm up: by then memory is had, and all kernels are loaded or compiled."""
_KEPT = ("bos_token_id", "decoder_start_token_id", "forced_bos_token_id")
"""What a model's own generation_config.json says of its tokens; how it chooses among them is for the knobs."""


def generation_config(
    config: RunConfig, *, new_tokens: int, eos_token_ids: frozenset[int], pad_token_id: int, **more: Any
) -> GenerationConfig:
    """For a batch whose answers have at most `new_tokens`; `more` as transformers names it."""
    from transformers import GenerationConfig

    return GenerationConfig(
        max_new_tokens=new_tokens,
        num_beams=1,
        use_cache=config.kv_cache != "off",
        eos_token_id=sorted(eos_token_ids) or None,
        pad_token_id=pad_token_id,
        **sampling(config),
        **more,
    )


def sampling(config: RunConfig) -> dict[str, Any]:
    """How a token is chosen from its scores."""
    if config.temperature == 0:
        return {"do_sample": False}
    return {
        "do_sample": True,
        "temperature": config.temperature,
        "top_k": config.top_k,
        "top_p": config.top_p,
    }


def own_settings(model: PreTrainedModel) -> GenerationConfig:
    """What of a model's own generation settings holds for every run: `generate` takes from them what it is not told."""
    from transformers import GenerationConfig

    own: Any = model.generation_config or GenerationConfig()
    return GenerationConfig(**{name: getattr(own, name, None) for name in _KEPT})


def is_seq2seq(model: PreTrainedModel) -> bool:
    """Whether it reads one text and writes another."""
    return bool(model.config.is_encoder_decoder)
