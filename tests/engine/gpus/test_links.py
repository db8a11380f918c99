"""What joins cards, and how fast."""

from __future__ import annotations

import pytest

from engine.gpus.catalogue import GPUS, find
from engine.gpus.links import NVLINK, NVLINKS, PCIE, link_between


def test_every_link_is_of_a_card_of_the_catalogue_and_says_where_it_is_from() -> None:
    assert NVLINKS.keys() <= GPUS.keys()
    assert all(link.source and link.rate > 0 for link in NVLINKS.values())


@pytest.mark.parametrize(
    ("card", "kind", "least", "most"),
    [
        ("a100-80gb", NVLINK, 208e9, 232e9),  # two and eight of them, as nccl-tests printed
        ("rtx-5090", PCIE, 28e9, 35e9),  # eight and four
    ],
)
def test_what_is_reached_is_what_others_measured(card: str, kind: str, least: float, most: float) -> None:
    link = link_between(find(card), 8)
    assert link is not None
    assert link.kind == kind
    assert least <= link.rate <= most
    assert "assumed" in link.note


def test_a_bridge_joins_two_and_has_to_be_told_of() -> None:
    card = find("rtx-3090")
    usual, bridged = link_between(card, 2), link_between(card, 2, NVLINK)
    assert usual is not None
    assert usual.kind == PCIE
    assert "--link nvlink" in usual.note
    assert bridged is not None
    assert bridged.rate > 2 * usual.rate
    four = link_between(card, 4)
    assert four is not None
    assert "--link" not in four.note
    assert link_between(card, 4, NVLINK) is None


def test_a_card_without_nvlink_has_none() -> None:
    assert link_between(find("tesla-p4"), 2, NVLINK) is None


def test_what_was_measured_is_taken() -> None:
    link = link_between(find("a100-80gb"), 8, measured=123e9)
    assert link is not None
    assert link.rate == 123e9
    assert "123 GB/s, measured" in link.note
