"""What contexts were seen to take, and the ranges that follow for other cards."""

from __future__ import annotations

import pytest

from engine.gpus.catalogue import GPUS, find
from engine.gpus.contexts import (
    CUDA_10,
    CUDA_11,
    LAZY,
    SEEN,
    Seen,
    bare_context,
    context_range,
    driver_range,
)
from engine.gpus.units import MIB


@pytest.mark.parametrize("seen", SEEN, ids=lambda seen: f"{seen.card}-{seen.mib}")
def test_a_measurement_lies_within_the_range_of_its_card(seen: Seen) -> None:
    least, most = context_range(find(seen.card), seen.cuda)
    assert least <= seen.mib * MIB <= most


def test_with_lazy_loading_a_context_is_2_kib_for_each_thread() -> None:
    """In-sample for the rows that it was found on; the H200's was measured by this project."""
    for seen in SEEN:
        if seen.cuda == LAZY:
            assert abs(seen.mib * MIB - bare_context(find(seen.card))) <= 10 * MIB


def test_pycuda_takes_a_bare_context() -> None:
    assert bare_context(find("titan-v")) == 320 * MIB  # pytorch/pytorch#28394


def test_older_builds_take_more() -> None:
    card = find("rtx-3090")
    assert context_range(card, LAZY)[1] < context_range(card, CUDA_10)[0] < context_range(card, CUDA_11)[1]


def test_what_the_driver_keeps_is_known_or_bounded_by_cards_of_that_size() -> None:
    known = find("a100-80gb")
    assert driver_range(known) == (known.driver_bytes, known.driver_bytes)
    for gpu in GPUS.values():
        if gpu.usable_bytes is None:
            least, most = driver_range(gpu)
            assert least == 0
            assert 200 * MIB <= most <= 0.02 * gpu.memory_total + 200 * MIB
