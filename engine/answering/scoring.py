"""Texts scored by a classifier, batch by batch: no token is written, so a batch is one forward."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from engine.answering.generation import collate
from engine.answering.job import AnswerJob
from engine.answering.requests import Request
from engine.contract.events import BatchScored
from engine.contract.records import Phase
from engine.techniques.bucketing import SortedOrder
from engine.techniques.stopping import Stopped, between_layers

_MOST_SHOWN = 200
"""Characters of a text that are told."""


def warm_up(job: AnswerJob) -> None:
    """Score the first batch, which will be scored again."""
    _score(job, next(iter(_batches(job))), 0)


def score(job: AnswerJob) -> None:
    """Score all texts. Raises `Stopped` where that was asked for."""
    for number, batch in enumerate(_batches(job), 1):
        _score(job, batch, number)
        job.n_done += len(batch)


def _batches(job: AnswerJob) -> list[Sequence[Request]]:
    """In their order, or where `--padding bucketed` asks for it those of similar length together, the longest first."""
    requests: Sequence[Request] = job.requests
    if job.config.padding == "bucketed":
        requests = [requests[i] for i in SortedOrder([len(request.input_ids) for request in requests]).whole()]
    size = job.config.batch_size
    return [requests[start : start + size] for start in range(0, len(requests), size)]


def _score(job: AnswerJob, batch: Sequence[Request], number: int) -> None:
    lengths = {len(request.input_ids) for request in batch}
    width = job.longest if job.config.padding == "max_length" else max(lengths)
    with job.device.answering((len(batch), width, lengths == {width})):
        _score_at(width, job, batch, number)


@torch.no_grad()
def _score_at(width: int, job: AnswerJob, batch: Sequence[Request], number: int) -> None:
    """A batch from its tokens to its classes on the host: what a program that asks would wait for."""
    began = time.perf_counter()
    job.enter(Phase.SCORE)
    inputs = job.device.place(collate(batch, job.pad_token_id, at=None, width=width))
    with between_layers(job.model, job.should_stop):
        logits = job.model(**inputs).logits.float()
    shares, classes = logits.softmax(-1).max(-1)
    best = list(zip(classes.tolist(), shares.tolist(), strict=True))  # here the host waits
    now = time.perf_counter()
    job.emit(
        BatchScored(
            run_id=job.run_id,
            batch=number,
            n_samples=len(batch),
            n_tokens=sum(len(request.input_ids) for request in batch),
            computed_tokens=inputs["input_ids"].numel(),
            seconds=now - began,
            memory=job.device.memory_if_known(),
            text=_said(job, batch[0], *best[0]),
            warmup=number < 1,
            t=now - job.began,
        )
    )
    if job.should_stop():
        raise Stopped


def _said(job: AnswerJob, request: Request, best: int, share: float) -> str:
    label = (job.model.config.id2label or {}).get(best, str(best))
    text = request.text[:_MOST_SHOWN] or f"{len(request.input_ids):,} random tokens"
    return f"{text} → {label} ({share:.2f})"
