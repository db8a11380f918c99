"""Two ranks for all tests of a module: starting them is what takes long."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.engine.techniques.parallel.ranks import Ranks, ranks


@pytest.fixture(scope="module")
def two() -> Iterator[Ranks]:
    with ranks(2) as started:
        yield started
