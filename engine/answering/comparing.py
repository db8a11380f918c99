"""A sample of the answers beside those of plain `generate`: what is promised to be the same is looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig

from engine.answering.generation import collate
from engine.answering.job import AnswerJob
from engine.answering.pace import Pace
from engine.answering.requests import Writing
from engine.contract.config import RunConfig
from engine.contract.events import TokensCompared
from engine.contract.numbers import n_of
from engine.techniques.generation.settings import is_seq2seq
from engine.techniques.stopping import Stopped, between_layers

MOST_TOKENS = 128
"""Of an answer that are compared: plain `generate` has to write them."""
_TIED = 1e-3
"""Of the likeliest token's score in fp32: two scores that are nearer than this are as good as equal."""


def is_compared(config: RunConfig) -> bool:
    """Whether the run answers in another way than plain `generate` does, and what it writes can be compared."""
    return config.task != "classification" and config.temperature == 0 and bool(turned(config))


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parting:
    """Where an answer parts from plain `generate`'s."""

    request: int
    token: int  # counted from 1
    apart: float
    """How much less plain `generate` gives the token that was written than its own."""
    is_tie: bool
    """Whether that is next to nothing."""


def compare(job: AnswerJob, sample: Sequence[Writing], pace: Pace) -> TokensCompared | None:
    """Answer the sample's prompts again, plainly; None where there is nothing to compare. Raises `Stopped`.

    With the same weights; only how they are used is plain. `pace` listens to the plain answers.
    """
    n_tokens = n_same = 0
    parting: _Parting | None = None
    for writing in sample:
        theirs = _plain(job, writing, pace, min(len(writing.ids), MOST_TOKENS))
        ours = writing.ids[: len(theirs)]
        same = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b), len(ours))
        if same < len(ours) and parting is None:
            parting = _parting(job, writing, theirs, same)
        n_tokens, n_same = n_tokens + len(ours), n_same + same
    if not n_tokens:
        return None
    return TokensCompared(
        run_id=job.run_id,
        n_requests=len(sample),
        n_tokens=n_tokens,
        n_same=n_same,
        promised=is_promised(job.config),
        detail=_sentence(job.config, n_tokens, n_same, parting),
    )


def _plain(job: AnswerJob, writing: Writing, pace: Pace, n: int) -> list[int]:
    """The answer's first `n` tokens."""
    rows = _generate(job, writing, (), n, pace).sequences
    ids: list[int] = rows[0, 1 if is_seq2seq(job.model) else len(writing.request.input_ids) :].tolist()
    return ids


def _generate(
    job: AnswerJob, writing: Writing, given: Sequence[int], n: int, pace: Pace | None = None, **more: Any
) -> Any:
    """`n` tokens after the answer's `given` ones."""
    settings = GenerationConfig(
        max_new_tokens=n,
        num_beams=1,
        do_sample=False,
        use_cache=True,
        disable_compile=True,
        eos_token_id=sorted(job.eos_token_ids) or None,
        pad_token_id=job.pad_token_id,
        return_dict_in_generate=True,
        **more,
    )
    inputs = collate([writing.request], job.pad_token_id, at=0)
    if given:
        begun = torch.tensor([given])
        if is_seq2seq(job.model):
            start = job.model.generation_config.decoder_start_token_id
            inputs["decoder_input_ids"] = torch.cat([torch.full((1, 1), start), begun], dim=1)
        else:
            inputs = {"input_ids": torch.cat([inputs["input_ids"], begun], dim=1)}
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    placed = {name: tensor.to(job.device.torch_device) for name, tensor in inputs.items()}
    with job.device.on_host(), between_layers(job.model, job.should_stop):
        output = job.model.generate(**placed, generation_config=settings, streamer=pace)
    if job.should_stop():
        raise Stopped
    return output


def _parting(job: AnswerJob, writing: Writing, theirs: Sequence[int], place: int) -> _Parting:
    scores = _generate(job, writing, theirs[:place], 1, output_logits=True).logits[0][0].float()
    highest, own = scores.max().item(), scores[writing.ids[place]].item()
    return _Parting(
        request=writing.request.number,
        token=place + 1,
        apart=highest - own,
        is_tie=highest - own <= _TIED * max(1.0, abs(highest)),
    )


def _sentence(config: RunConfig, n_tokens: int, n_same: int, parting: _Parting | None) -> str:
    with_what = " and ".join(turned(config))
    if parting is None:
        return f"All {n_tokens:,} tokens compared are those of plain generate, with {with_what}."
    said = (
        f"{n_same:,} of {n_of(n_tokens, 'token')} compared are those of plain generate, with {with_what}: in request "
        f"{parting.request:,} token {parting.token:,} is another, which plain generate scores {parting.apart:.2g} lower"
    )
    if parting.is_tie:
        return f"{said}, a tie that rounding decides."
    return f"{said}: it should be the same." if is_promised(config) else f"{said}, as the values are rounded otherwise."
