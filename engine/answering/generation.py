"""One batch of requests answered by transformers' `generate`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from transformers import CompileConfig

from engine.answering.job import AnswerJob
from engine.answering.prefix_cache import PrefixCache, Shared, fill
from engine.answering.requests import Request, Writing
from engine.answering.steps import Steps
from engine.techniques.generation import caches
from engine.techniques.generation.guessing import speculating
from engine.techniques.generation.settings import generation_config, is_seq2seq
from engine.techniques.stopping import Stopped

if TYPE_CHECKING:
    from transformers import GenerationConfig
    from transformers.cache_utils import Cache


def answer_batch(
    job: AnswerJob, requests: Sequence[Request], *, new_tokens: int, warmup: bool = False, **given: Any
) -> list[Writing]:
    """Answer these together, each with at most `new_tokens`, and tell it as it goes.

    `given` goes to `generate`. Raises `Stopped` where that was asked for, with what was written told.
    """
    writings = [Writing(request=request) for request in requests]
    job.steps = steps = Steps(job, writings, new_tokens=new_tokens, warmup=warmup)
    prompts = [request.input_ids for request in requests]
    prefixes = None if warmup else job.prefixes
    shared = Shared() if prefixes is None else prefixes.find(prompts)
    kind = kind_of(prompts, shared, new_tokens), prefixes is not None and prefixes.is_new(prompts)
    with job.device.answering(kind, lambda: _is_whole(writings)):
        _generate(job, steps, shared, prefixes, given)
    return writings


def kind_of(prompts: Sequence[tuple[int, ...]], shared: Shared, new_tokens: int) -> tuple[object, ...]:
    """What decides which tensors a batch makes: how many prompts there are, the tokens of the longest, whether there is
    padding, what they go on from and whether that is the same for all, and the tokens of the answers.
    """
    lengths = {len(ids) for ids in prompts}
    return len(prompts), max(lengths), len(lengths) > 1, shared.n_tokens, len(set(shared.rows)) > 1, new_tokens


def _is_whole(writings: Sequence[Writing]) -> bool:
    return any(writing.reason == "length" for writing in writings)


def _generate(
    job: AnswerJob, steps: Steps, shared: Shared, prefixes: PrefixCache | None, given: dict[str, Any]
) -> None:
    requests = [writing.request for writing in steps.writings]
    try:
        with steps.listening(job.model), speculating(job.config, job.model, job.draft, steps) as speculation:
            at = None if is_seq2seq(job.model) else shared.n_tokens
            inputs = job.device.place(collate(requests, job.pad_token_id, at))
            steps.computed_tokens = inputs["input_ids"].numel() - shared.n_tokens * len(requests)
            cache = empty_cache(job, inputs["input_ids"].size(1))
            if cache is not None and shared.rows:
                fill(cache, shared)
                for writing in steps.writings:
                    writing.cached_tokens = shared.n_tokens
            job.model.generate(
                **inputs,
                generation_config=_settings(job, steps.new_tokens, speculation.settings),
                streamer=steps,
                **caches.arguments(job.model, cache),
                **speculation.given,
                **given,
            )
            if prefixes is not None and cache is not None:
                job.device.hold(prefixes.keep([request.input_ids for request in requests], cache, shared))
    except Exception as error:
        if isinstance(error, Stopped) or job.device.is_out_of_memory(error):  # a lost device says nothing more
            steps.finish()
        raise
    steps.finish()


def empty_cache(job: AnswerJob, prompt_tokens: int) -> Cache | None:
    """For a batch whose prompts have so many tokens; a static one is as large for all, so that compiled code fits."""
    new = job.config.max_new_tokens
    if is_seq2seq(job.model):  # its answer begins with a token that starts it
        return caches.cache_for(job.config, job.model, tokens=1 + new, source_tokens=prompt_tokens)
    return caches.cache_for(job.config, job.model, tokens=job.longest + new)


def _settings(job: AnswerJob, new_tokens: int, more: dict[str, Any]) -> GenerationConfig:
    """All that `generate` is told to do."""
    return generation_config(
        job.config,
        new_tokens=new_tokens,
        eos_token_ids=job.eos_token_ids,
        pad_token_id=job.pad_token_id,
        **compiled(job),
        **more,
    )


def compiled(job: AnswerJob) -> dict[str, Any]:
    """Whether decode steps are compiled, which `generate` does itself where keys and values have a fixed place."""
    if not job.config.torch_compile:
        return {"disable_compile": True}  # on a GPU it would, with a static cache
    how = CompileConfig(mode=None if job.device.torch_device.type == "cpu" else "reduce-overhead")
    how._compile_all_devices = True
    return {"compile_config": how}


def collate(
    requests: Sequence[Request], pad_token_id: int, at: int | None, width: int | None = None
) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask`, (requests, `width` or tokens of the longest) in int64.

    Padding stands after so many tokens, none as a rule, where the model goes on with the prompt: its last token has to
    be the last of its row. None: after all of them.
    """
    width = width or max(len(request.input_ids) for request in requests)
    ids, mask = [], []
    for request in requests:
        own = request.input_ids
        n, before = width - len(own), len(own) if at is None else at
        ids.append([*own[:before], *[pad_token_id] * n, *own[before:]])
        mask.append([1] * before + [0] * n + [1] * (len(own) - before))
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}
