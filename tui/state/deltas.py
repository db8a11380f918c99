"""The differences between a row of the results table and the baseline, with their verdicts. Pure: no Textual."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from engine.contract.config import Value
from engine.contract.numbers import UNKNOWN, signed, signed_mib
from engine.contract.records import Outcome, RunRecord
from engine.contract.script_flags import bare
from tui.drawing.text import clean

if TYPE_CHECKING:
    from engine.compare.compare import Comparison, Quantity
    from engine.compare.scaling import OneGpu


def _work(row: RunRecord) -> tuple[Value, ...]:
    config = row.config
    if config.is_script:
        return (bare(config),)
    asked = (config.prompts, config.prompt) if config.answers else (config.workload, config.data)
    return config.model, config.task, *asked


class Deltas:
    """Comparisons of finished runs are kept: their figures do not change any more."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, int], Comparison] = {}
        self._alone: OneGpu | None = None
        self._alone_of: tuple[object, ...] = ()

    def measure_by(self, finished: Sequence[RunRecord], base: RunRecord | None) -> None:
        """Take the runs among which those on one GPU are, by which `scaling` measures; the baseline goes first."""
        if self._alone_of and self._alone_of[0] is finished and self._alone_of[1] is base:
            return
        from engine.compare.scaling import OneGpu

        self._alone, self._alone_of = OneGpu(finished, base), (finished, base)

    def scaling(self, row: RunRecord) -> str:
        """How much of its GPUs' speed a run gets: `92 %`; "–" where no run on one of them is known."""
        return self._alone.entry.of(row) if self._alone is not None else UNKNOWN

    def _compared(self, row: RunRecord, base: RunRecord) -> Comparison:
        from engine.compare.compare import compare, row_of  # not needed for the first paint

        key = row.run_id, base.run_id
        if key in self._kept and self._kept[key].row.first is row and self._kept[key].baseline.first is base:
            return self._kept[key]
        comparison = compare(row_of([row]), row_of([base]))
        if row.outcome is not Outcome.RUNNING:
            self._kept[key] = comparison
        return comparison

    def speed(self, row: RunRecord, base: RunRecord | None) -> str:
        """Samples/s in percent of the baseline's: `+25%`, `≈+1%` within noise, `?+3%` without enough data."""
        from engine.compare.compare import Quantity

        return self._percent(row, base, Quantity.SPEED)

    def generation(self, row: RunRecord, base: RunRecord | None) -> str:
        """The tokens/s that a run writes, in percent of the baseline's; of a classifier its samples/s."""
        from engine.compare.compare import Quantity

        writes = row.config.task != "classification"
        return self._percent(row, base, Quantity.GENERATION if writes else Quantity.SPEED)

    def card(self, row: RunRecord, base: RunRecord | None) -> str:
        """The same of the card that a virtual GPU stands for, by forecast."""
        from engine.compare.compare import Quantity

        return self._percent(row, base, Quantity.CARD_SPEED)

    def _percent(self, row: RunRecord, base: RunRecord | None, quantity: Quantity) -> str:
        if base is None or base.run_id == row.run_id:
            return "" if base is not None else UNKNOWN
        from engine.compare.rows import MARKS

        if row.outcome is Outcome.OUT_OF_MEMORY or _work(row) != _work(base):
            return UNKNOWN  # another model's samples, or other data's, are not the same thing
        found = self._compared(row, base).deltas[quantity]
        if found.percent is None:
            return UNKNOWN
        mark = MARKS.get(found.verdict, "")
        return f"{mark}{signed(found.percent, unit='%').replace(' ', '').replace('±', '')}"

    def memory(self, row: RunRecord, base: RunRecord | None) -> str:
        """Peak memory against the baseline's in MiB: `−3450`, `≈+1`; `?` where a run did not reach its end."""
        if base is None or base.run_id == row.run_id:
            return "" if base is not None else UNKNOWN
        from engine.compare.rows import MARKS, Quantity

        found = self._compared(row, base).deltas[Quantity.MEMORY]
        if found.difference is None:
            return UNKNOWN
        mark = MARKS.get(found.verdict, "")
        return f"{mark}{signed_mib(found.difference).removesuffix(' MiB').replace(',', '')}"

    def sentence(self, row: RunRecord, base: RunRecord | None) -> str:
        """What the row's knobs cost or gained against the baseline; empty where there is nothing to say."""
        if base is None or base.run_id == row.run_id or row.outcome is not Outcome.COMPLETED:
            return ""
        from engine.compare.compare import explain

        return clean(explain(self._compared(row, base)), 300)
