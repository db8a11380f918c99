"""What a run that answers says, with times that add up."""

from __future__ import annotations

from collections.abc import Sequence

from engine.contract.answers import AnswerShares
from engine.contract.events import (
    AnsweringStarted,
    BatchScored,
    Event,
    MemoryMoment,
    Prefilled,
    RequestDone,
    TokensDone,
)
from engine.contract.records import Memory

MEMORY = Memory(used=1000, reserved=900, allocated=800, total=8000)


def started(run_id: int, n_requests: int, **more: int) -> AnsweringStarted:
    return AnsweringStarted(
        run_id=run_id,
        n_parameters=960_000,
        n_requests=n_requests,
        n_warmup=1,
        prompt_tokens=64,
        max_new_tokens=16,
        weights=3_840_000,
        kv_per_token=4096,
        threads=2,
        **more,
    )


def batch(
    run_id: int,
    requests: Sequence[int],
    begins: float,
    *,
    prompt: int = 64,
    padded: int | None = None,
    cached: int = 0,
    ttft: float = 0.05,
    gaps: Sequence[float] = (0.01, 0.02, 0.03),
    accepted: Sequence[int] = (),
    per_event: int = 2,
    reason: str = "length",
    ends: bool = True,
    memory: Memory = MEMORY,
) -> list[Event]:
    """These requests together: a prefill, then a gap after another. `accepted` are guesses, 4 at each gap, of one."""
    n = len(requests)
    warmup = requests[0] <= 0
    prefilled = Prefilled(
        run_id=run_id,
        requests=tuple(requests),
        prompt_tokens=prompt * n,
        computed_tokens=(prompt if padded is None else padded) * n - cached * n,
        cached_tokens=cached * n,
        ttft_s=ttft,
        prefill_s=ttft * 0.8,
        kv_cache=4096 * prompt * n,
        shares=AnswerShares(prefill=ttft * 0.8, sampling=ttft * 0.2),
        memory=memory,
        text="It",
        warmup=warmup,
        t=begins + ttft,
    )
    events: list[Event] = [prefilled]
    t, written = begins + ttft, 1
    for first in range(0, len(gaps), per_event):
        some = tuple(gaps[first : first + per_event])
        right = tuple(accepted[first : first + per_event]) if accepted else (0,) * len(some)
        t += sum(some)
        written += sum(right) + len(some)
        events.append(
            TokensDone(
                run_id=run_id,
                requests=tuple(requests),
                gaps=some,
                arrived=tuple(n * (1 + good) for good in right),
                forwards=n * len(some),
                proposed=4 * len(some) if accepted else 0,
                accepted=sum(right),
                kv_cache=4096 * (prompt + written) * n,
                shares=AnswerShares(decode=0.9 * sum(some), sampling=0.1 * sum(some)),
                memory=memory,
                text=" is",
                guessed=(),
                warmup=warmup,
                t=t,
            )
        )
    if ends:
        events += [
            done(run_id, each, begins, ttft, t - begins, prompt=prompt, new=written, reason=reason) for each in requests
        ]
    return events


def done(
    run_id: int,
    request: int,
    begins: float,
    ttft: float,
    e2e: float,
    *,
    prompt: int = 64,
    new: int = 4,
    reason: str = "length",
    hit: str | None = None,
    compile_s: float | None = None,
) -> RequestDone:
    return RequestDone(
        run_id=run_id,
        request=request,
        prompt="",
        text="It is",
        prompt_tokens=prompt,
        cached_tokens=0,
        new_tokens=new,
        ttft_s=ttft,
        e2e_s=e2e,
        reason=reason,
        hit=hit,
        warmup=request <= 0,
        compile_s=compile_s,
        t=begins + e2e,
    )


def answered(run_id: int) -> MemoryMoment:
    return MemoryMoment(run_id=run_id, moment="answered", memory=MEMORY)


def scored(batch: int, t: float, seconds: float, text: str = "") -> BatchScored:
    """Four samples of a classifier, a quarter of their tokens padding."""
    return BatchScored(
        run_id=1,
        batch=batch,
        n_samples=4,
        n_tokens=300,
        computed_tokens=400,
        seconds=seconds,
        memory=MEMORY,
        text=text,
        warmup=batch <= 0,
        t=t,
    )
