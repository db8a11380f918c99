"""Packed events come back equal, whatever they hold."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.contract.answers import AnswerShares
from engine.contract.events import (
    AnsweringStarted,
    BatchScored,
    CachesHold,
    EvalDone,
    Event,
    FigureLogged,
    Logged,
    MemoryMoment,
    Prefilled,
    QualityMeasured,
    RankBeat,
    RanksStarted,
    RequestDone,
    RunProgress,
    Sampled,
    Saved,
    ScriptKnown,
    TokensCompared,
    TokensDone,
    TrainingStarted,
    UpdateDone,
    WorkCounted,
)
from engine.contract.records import DeviceInfo, GpuSample, HostSample, Memory, Phase, RankInfo, RankShare, Shares
from engine.history.series import STORED, pack, unpack

RUN_ID = 7


def exact(value: Any) -> Any:
    """A value that compares by bits: NaN equals NaN, -0.0 differs from 0.0, and 1 from 1.0 and True."""
    if is_dataclass(value):
        return type(value).__name__, [exact(getattr(value, f.name)) for f in fields(value)]
    if isinstance(value, tuple):
        return "tuple", [exact(inner) for inner in value]
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
    shares = st.builds(Shares, data=number, forward=number, backward=number, optimizer=number, waiting=number)
    gpu = st.builds(GpuSample, name=st.none() | text, utilization=maybe_number, temperature=st.none() | st.integers())
    seconds = number.map(lambda value: round(value, 6))  # as far as those of ranks are kept
    share = st.builds(
        RankShare,
        rank=count,
        n_samples=count,
        n_tokens=count,
        update_s=seconds,
        shares=st.builds(Shares, data=seconds, forward=seconds, waiting=seconds),
        memory=memory,
    )
    card = st.builds(GpuSample, name=st.none() | text, power=st.none() | seconds)
    host = st.builds(HostSample, cpu=maybe_number, memory_used=maybe_count)
    run_id = st.just(RUN_ID)
    update = st.builds(
        UpdateDone,
        run_id=run_id,
        update=count,
        epoch=maybe_number,
        loss=maybe_number,
        learning_rate=maybe_number,
        grad_norm=maybe_number,
        loss_scale=maybe_number,
        n_samples=maybe_count,
        n_tokens=maybe_count,
        update_s=number,
        t=number,
        shares=shares,
        memory=memory,
        ranks=st.just(()) | st.lists(share, max_size=3).map(tuple),
    )
    sampled = st.builds(
        Sampled,
        run_id=run_id,
        t=maybe_number,
        gpu=st.none() | gpu,
        host=host,
        memory=memory,
        gpus=st.just(()) | st.lists(st.none() | card, max_size=3).map(tuple),
    )
    device = st.builds(DeviceInfo, name=text, index=maybe_count, uuid=st.none() | text)
    rank = st.builds(RankInfo, device=device, host=text, log_path=st.none() | text)
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
        | st.builds(ScriptKnown, run_id=run_id, n_parameters=maybe_count, planned_epochs=maybe_number, model=text)
        | st.builds(FigureLogged, run_id=run_id, figures=st.dictionaries(text, number, max_size=3), t=number)
        | st.builds(RanksStarted, run_id=run_id, ranks=st.lists(rank, max_size=3).map(tuple))
        | st.builds(RankBeat, run_id=run_id, phase=st.sampled_from(Phase), since_s=number)
        | st.builds(WorkCounted, run_id=run_id, flops_per_token=number, peak_flops_per_s=number)
        | st.builds(Saved, run_id=run_id, what=text, update=count, path=text, seconds=number, problem=st.none() | text)
        | st.builds(Logged, source=text, text=text, level=text)
    )
    return update | sampled | rare | answering(count, number, text, memory)


def answering(count: Any, number: Any, text: Any, memory: Any) -> st.SearchStrategy[Event]:
    """Events of a run that answers."""
    run_id, share = st.just(RUN_ID), st.builds(AnswerShares, prefill=number, draft=number)
    requests = st.lists(st.integers(), max_size=3).map(tuple)
    places = st.lists(st.tuples(count, count), max_size=3).map(tuple)
    return (
        st.builds(AnsweringStarted, run_id=run_id, draft_weights=st.none() | count, threads=st.none() | count)
        | st.builds(Prefilled, run_id=run_id, requests=requests, ttft_s=number, shares=share, memory=memory, text=text)
        | st.builds(
            TokensDone,
            run_id=run_id,
            requests=requests,
            gaps=st.lists(number, max_size=4).map(tuple),
            arrived=st.lists(count, max_size=4).map(tuple),
            shares=share,
            memory=memory,
            text=text,
            guessed=places,
            t=number,
        )
        | st.builds(RequestDone, run_id=run_id, prompt=text, text=text, hit=st.none() | text, e2e_s=number)
        | st.builds(CachesHold, run_id=run_id, held=count, t=number)
        | st.builds(BatchScored, run_id=run_id, seconds=number, memory=memory, text=text)
        | st.builds(TokensCompared, run_id=run_id, n_same=count, detail=text)
        | st.builds(QualityMeasured, run_id=run_id, text_name=text, agreement=number, perplexity=number)
    )


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
        "ScriptKnown",
        "FigureLogged",
        "WorkCounted",
        "Logged",
        "RanksStarted",
        "RankBeat",
        "AnsweringStarted",
        "Prefilled",
        "TokensDone",
        "RequestDone",
        "CachesHold",
        "BatchScored",
        "TokensCompared",
        "QualityMeasured",
    }


def tokens_done(n: int, first: int) -> TokensDone:
    """A tenth of a second of a batch of four, with guesses and text."""
    return TokensDone(
        run_id=RUN_ID,
        requests=(1, 2, 3, 4),
        gaps=tuple(0.0123456789012 + (first + at) / 3e5 for at in range(n)),
        arrived=(4,) * n,
        forwards=4 * n,
        proposed=0,
        accepted=0,
        kv_cache=2**20 + 4096 * first,
        shares=AnswerShares(decode=0.09 + first / 7e5, sampling=0.01 + first / 9e5),
        memory=Memory(used=2**30 + 4096 * first, total=2**34),
        text=" and so on"[: 2 * n],
        guessed=(),
        warmup=False,
        t=first * 0.0987654321,
    )


def test_a_second_of_answering_takes_a_kilobyte_and_a_half_at_the_most() -> None:
    """Ten events of ten arrivals each; a training at its fastest takes as much."""
    seconds = 32
    packed = pack([tokens_done(10, first) for first in range(10 * seconds)])
    assert len(packed) < 1536 * seconds


def of_ranks(update: int, n_ranks: int) -> UpdateDone:
    return UpdateDone(
        run_id=RUN_ID,
        update=update,
        epoch=update / 10,
        loss=0.5,
        learning_rate=1e-4,
        grad_norm=None,
        loss_scale=None,
        skipped=False,
        n_samples=8 * n_ranks,
        n_tokens=64 * n_ranks,
        update_s=0.25,
        warmup=False,
        t=update * 0.25,
        shares=Shares(forward=0.125),
        memory=Memory(used=1),
        ranks=tuple(
            RankShare(
                rank=rank,
                n_samples=8,
                n_tokens=64,
                update_s=0.25,
                shares=Shares(waiting=round(0.1 * rank + update / 1e6, 6)),
                memory=Memory(used=2**30 + rank),
            )
            for rank in range(n_ranks)
        ),
    )


def test_a_version_that_knows_no_ranks_reads_their_updates_as_it_reads_any_other() -> None:
    def without_ranks(batch: Any) -> None:
        for _, columns in batch["tables"]:
            for name in [name for name in columns if name.startswith("ranks")]:
                del columns[name]

    updates = [of_ranks(1, 2), of_ranks(2, 2), of_ranks(3, 3)]
    assert unpack(RUN_ID, pack(updates)) == updates
    assert unpack(RUN_ID, repacked(pack(updates), without_ranks)) == [replace(each, ranks=()) for each in updates]


def test_the_seconds_of_ranks_are_kept_to_the_microsecond() -> None:
    update = of_ranks(1, 1)
    third = replace(update.ranks[0], update_s=1 / 3)
    (read,) = unpack(RUN_ID, pack([replace(update, ranks=(third,), update_s=1 / 3)]))
    assert isinstance(read, UpdateDone)
    assert (read.update_s, read.ranks[0].update_s) == (1 / 3, 0.333333)


def test_an_update_of_eight_ranks_stays_cheap() -> None:
    alone, eight = (len(pack([of_ranks(update, n) for update in range(1, 2049)])) for n in (0, 8))
    assert eight - alone < 8 * 2048 * 32


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
