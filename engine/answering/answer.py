"""The requests, one batch after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from engine.answering.continuous import answer_continuously
from engine.answering.generation import answer_batch
from engine.answering.job import AnswerJob
from engine.answering.requests import Request, Writing
from engine.answering.response_cache import answer_again
from engine.contract.config import RunConfig
from engine.techniques.generation.settings import WARMUP_TOKENS
from engine.techniques.stopping import Stopped

SAMPLE = 2
"""Answers that are compared with plain `generate`."""


def warm_up(job: AnswerJob, request: Request) -> None:
    """Answer a batch that is as large as the first one, with few tokens. Numbers 0, -1, -2 and so on.

    Where steps are compiled also one of the size of the last, which is compiled anew.
    """
    together = answer_continuously if job.config.batching == "continuous" else answer_batch
    number = 0
    for size in warmup_sizes(job.config, len(job.requests)):
        batch = [replace(request, number=number - i) for i in range(size)]
        together(job, batch, new_tokens=warmup_tokens(job), warmup=True)
        number -= size


def warmup_sizes(config: RunConfig, n: int) -> list[int]:
    """Requests of the batches that warm up for `n`."""
    first, last = min(config.batch_size, n), n % config.batch_size
    return [first, last] if config.torch_compile and 0 < last < first else [first]


def warmup_tokens(job: AnswerJob) -> int:
    """All, where a device that accounts for them is slow with the first of a kind."""
    return job.config.max_new_tokens if job.device.accounts else min(WARMUP_TOKENS, job.config.max_new_tokens)


def answer(job: AnswerJob) -> list[Writing]:
    """Answer all requests; the first of the answers. Raises `Stopped` where that was asked for."""
    torch.manual_seed(job.config.seed)  # what is drawn depends on how the model was made no more
    if job.config.batching == "continuous":
        return answer_continuously(job, job.requests, new_tokens=job.config.max_new_tokens)[:SAMPLE]
    first: list[Writing] = []
    for batch in batches(job):
        written = answer_batch(job, batch, new_tokens=job.config.max_new_tokens)
        if job.responses is not None:
            for writing in written:
                job.responses.keep(writing)
        job.tell_held()
        first += written[: SAMPLE - len(first)]
    return first


def batches(job: AnswerJob) -> Iterator[Sequence[Request]]:
    """In their order; the last batch may be smaller.

    Where answers are kept, requests whose answer is there are answered on the way, and leave their place in a batch to
    others. What is asked in a batch is not asked twice in it: the second one waits for the answer.
    """
    waiting, size = deque(job.requests), job.config.batch_size
    while waiting:
        batch: list[Request] = []
        again: list[Request] = []
        asked: set[tuple[int, ...]] = set()
        while waiting and len(batch) < size:
            if job.should_stop():
                raise Stopped
            request = waiting.popleft()
            if job.responses is None:
                batch.append(request)
            elif request.input_ids in asked:
                again.append(request)
            elif not answer_again(job, job.responses, request):
                batch.append(request)
                asked.add(request.input_ids)
        waiting.extendleft(reversed(again))
        if batch:
            yield batch
