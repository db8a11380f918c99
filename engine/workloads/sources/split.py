"""Which rows of a table without classes train and which are held out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from engine.contract.config import ConfigError, RunConfig
from engine.workloads.sources.source import Source, Tables

HELD_OUT_SHARE = 0.1
"""Of the rows, as long as that is no more than `eval_samples`."""
Places = npt.NDArray[np.int64]


def split_rows(tables: Tables, source: Source, config: RunConfig) -> tuple[Places, Places, str]:
    """The places of the rows to train on and of those held out, all of them in random order, and how in words.

    A source with two parts is scored on its own second one. Raises `ConfigError` where there is one row alone.
    """
    if tables.evaluation is not None:
        train, held_out = (
            np.arange(n) if source.shuffled else np.random.default_rng(config.seed).permutation(n)
            for n in (len(tables.train), len(tables.evaluation))
        )
        return train, held_out, "its own test part is held out"
    n = len(tables.train)
    if n < 2:
        raise ConfigError("data", f"{source.name} has one row alone, and one has to be held out: give more.")
    order = np.random.default_rng(config.seed).permutation(n)
    n_scored = n_held_out(n, config)
    return order[n_scored:], order[:n_scored], f"{HELD_OUT_SHARE * 100:.0f} % are held out, by seed"


def n_held_out(n: int, config: RunConfig) -> int:
    """Rows that are held out of `n`."""
    return min(max(1, round(HELD_OUT_SHARE * n)), config.eval_samples)
