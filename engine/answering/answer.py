"""The requests, one batch after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from engine.answering.generation import answer_batch
from engine.answering.job import AnswerJob
from engine.answering.requests import Request, Writing
from engine.contract.config import RunConfig

WARMUP_TOKENS = 8
"""Are written to warm up: by then memory is had, and all kernels are loaded or compiled."""

SAMPLE = 2
"""Answers that are compared with plain `generate`."""


def warm_up(job: AnswerJob, request: Request) -> None:
    """Answer a batch that is as large as the first one, with few tokens. Numbers 0, -1, -2 and so on.

    Where steps are compiled also one of the size of the last, which is compiled anew.
    """
    number = 0
    for size in warmup_sizes(job.config, len(job.requests)):
        batch = [replace(request, number=number - i) for i in range(size)]
        answer_batch(job, batch, new_tokens=warmup_tokens(job), warmup=True)
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
    first: list[Writing] = []
    for batch in batches(job.requests, job.config.batch_size):
        written = answer_batch(job, batch, new_tokens=job.config.max_new_tokens)
        first += written[: SAMPLE - len(first)]
    return first


def batches(requests: Sequence[Request], size: int) -> Iterator[Sequence[Request]]:
    """In their order; the last batch may be smaller."""
    for start in range(0, len(requests), size):
        yield requests[start : start + size]
