"""What another batch size of a script would need, in the forecast's place: an estimate, and said to be one."""

from __future__ import annotations

from engine.contract.estimate import Estimate
from engine.contract.numbers import mib
from tui.drawing.cells import Line, first_that_fits


def estimate_lines(found: Estimate, total: int | None, width: int) -> list[Line]:
    """About, between which bounds, from what, and the largest batch that fits; `total`: bytes of the card."""
    batch: Line = [(f" batch {found.batch_size:,}", "value")]
    need: Line = [(" ~", "muted"), (mib(found.need), "value")]
    of: Line = [(" MiB reserved" if found.is_of_reserved else " MiB", "muted")]
    verdict = _verdict(found, total)
    ways = ([*batch, *need, *of, *verdict], [*batch, *need, *of[:1], *verdict], [*batch, *need, *verdict])
    between: Line = [(f" {mib(found.least)}–{mib(found.most)} MiB", "value")]
    origin = " and ".join(f"{each:,}" for each in found.measured_at)
    told: Line = [(f", an estimate from batch {origin}", "muted")]
    lines = [first_that_fits(list(ways), width)]
    if sum(len(text) for text, _ in (*between, *told)) <= width:
        lines.append([*between, *told])
    else:
        said: list[Line] = [[(f" estimate from batch {origin}", "muted")], [(" an estimate", "muted")]]
        lines += [between, first_that_fits(said, width)]
    if found.largest_batch:
        lines.append([(" up to batch ", "muted"), (f"{found.largest_batch:,}", "value"), (" fits", "muted")])
    return lines


def _verdict(found: Estimate, total: int | None) -> Line:
    if total is None:
        return []
    if found.most <= total:
        return [(" fits", "good")]
    return [(" too much", "bad")] if found.least > total else [(" may fit", "warn")]
