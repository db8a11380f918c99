"""How fast cards of this machine were found to add up numbers between them: kept for forecasts, by the cards.

A file of the cache: what is in it can be measured again, so that it may be lost or damaged.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path

from engine.contract.paths import cache_dir, make_private

log = logging.getLogger("traintop")


def number_of(uuid: str) -> int:
    """A number that stands for a card, below 2^48: ranks tell each other numbers alone."""
    return int.from_bytes(hashlib.sha256(uuid.encode()).digest()[:6], "big")


def known(cards: Iterable[int]) -> float | None:
    """Bytes/s of bus bandwidth among these cards, by their numbers; None where it was not measured."""
    try:
        rate = json.loads(_file().read_text()).get(_key(cards))
    except (OSError, ValueError, AttributeError):
        return None
    return float(rate) if isinstance(rate, (int, float)) and rate > 0 else None


def keep(cards: Iterable[int], rate: float) -> None:
    """Never raises: it is a help, no need."""
    path = _file()
    try:
        make_private(path.parent)
        try:
            held = json.loads(path.read_text())
        except (OSError, ValueError):
            held = {}
        new = path.with_suffix(f".{os.getpid()}")
        new.write_text(json.dumps({**(held if isinstance(held, dict) else {}), _key(cards): rate}))
        new.replace(path)
    except OSError as error:
        log.warning("how fast the cards are joined was not kept: %s", error)


def _key(cards: Iterable[int]) -> str:
    return "+".join(f"{card:012x}" for card in sorted(cards))


def _file() -> Path:
    return cache_dir() / "links.json"
