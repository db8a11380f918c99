"""Whole answers, kept: a prompt that was asked before is answered by what was written then.

A run answers all its prompts with the same settings and takes the likeliest token, so that the prompt alone says what
would be written.
"""

from __future__ import annotations

import time
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.answering.requests import Request, Writing
from engine.answering.written import beginning
from engine.contract.events import RequestDone

if TYPE_CHECKING:
    from engine.answering.job import AnswerJob

MOST_BYTES = 256 * 2**20
"""That are kept; of more, the answers that were used last."""
_WHOLE = ("length", "stop")
"""Reasons for which an answer ends as it would again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What was written to a prompt."""

    ids: array[int]
    reason: str


class ResponseCache:
    """The answers of a run. `held` is what the token numbers take, four bytes each."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._answers: dict[bytes, Answer] = {}
        """By the prompt's token numbers; the one that was used last at the end."""
        self._most_bytes = most_bytes
        self.held = 0

    def find(self, request: Request) -> Answer | None:
        """The answer to this prompt; None where it is not known."""
        key = _key(request)
        answer = self._answers.pop(key, None)
        if answer is not None:
            self._answers[key] = answer
        return answer

    def keep(self, writing: Writing) -> None:
        """Keep an answer that is whole."""
        key = _key(writing.request)
        if writing.reason not in _WHOLE or key in self._answers:
            return
        self._answers[key] = answer = Answer(ids=array("i", writing.ids), reason=writing.reason)
        self.held += _bytes(key, answer)
        while self.held > self._most_bytes:
            oldest = next(iter(self._answers))
            self.held -= _bytes(oldest, self._answers.pop(oldest))


def answer_again(job: AnswerJob, responses: ResponseCache, request: Request) -> bool:
    """Answer a request by what is kept, and tell it; False where nothing is."""
    began = time.perf_counter()
    answer = responses.find(request)
    if answer is None:
        return False
    text = beginning(answer.ids, job.tokenizer)
    now = time.perf_counter()
    job.emit(
        RequestDone(
            run_id=job.run_id,
            request=request.number,
            prompt=request.text,
            text=text,
            prompt_tokens=len(request.input_ids),
            cached_tokens=len(request.input_ids),
            new_tokens=len(answer.ids),
            ttft_s=now - began,
            e2e_s=now - began,
            reason=answer.reason,
            hit="response",
            warmup=False,
            compile_s=None,
            t=now - job.began,
        )
    )
    return True


def _key(request: Request) -> bytes:
    return array("i", request.input_ids).tobytes()


def _bytes(key: bytes, answer: Answer) -> int:
    return len(key) + len(answer.ids) * answer.ids.itemsize
