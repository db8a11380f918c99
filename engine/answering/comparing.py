"""A sample of the answers beside those of plain `generate`: what is promised to be the same is looked at."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import GenerationConfig

from engine.answering.generation import collate, is_seq2seq
from engine.answering.job import AnswerJob
from engine.answering.requests import Writing
from engine.contract.config import RunConfig
from engine.contract.events import TokensCompared
from engine.techniques.stopping import Stopped, between_layers

MOST_TOKENS = 128
"""Of an answer that are compared: plain `generate` has to write them."""


def is_compared(config: RunConfig) -> bool:
    """Whether the run answers in another way than plain `generate` does, and what it writes can be compared."""
    return config.temperature == 0 and bool(turned(config))


def turned(config: RunConfig) -> list[str]:
    """What the run does otherwise than plain `generate`: one prompt at a time, a dynamic cache, every token its own."""
    return [
        what
        for what, applies in (
            (f"--kv-cache {config.kv_cache}", config.kv_cache != "dynamic"),
            (f"--kv-dtype {config.kv_dtype}", config.kv_dtype != "model"),
            ("--prefix-cache", config.prefix_cache),
            ("--response-cache", config.response_cache),
            (f"--speculate {config.speculate}", config.speculate != "off"),
            (f"--batching {config.batching}", config.batching != "static"),
            (f"--batch-size {config.batch_size}", config.batch_size > 1),
            ("--torch-compile", config.torch_compile),
        )
        if applies
    ]


def is_promised(config: RunConfig) -> bool:
    """Whether all that is turned promises the same tokens.

    Where keys and values are rounded, or sums are taken in another order by another batch, kernel or 16-bit type, the
    likeliest token may become another one.
    """
    rounds = config.computed_in != "fp32" or config.is_quantised or config.kv_dtype != "model"
    return not rounds and not config.torch_compile and config.batch_size == 1 and config.batching == "static"


def compare(job: AnswerJob, sample: Sequence[Writing]) -> TokensCompared | None:
    """Answer the sample's prompts again, plainly; None where there is nothing to compare. Raises `Stopped`."""
    n_tokens = n_same = n_requests = 0
    where: str | None = None
    for writing in sample:
        theirs = _plain(job, writing)
        ours = writing.ids[: len(theirs)]
        same = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b), len(ours))
        if same < len(ours) and where is None:
            where = f"request {writing.request.number} from token {same + 1:,} on"
        n_requests, n_tokens, n_same = n_requests + 1, n_tokens + len(ours), n_same + same
    if not n_tokens:
        return None
    return TokensCompared(
        run_id=job.run_id,
        n_requests=n_requests,
        n_tokens=n_tokens,
        n_same=n_same,
        promised=is_promised(job.config),
        detail=_sentence(job.config, n_tokens, n_same, where),
    )


def _plain(job: AnswerJob, writing: Writing) -> list[int]:
    """As many tokens as were written, up to `MOST_TOKENS`."""
    n = min(len(writing.ids), MOST_TOKENS)
    settings = GenerationConfig(
        max_new_tokens=n,
        min_new_tokens=None,
        num_beams=1,
        do_sample=False,
        use_cache=True,
        eos_token_id=sorted(job.eos_token_ids) or None,
        pad_token_id=job.pad_token_id,
    )
    inputs = collate([writing.request], job.pad_token_id, at_left=True)
    inputs = {name: tensor.to(job.device.torch_device) for name, tensor in inputs.items()}
    with job.device.on_host(), between_layers(job.model, job.should_stop), torch.no_grad():
        rows = job.model.generate(**inputs, generation_config=settings)
    begin = 1 if is_seq2seq(job.model) else len(writing.request.input_ids)
    ids: list[int] = rows[0, begin:].tolist()
    if job.should_stop():
        raise Stopped
    return ids[: len(writing.ids)]


def _sentence(config: RunConfig, n_tokens: int, n_same: int, where: str | None) -> str:
    with_what = " and ".join(turned(config))
    if where is None:
        return f"All {n_tokens:,} tokens compared are those of plain generate, with {with_what}."
    beside = f"{n_same:,} of {n_tokens:,} tokens compared are those of plain generate, with {with_what}: {where}"
    if is_promised(config):
        return (
            f"{beside} they differ, although nothing turned rounds: two tokens as good as equally likely, or a defect."
        )
    return f"{beside} they differ, as sums are rounded otherwise."
