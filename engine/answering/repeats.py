"""Requests that ask what was asked before."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from engine.answering.requests import Request


def repeated(requests: Sequence[Request], share: float, seed: int) -> list[Request]:
    """As many requests, numbered in their order, of which `share` ask again what one before them asked.

    Which ones, and what, is drawn by the seed. The first cannot; prompts that have no place any more are the last ones.
    """
    n = len(requests)
    source = random.Random(seed)
    again = frozenset(source.sample(range(1, n), min(round(n * share), n - 1)))
    prompts = iter(requests)
    new: list[Request] = []
    found: list[Request] = []
    for place in range(n):
        if place in again:
            request = source.choice(new)
        else:
            new.append(request := next(prompts))
        found.append(replace(request, number=place + 1))
    return found
