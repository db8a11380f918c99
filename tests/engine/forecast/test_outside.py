"""What is outside the allocator: known, given, or a range that the verdict follows."""

from __future__ import annotations

import json

import pytest

from engine.contract.config import RunConfig
from engine.contract.forecast_types import FITS, OUT_OF_MEMORY, Forecast
from engine.forecast.forecast import Assumptions, Forecaster
from engine.forecast.outside import outside_memory
from engine.gpus.catalogue import find
from engine.gpus.contexts import bare_context
from engine.gpus.units import MIB
from engine.tracing.stack import CURRENT, LECTURE_2023

CONFIG = RunConfig(model="bert-mini", seq_len=128, batch_size=16, samples=64)


@pytest.fixture(scope="module")
def forecaster() -> Forecaster:
    return Forecaster()


def _made(forecaster: Forecaster, gpu: str, limit_mib: float | None = None, **given: int) -> Forecast:
    limit = None if limit_mib is None else int(limit_mib * MIB)
    return forecaster.forecast(CONFIG, find(gpu), Assumptions(limit_bytes=limit, **given))


def test_where_it_was_measured_or_given_there_is_no_range(forecaster: Forecaster) -> None:
    assert _made(forecaster, "tesla-p4").used_range is None
    given = _made(forecaster, "rtx-3090", context_bytes=300 * MIB, library_bytes=100 * MIB)
    assert given.used_range is None
    assert given.outside == 400 * MIB
    assert not any("context" in note for note in given.notes)


def test_where_it_was_not_the_range_holds_what_is_assumed(forecaster: Forecaster) -> None:
    made = _made(forecaster, "rtx-3090")
    assert made.used_range is not None
    least, most = made.used_range
    assert least < made.peak_used <= most
    card = find("rtx-3090")
    assert made.outside == bare_context(card) + card.driver_bytes + CURRENT.libraries
    assert made.near_limit is False
    only_libraries = _made(forecaster, "rtx-3090", context_bytes=300 * MIB).used_range
    assert only_libraries is not None
    assert only_libraries[1] - only_libraries[0] == (240 - 109) * MIB


def test_the_verdict_follows_the_range(forecaster: Forecaster) -> None:
    """Beyond 5 % of the limit too: with both ends inside it fits, with both outside it does not."""
    free = _made(forecaster, "rtx-3090")
    assert free.used_range is not None
    least, most = (size / MIB for size in free.used_range)
    inside = _made(forecaster, "rtx-3090", most * 1.06)
    assert (inside.verdict, inside.near_limit) == (FITS, False)
    between = _made(forecaster, "rtx-3090", (least + free.peak_used / MIB) / 2)
    assert between.near_limit is True
    outside = _made(forecaster, "rtx-3090", least * 0.7)
    assert (outside.verdict, outside.near_limit) == (OUT_OF_MEMORY, False)


def test_a_verdict_is_unsure_where_the_ends_of_a_wide_range_differ() -> None:
    """The lecture's stack on another card: 335 to 1,439 MiB of kernels were seen."""
    card = find("rtx-3060-12gb")
    outside = outside_memory(card, LECTURE_2023, None, None, 0)
    assert outside.range is not None
    forecaster = Forecaster()
    free = forecaster.forecast(CONFIG, card, Assumptions(stack=LECTURE_2023.name))
    limit = free.peak_used + 300 * MIB
    made = forecaster.forecast(CONFIG, card, Assumptions(stack=LECTURE_2023.name, limit_bytes=limit))
    assert abs(made.peak_used - limit) > 0.05 * limit
    assert (made.verdict, made.near_limit) == (FITS, True)


def test_other_processes_move_the_whole_range() -> None:
    alone, beside = (outside_memory(find("rtx-3090"), CURRENT, None, None, size) for size in (0, 1000 * MIB))
    assert alone.range is not None
    assert beside.range == tuple(end + 1000 * MIB for end in alone.range)
    assert beside.context == alone.context + 1000 * MIB


def test_what_fits_only_by_giving_memory_back_says_what_that_costs(forecaster: Forecaster) -> None:
    free = _made(forecaster, "tesla-p4")
    tight = next(
        made
        for made in (_made(forecaster, "tesla-p4", free.peak_used / MIB - less) for less in (2, 4, 8, 12, 16, 20))
        if made.fits
    )
    assert tight.peak_used > tight.limit
    note = next(note for note in tight.notes if note.startswith("It fits although"))
    assert f"{(tight.peak_used - tight.limit) // MIB:,} MiB more" in note
    assert "times in an update" in note or "in the first updates only" in note


def test_a_card_without_code_for_it_is_said_to_be_one(forecaster: Forecaster) -> None:
    notes = _made(forecaster, "tesla-k80").notes
    assert any("no code for Tesla K80, of compute capability 3.7" in note for note in notes)
    then = forecaster.forecast(CONFIG, find("tesla-k80"), Assumptions(stack=LECTURE_2023.name)).notes
    assert not any("no code" in note for note in then)


def test_the_json_tells_it_all(forecaster: Forecaster) -> None:
    said = json.loads(json.dumps(_made(forecaster, "rtx-3090", 2000).to_json()))
    assert said["limit_mib"] == 2000
    assert said["used_range_mib"][0] < said["peak_used_mib"] <= said["used_range_mib"][1]
    assert said["n_parameters"] > 11e6
    assert any("Assumed, not measured" in note for note in said["notes"])
    assert _made(forecaster, "tesla-p4").to_json()["used_range_mib"] is None
