"""`traintop runs` on a terminal: columns are left out, never cut."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from tests.tui.fake_session import record
from tui.commands import runs


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_a_narrow_table_leaves_columns_out_and_cuts_none(width: int) -> None:
    rows = [replace(record(number), host_cores=2.0, host_free_cores=0.5) for number in range(1, 13)]
    console = Console(width=width, file=StringIO())
    with console.capture() as capture:
        console.print(runs.table(rows, width))
    heading, *lines = capture.get().splitlines()
    assert "…" not in heading + "".join(lines)
    assert [int(line.split()[0]) for line in lines] == list(range(1, 13))
    for name in ("#", "model", "batch", "MiB", "status"):
        assert name in heading
    assert ("ckpt" in heading, "time s" in heading) == (width > 60, width >= 120)
