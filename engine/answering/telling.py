"""What is told of requests, however they are answered: that one is done, and what time went to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.answering.loops import looped
from engine.answering.requests import Writing
from engine.answering.written import beginning
from engine.contract.answers import AnswerShares
from engine.contract.events import RequestDone

if TYPE_CHECKING:
    from engine.answering.job import AnswerJob

TOLD_EVERY_S = 0.1
"""The least between two `TokensDone`."""


def request_done(
    job: AnswerJob,
    writing: Writing,
    *,
    began: float,
    warmup: bool,
    compile_s: float | None = None,
) -> RequestDone:
    """Of a request that began at `began` of `time.perf_counter`, and whose answer has ended."""
    assert writing.reason is not None
    request = writing.request
    return RequestDone(
        run_id=job.run_id,
        request=request.number,
        prompt=request.text,
        text=beginning(writing.ids, job.tokenizer),
        prompt_tokens=len(request.input_ids),
        cached_tokens=writing.cached_tokens,
        new_tokens=len(writing.ids),
        ttft_s=writing.ttft_s,
        e2e_s=writing.e2e_s,
        reason=writing.reason,
        hit="prefix" if writing.cached_tokens else None,
        warmup=warmup,
        compile_s=compile_s,
        looped=looped(writing.ids),
        t=began + writing.e2e_s - job.began,
    )


def shares_of(seconds: float, *, prefill: float, decode: float, draft: float = 0.0) -> AnswerShares:
    """What so many seconds went to, of which what was measured is a part; they sum to them."""
    total = prefill + decode + draft
    scale = seconds / total if total > seconds else 1.0  # the GPU's clock is not the host's
    return AnswerShares(
        prefill=prefill * scale, decode=decode * scale, draft=draft * scale, sampling=max(0.0, seconds - total)
    )
