"""Pilots wait for what is to be done, not for time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.tui.idle import wait_for_idle


@pytest.fixture(autouse=True, scope="session")
def _waits_for_what_is_to_be_done() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module in ("textual.pilot", "textual.app"):
            patch.setattr(f"{module}.wait_for_idle", wait_for_idle)
        yield
