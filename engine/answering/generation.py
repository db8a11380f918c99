"""One batch of requests answered by transformers' `generate`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from transformers import GenerationConfig

from engine.answering.job import AnswerJob
from engine.answering.requests import Request, Writing
from engine.answering.steps import Steps
from engine.contract.config import RunConfig
from engine.techniques.generation import caches
from engine.techniques.generation.guessing import speculating

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_KEPT = ("bos_token_id", "decoder_start_token_id", "forced_bos_token_id")
"""What a model's own generation_config.json says of its tokens; how it chooses among them is for the knobs."""


def answer_batch(
    job: AnswerJob, requests: Sequence[Request], *, new_tokens: int, warmup: bool = False, **given: Any
) -> list[Writing]:
    """Answer these together, each with at most `new_tokens`, and tell it as it goes.

    `given` goes to `generate`. Raises `Stopped` where that was asked for, with what was written told.
    """
    writings = [Writing(request=request) for request in requests]
    job.steps = steps = Steps(job, writings, new_tokens=new_tokens, warmup=warmup)
    try:
        with steps.listening(job.model), speculating(job.config, job.draft, steps) as speculation:
            inputs = job.device.place(collate(requests, job.pad_token_id, at_left=not is_seq2seq(job.model)))
            steps.computed_tokens = inputs["input_ids"].numel()
            settings = generation_config(job, new_tokens, caches.settings(job.config) | speculation.settings)
            job.model.generate(**inputs, generation_config=settings, streamer=steps, **speculation.given, **given)
    finally:
        steps.finish()
    return writings


def generation_config(job: AnswerJob, new_tokens: int, more: dict[str, Any]) -> GenerationConfig:
    """All that `generate` is told to do."""
    return GenerationConfig(
        max_new_tokens=new_tokens,
        num_beams=1,
        eos_token_id=sorted(job.eos_token_ids) or None,
        pad_token_id=job.pad_token_id,
        **sampling(job.config),
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
    own: Any = model.generation_config or GenerationConfig()
    return GenerationConfig(**{name: getattr(own, name, None) for name in _KEPT})


def is_seq2seq(model: PreTrainedModel) -> bool:
    """Whether it reads one text and writes another."""
    return bool(model.config.is_encoder_decoder)


def collate(requests: Sequence[Request], pad_token_id: int, *, at_left: bool) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask`, (requests, tokens of the longest) in int64.

    Padding is `at_left` where the model goes on with the prompt: its last token has to be the last of its row.
    """
    longest = max(len(request.input_ids) for request in requests)
    ids, mask = [], []
    for request in requests:
        n = longest - len(request.input_ids)
        padding, hidden, seen = [pad_token_id] * n, [0] * n, [1] * len(request.input_ids)
        ids.append([*padding, *request.input_ids] if at_left else [*request.input_ids, *padding])
        mask.append([*hidden, *seen] if at_left else [*seen, *hidden])
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}
