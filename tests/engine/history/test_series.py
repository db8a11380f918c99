"""Packed events come back equal, whatever they hold."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.contract.events import (
    EvalDone,
    Event,
    Logged,
    MemoryMoment,
    RunProgress,
    Sampled,
    Saved,
    TrainingStarted,
    UpdateDone,
    WorkCounted,
)
from engine.contract.records import GpuSample, HostSample, Memory, Phase, Shares
from engine.history.series import STORED, pack, unpack

RUN_ID = 7


def exact(value: Any) -> Any:
    """A value that compares by bits: NaN equals NaN, -0.0 differs from 0.0, and 1 from 1.0 and True."""
    if is_dataclass(value):
        return type(value).__name__, [exact(getattr(value, f.name)) for f in fields(value)]
    if isinstance(value, dict):
        return [(key, exact(inner)) for key, inner in value.items()]
    if isinstance(value, float):
        return "nan" if value != value else struct.pack("<d", value)
    return type(value).__name__, value.value if isinstance(value, Enum) else value


def events() -> st.SearchStrategy[Event]:
    count = st.integers(0, 2**70)
    number = st.floats(allow_nan=True, allow_infinity=True)
    maybe_count, maybe_number = st.none() | count, st.none() | number
    text = st.text() | st.sampled_from(["\x1b[2J\x00", "\ud800", "[bold]'\"\\", "e\u0301\u202e"])
    memory = st.builds(
        Memory,
        used=maybe_count,
        reserved=maybe_count,
        allocated=maybe_count,
        total=maybe_count,
        by_category=st.none() | st.dictionaries(text, count, max_size=3),
    )
    shares = st.builds(Shares, data=number, forward=number, backward=number, optimizer=number)
    gpu = st.builds(GpuSample, name=st.none() | text, utilization=maybe_number, temperature=st.none() | st.integers())
    host = st.builds(HostSample, cpu=maybe_number, memory_used=maybe_count)
    run_id = st.just(RUN_ID)
    update = st.builds(
        UpdateDone,
        run_id=run_id,
        update=count,
        epoch=number,
        loss=number,
        learning_rate=number,
        grad_norm=maybe_number,
        loss_scale=maybe_number,
        n_samples=count,
        n_tokens=count,
        update_s=number,
        t=number,
        shares=shares,
        memory=memory,
    )
    sampled = st.builds(Sampled, run_id=run_id, t=maybe_number, gpu=st.none() | gpu, host=host, memory=memory)
    rare = (
        st.builds(RunProgress, run_id=run_id, phase=st.sampled_from(Phase), detail=text)
        | st.builds(MemoryMoment, run_id=run_id, moment=text, memory=memory)
        | st.builds(
            EvalDone,
            run_id=run_id,
            epoch=number,
            accuracy=maybe_number,
            loss=number,
            eval_s=number,
            t=number,
            macro_f1=maybe_number,
            confusion=st.none() | st.just(((3, 1), (0, 2))),
        )
        | st.builds(TrainingStarted, run_id=run_id, n_parameters=count)
        | st.builds(WorkCounted, run_id=run_id, flops_per_token=number, peak_flops_per_s=number)
        | st.builds(Saved, run_id=run_id, what=text, update=count, path=text, seconds=number, problem=st.none() | text)
        | st.builds(Logged, source=text, text=text, level=text)
    )
    return update | sampled | rare


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(batch=st.lists(events(), max_size=8))
def test_any_events_come_back_equal_and_in_order(batch: list[Event]) -> None:
    assert exact_all(unpack(RUN_ID, pack(batch))) == exact_all(batch)


def exact_all(batch: list[Any]) -> list[Any]:
    return [exact(event) for event in batch]


def test_every_stored_kind_is_tried_above() -> None:
    assert {kind.__name__ for kind in STORED} == {
        "UpdateDone",
        "Sampled",
        "RunProgress",
        "MemoryMoment",
        "EvalDone",
        "Saved",
        "TrainingStarted",
        "WorkCounted",
        "Logged",
    }


def repacked(payload: bytes, change: Any) -> bytes:
    batch = json.loads(zlib.decompress(payload))
    change(batch)
    return zlib.compress(json.dumps(batch).encode())


def two_events() -> list[Event]:
    return [
        Logged(source="engine", text="hello"),
        EvalDone(run_id=RUN_ID, epoch=1.0, update=3, accuracy=0.5, loss=0.1, n_samples=4, eval_s=0.2, t=9.0),
    ]


def test_a_field_of_a_newer_version_is_ignored_and_a_defaulted_one_of_an_older_filled() -> None:
    def change(batch: Any) -> None:
        name, columns = batch["tables"][0]
        assert name == "Logged"
        columns["colour"] = ["red"]
        del columns["level"]

    assert unpack(RUN_ID, repacked(pack(two_events()), change)) == two_events()


def test_an_unknown_kind_or_word_leaves_the_others_in_place() -> None:
    def rename(batch: Any) -> None:
        batch["tables"][0][0] = "HologramShown"

    assert unpack(RUN_ID, repacked(pack(two_events()), rename)) == [None, two_events()[1]]

    def new_phase(batch: Any) -> None:
        batch["tables"][0][1]["phase"] = ["teleport"]

    progress = RunProgress(run_id=RUN_ID, phase=Phase.LOAD, detail="loading")
    payload = repacked(pack([progress, *two_events()]), new_phase)
    assert unpack(RUN_ID, payload) == [None, *two_events()]


@pytest.mark.parametrize(
    "payload", [b"", b"garbage", zlib.compress(b"{}"), zlib.compress(b"[1"), pack(two_events())[:-3]]
)
def test_a_damaged_row_says_so(payload: bytes) -> None:
    with pytest.raises(ValueError, match="run 7"):
        unpack(RUN_ID, payload)
