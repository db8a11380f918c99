"""The requests, one batch after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from engine.answering.generation import answer_batch
from engine.answering.job import AnswerJob
from engine.answering.requests import Request, Writing

WARMUP_TOKENS = 8
"""Are written to warm up: by then memory is had, and all kernels are loaded or compiled."""

SAMPLE = 2
"""Answers that are compared with plain `generate`."""


def warm_up(job: AnswerJob, request: Request) -> None:
    """Answer a batch that is as large as the first one, with few tokens. Numbers 0, -1, -2 and so on."""
    n = min(job.config.batch_size, len(job.requests))
    batch = [replace(request, number=-i) for i in range(n)]
    answer_batch(job, batch, new_tokens=min(WARMUP_TOKENS, job.config.max_new_tokens), warmup=True)


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
