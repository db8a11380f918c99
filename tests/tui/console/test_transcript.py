"""The transcript in the lecture's shape, the JSON stream, and how far a run is."""

from __future__ import annotations

import ast
import io
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from engine.contract.config import RunConfig
from engine.contract.events import (
    EngineFailed,
    EngineLoading,
    EngineReady,
    EvalDone,
    Event,
    EventsDropped,
    Logged,
    MemoryMoment,
    MicroStepDone,
    RanksStarted,
    RunFinished,
    RunProgress,
    RunRefused,
    RunStarted,
    Sampled,
    TrainingStarted,
    UpdateDone,
)
from engine.contract.records import (
    DeviceInfo,
    HostSample,
    Memory,
    Outcome,
    Phase,
    Place,
    RankInfo,
    RankShare,
    RunRecord,
    Shares,
)
from tui.console.progress import Pace, ProgressLines
from tui.console.report import Report, dump, json_line
from tui.console.transcript import Transcript

MIB = 2**20
P4 = DeviceInfo(name="Tesla P4", kind="cuda", index=0, memory_total=7611 * MIB)
CONFIG = RunConfig(model="bert-base-uncased", batch_size=1)
LECTURE = RunRecord(
    run_id=7,
    config=CONFIG,
    outcome=Outcome.COMPLETED,
    device=P4,
    updates=512,
    planned_updates=512,
    train_runtime_s=109.62,
    samples_per_s=512 / 109.62,
    train_loss=0.029,
    peak_used=3281 * MIB,
    peak_reserved=2864 * MIB,
    peak_allocated=2700 * MIB,
    memory_total=7611 * MIB,
)


def _moment(moment: str, mib: int | None) -> MemoryMoment:
    return MemoryMoment(run_id=7, moment=moment, memory=Memory(used=None if mib is None else mib * MIB))


def _update(number: int, **values: Any) -> UpdateDone:
    done = UpdateDone(
        run_id=7,
        update=number,
        epoch=number / 512,
        loss=0.5,
        learning_rate=5e-5,
        grad_norm=None,
        loss_scale=None,
        skipped=False,
        n_samples=1,
        n_tokens=512,
        update_s=0.2,
        warmup=False,
        t=number * 0.2,
        shares=Shares(),
        memory=Memory(),
    )
    return replace(done, **values)


STARTED = RunStarted(run_id=7, config=CONFIG, device=P4, started_at=0.0)
TRAINING = TrainingStarted(
    run_id=7, n_parameters=109_483_778, n_train=512, n_eval=0, planned_updates=512, micro_steps_per_epoch=512
)
RUN: list[Event] = [
    STARTED,
    _moment("start", 0),
    _moment("context", 417),
    RunProgress(run_id=7, phase=Phase.LOAD, detail="Weights of google-bert/bert-base-uncased from the hub cache."),
    _moment("model", 887),
    TRAINING,
    *(_update(number) for number in range(1, 513)),
    _moment("trained", 3281),
    RunFinished(record=LECTURE),
]


def _lines(events: Sequence[Event]) -> list[str]:
    transcript = Transcript()
    return [line for event in events for line in transcript.lines(event)]


VIRTUAL = replace(P4, kind="virtual", index=None)


TWO = replace(CONFIG, gpus=2, parallel="zero1", gradient_accumulation_steps=4)
RANKS = RanksStarted(
    run_id=7,
    ranks=tuple(
        RankInfo(rank=rank, device=replace(P4, index=card), host="lab", pid=100 + rank)
        for rank, card in enumerate((0, 2))
    ),
)
ON_TWO = replace(LECTURE, config=TWO, peak_used_by_rank=(3000 * MIB, 3281 * MIB), wait_share=0.123)


def test_of_several_gpus_the_transcript_tells_every_memory_what_was_waited_and_how_well_they_scale() -> None:
    transcript = Transcript(lambda record: 0.914)
    events = [replace(STARTED, config=TWO), RANKS, _moment("model", 887), RunFinished(record=ON_TWO)]
    lines = [line for event in events for line in transcript.lines(event)]
    assert lines[0] == (
        "Run 7 on 2 × Tesla P4 (cuda, 7611 MiB VRAM each), zero1: 8 samples an update "
        "(batch 1 × accumulation 4 × 2 GPUs)"
    )
    assert lines[2] == "Rank 0 on cuda:0 is process 100, rank 1 on cuda:2 is process 101"
    assert lines[3] == "VRAM of rank 0 after the model: 887 MiB"
    assert lines[-3:] == [
        "Peak VRAM used by GPU, in MiB: 3000, 3281",
        "Waiting for other GPUs: 12 % of the time of an update",
        "Scaling: 91 % of 2 times the speed of one GPU at this batch size",
    ]

    events[-1] = RunFinished(record=replace(ON_TWO, device=replace(STARTED.device, kind="cpu")))
    assert "Peak VRAM used by rank, in MiB: 3000, 3281" in [
        line for event in events for line in transcript.lines(event)
    ]


def test_ranks_on_several_machines_say_where_and_a_virtual_one_has_no_number() -> None:
    first, second = RANKS.ranks
    here = replace(first, device=replace(P4, kind="virtual", index=None))
    there = replace(second, host="lab2\x1b[31m", device=replace(P4, kind="virtual", index=None))
    (line,) = Transcript().lines(RanksStarted(run_id=7, ranks=(here, there)))
    assert line == "Rank 0 on lab is process 100, rank 1 on lab2 is process 101"
    (line,) = Transcript().lines(RanksStarted(run_id=7, ranks=(here, replace(there, host="lab"))))
    assert line == "Rank 0 is process 100, rank 1 is process 101"


def test_json_of_several_gpus_has_every_rank_and_the_scaling() -> None:
    share = RankShare(
        rank=1, n_samples=1, n_tokens=512, update_s=0.2, shares=Shares(waiting=0.05), memory=Memory(used=3 * MIB)
    )
    (told,) = json.loads(json_line(_update(1, ranks=(share,))))["ranks"]
    assert (told["rank"], told["shares"]["waiting"], told["memory"]["used_mib"]) == (1, 0.05, 3.0)
    assert json.loads(json_line(RunFinished(record=ON_TWO), lambda record: 0.5))["scaling"] == 0.5
    assert json.loads(json_line(RunFinished(record=ON_TWO)))["scaling"] is None
    assert [each["device"]["index"] for each in json.loads(json_line(RANKS))["ranks"]] == [0, 2]


def test_on_a_virtual_gpu_the_transcript_says_whose_the_time_is() -> None:
    record = replace(LECTURE, device=VIRTUAL, train_runtime_s=512.0, samples_per_s=1.0, forecast_samples_per_s=4.6)
    lines = _lines([replace(STARTED, device=VIRTUAL), RunFinished(record=record)])
    assert lines[2:5] == [
        "Time: 512.00 (CPU)",
        "Samples/second: 1.00 (CPU)",
        "The card, by forecast: time ~111, samples/second ~4.60",
    ]
    unknown = _lines([RunFinished(record=replace(record, forecast_samples_per_s=None))])
    assert not any("forecast" in line for line in unknown)


def test_progress_on_a_virtual_gpu_says_whose_speed_it_is() -> None:
    pace = Pace()
    for event in (replace(STARTED, device=VIRTUAL), TRAINING, _update(1)):
        pace.fold(event)
    assert pace.text() == "update 1/512  loss 0.500  5.00 CPU samples/s"


def test_a_run_reads_as_in_the_lecture() -> None:
    assert _lines(RUN) == [
        "Run 7 on Tesla P4 (cuda, 7611 MiB VRAM)",
        "Knobs: --model bert-base-uncased --batch-size 1",
        "VRAM at start: 0 MiB",
        "VRAM after the context: 417 MiB",
        "Weights of google-bert/bert-base-uncased from the hub cache.",
        "VRAM after the model: 887 MiB",
        "Training 109,483,778 parameters on 512 samples: 512 updates",
        "VRAM after training: 3281 MiB",
        "Time: 109.62",
        "Samples/second: 4.67",
        "{'train_runtime': 109.62, 'train_samples_per_second': 4.6707, 'train_steps_per_second': 4.6707, "
        "'train_loss': 0.029, 'epoch': 1.0}",
        "Peak VRAM in MiB: used 3281, reserved 2864, allocated 2700 of 7611 (43.1 %)",
    ]


def test_the_summary_is_a_dictionary_that_programs_can_read_as_the_trainers() -> None:
    evaluated = EvalDone(run_id=7, epoch=1.0, update=512, accuracy=0.621, loss=0.9, n_samples=1000, eval_s=3.0, t=110.0)
    assert ast.literal_eval(_lines([STARTED, evaluated])[-1]) == {
        "eval_loss": 0.9,
        "eval_accuracy": 0.621,
        "epoch": 1.0,
    }


def test_an_out_of_memory_says_so_and_claims_no_speed() -> None:
    message = "Out of memory in forward of micro-step 1 (update 1): tried to allocate 20.00 MiB; 16.81 MiB free"
    oom = RunRecord(
        run_id=8,
        config=CONFIG,
        outcome=Outcome.OUT_OF_MEMORY,
        device=P4,
        peak_used=7594 * MIB,
        memory_total=7611 * MIB,
        train_runtime_s=0.4,
        message=message,
    )
    lines = _lines([STARTED, TRAINING, _moment("trained", 7594), RunFinished(record=oom)])
    assert lines[-4:] == [
        "VRAM at the end: 7594 MiB",
        "Peak VRAM in MiB: used 7594 of 7611 (99.8 %)",
        "Run 8: out of memory",
        message,
    ]
    assert not [line for line in lines if line.startswith(("Time", "Samples", "{"))]


def test_what_is_unknown_is_a_dash_and_what_does_not_exist_is_left_out() -> None:
    cpu = DeviceInfo(name="Intel Xeon", kind="cpu", memory_label="RAM")
    record = replace(LECTURE, peak_used=None, peak_reserved=None, peak_allocated=None, train_loss=None)
    lines = _lines(
        [replace(STARTED, device=cpu, config=RunConfig()), _moment("start", None), RunFinished(record=record)]
    )
    assert lines[:3] == ["Run 7 on Intel Xeon (cpu)", "Knobs: all at their defaults", "RAM at start: – MiB"]
    assert not [line for line in lines if "Peak" in line or "train_loss" in line]


def test_text_from_files_and_models_cannot_steer_the_terminal() -> None:
    hostile = "\x1b]0;owned\x07 evil\x1b[2J\nname\u202e"
    record = replace(LECTURE, outcome=Outcome.FAILED, message=hostile)
    events: list[Event] = [
        replace(STARTED, config=RunConfig(model=hostile)),
        RunProgress(run_id=7, phase=Phase.DATA, detail=hostile),
        RunFinished(record=record),
    ]
    for line in _lines(events):
        assert line.isprintable(), line


def test_frequent_events_add_no_lines() -> None:
    quiet: list[Event] = [
        _update(1),
        MicroStepDone(run_id=7, micro_step=1, micro_steps=512, t=0.1),
        Logged(source="engine", text="hello"),
        EventsDropped(count=3),
        EngineLoading(what="PyTorch"),
    ]
    assert _lines(quiet) == []


# JSON -------------------------------------------------------------------------------------------------------------


def test_every_event_is_one_line_of_json_with_its_name() -> None:
    ready = EngineReady(device=P4, torch_version="2.13.0", import_s=2.5)
    for event in [ready, *RUN]:
        line = json_line(event)
        assert "\n" not in line
        assert line.isascii()
        assert json.loads(line)["event"]
    assert json.loads(json_line(RUN[0]))["event"] == "run_started"


def test_the_last_object_has_the_fields_that_programs_rely_on() -> None:
    finished = json.loads(json_line(RUN[-1]))
    named = (
        "event run_id outcome config train_runtime_s samples_per_s steady_samples_per_s updates train_loss "
        "eval_accuracy peak_used_mib peak_reserved_mib peak_allocated_mib vram_total_mib message"
    )
    assert set(named.split()) <= set(finished)
    assert finished["event"] == "run_finished"
    assert finished["outcome"] == "completed"
    assert (finished["peak_used_mib"], finished["vram_total_mib"]) == (3281, 7611)
    assert finished["eval_accuracy"] is None
    assert finished["config"]["batch_size"] == 1


def test_numbers_that_json_does_not_have_become_null() -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    event = _update(1, loss=math.nan, grad_norm=math.inf, loss_scale=-math.inf)
    read = json.loads(json_line(event), parse_constant=refuse)
    assert (read["loss"], read["grad_norm"], read["loss_scale"], read["epoch"]) == (None, None, None, 1 / 512)
    assert (
        dump({"a": [1.0, math.nan, {"b": (math.inf,)}], "c": "NaN"}) == '{"a": [1.0, null, {"b": [null]}], "c": "NaN"}'
    )


# what goes where --------------------------------------------------------------------------------------------------


class _Closed(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


class _Full(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def _reported(events: Sequence[Event], *, as_json: bool) -> tuple[list[str], list[str]]:
    out, err = io.StringIO(), io.StringIO()
    report = Report(out, err, as_json=as_json)
    for event in events:
        report.show(event)
    return out.getvalue().splitlines(), err.getvalue().splitlines()


def test_stdout_has_the_transcript_and_stderr_a_line_for_every_tenth() -> None:
    out, err = _reported(RUN, as_json=False)
    assert out == _lines(RUN)
    assert len(err) == 10
    assert err[0].startswith(" 10 %  update 52/512  loss 0.500  5.00 samples/s")
    assert err[-1].startswith("100 %  update 512/512")


def test_the_share_that_is_done_is_that_of_the_updates_beside_it() -> None:
    steps = [MicroStepDone(run_id=7, micro_step=number, micro_steps=8, t=float(number)) for number in range(1, 9)]
    updates = [_update(number, epoch=number / 8) for number in range(1, 9)]
    training = replace(TRAINING, planned_updates=8, n_train=8, micro_steps_per_epoch=8)
    both = [event for pair in zip(steps, updates, strict=True) for event in pair]
    _, err = _reported([STARTED, training, *both], as_json=False)
    shares = (" 12", " 25", " 37", " 50", " 62", " 75", " 87", "100")
    assert [line.partition("  loss")[0] for line in err] == [
        f"{share} %  update {number}/8" for number, share in enumerate(shares, 1)
    ]


def test_as_json_stdout_has_one_object_per_event_and_stderr_only_messages() -> None:
    warned = Logged(source="history", text="the disk is full", level="warning")
    out, err = _reported([EngineLoading(what="PyTorch"), *RUN[:-1], warned, RUN[-1]], as_json=True)
    assert len(out) == len(RUN) + 2
    assert json.loads(out[-1])["event"] == "run_finished"
    assert err == ["loading PyTorch …", "warning: the disk is full"]


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize(
    "event",
    [
        RunRefused(run_id=None, config=CONFIG, knob="precision", message="--precision fp16 needs a CUDA GPU."),
        EngineFailed(message="--precision fp16 needs a CUDA GPU."),
    ],
)
def test_a_refusal_is_told_to_people(event: Event, as_json: bool) -> None:
    out, err = _reported([event], as_json=as_json)
    assert err == ["--precision fp16 needs a CUDA GPU."]
    assert len(out) == (1 if as_json else 0)


def test_as_json_people_learn_why_a_run_ended_badly() -> None:
    record = replace(LECTURE, outcome=Outcome.OUT_OF_MEMORY, message="Out of memory in forward.")
    assert _reported([RunFinished(record=record)], as_json=True)[1] == ["Out of memory in forward."]


@pytest.mark.parametrize(("stream", "told"), [(_Closed(), ""), (_Full(), "No space left on device")])
def test_a_reader_that_went_away_is_noticed_and_left_alone(stream: io.StringIO, told: str) -> None:
    err = io.StringIO()
    report = Report(stream, err, as_json=True)
    report.show(RUN[0])
    assert report.lost
    report.show(RUN[1])
    report.say("hello")
    assert told in err.getvalue()
    assert "hello" not in err.getvalue()


def test_on_a_terminal_a_bar_is_drawn_and_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr("tui.console.progress.REFRESH_S", 0.0)
    out, err = io.StringIO(), Terminal()
    report = Report(out, err, as_json=False)
    for event in RUN:
        report.show(event)
    assert out.getvalue().splitlines() == _lines(RUN)
    drawn = err.getvalue()
    assert "update 256/512" in drawn
    assert drawn.rstrip("\n").endswith(("\x1b[2K", "\x1b[?25h"))  # the line is erased, the cursor is back


# pace -------------------------------------------------------------------------------------------------------------


def test_micro_steps_move_a_run_whose_updates_are_far_apart() -> None:
    pace = Pace()
    assert pace.remaining_s is None
    pace.fold(replace(STARTED, config=CONFIG.with_values(gradient_accumulation_steps=256)))
    pace.fold(replace(TRAINING, planned_updates=2))
    assert pace.fold(MicroStepDone(run_id=7, micro_step=128, micro_steps=512, t=10.0))
    assert pace.fraction == 0.25
    assert pace.clock() == "00:10 < ~00:30"
    assert pace.text().startswith("micro-step 128/512, update 0/2  ")
    assert not pace.fold(MicroStepDone(run_id=7, micro_step=256, micro_steps=512, t=20.0))  # the update's last one
    assert pace.fold(_update(1, epoch=0.5, t=20.0))
    assert pace.fraction == 0.5
    assert pace.text().startswith("update 1/2  ")
    assert not pace.fold(_moment("trained", 1))


def test_epochs_count_as_parts_of_the_whole() -> None:
    pace = Pace()
    pace.fold(replace(STARTED, config=RunConfig(epochs=4)))
    pace.fold(_update(512, epoch=1.0, t=5.0))
    assert (pace.fraction, pace.remaining_s) == (0.25, 15.0)


def _reading(t: float, layer: int) -> Sampled:
    place = Place(phase=Phase.BACKWARD, layer=layer, layers=12)
    return Sampled(run_id=7, t=t, gpu=None, host=HostSample(), memory=Memory(), place=place)


def test_a_step_that_lasts_says_where_it_is_after_each_half_minute() -> None:
    err = io.StringIO()
    lines = ProgressLines(err)
    for event in (STARTED, TRAINING, *(_reading(float(t), 12 - t // 10) for t in range(1, 80)), _update(60, t=80.0)):
        lines.show(event)
    assert err.getvalue().splitlines() == [
        "  0 %  update 0/512, layer 9 of 12, backward  loss –  – samples/s  00:30 < ~–",
        "  0 %  update 0/512, layer 6 of 12, backward  loss –  – samples/s  01:00 < ~–",
        " 11 %  update 60/512  loss 0.500  0.0125 samples/s  01:20 < ~10:02",
    ]


def test_within_a_step_the_time_to_go_runs_down() -> None:
    pace = Pace()
    for event in (STARTED, TRAINING, _update(256, t=100.0)):
        pace.fold(event)
    assert pace.clock() == "01:40 < ~01:40"
    assert pace.fold(_reading(110.0, 3))
    assert pace.clock() == "01:50 < ~01:30"
    assert ", layer 3 of 12, backward  loss" in pace.text()
    assert not pace.fold(Sampled(run_id=7, t=111.0, gpu=None, host=HostSample(), memory=Memory()))


def test_a_long_step_over_several_tenths_makes_one_line() -> None:
    err = io.StringIO()
    lines = ProgressLines(err)
    lines.show(STARTED)
    lines.show(_update(300))
    lines.show(_update(301))
    assert len(err.getvalue().splitlines()) == 1


def test_a_busy_host_is_told_at_the_end() -> None:
    busy = replace(LECTURE, device=DeviceInfo(name="Xeon", kind="cpu"), host_cores=2.0, host_free_cores=0.1)
    told = "Host busy 95 %: other programs took 1.9 of 2 cores, and on a quiet host it would be faster."
    assert told in _lines([RunFinished(record=busy)])
    assert not [line for line in _lines([RunFinished(record=LECTURE)]) if "Host busy" in line]
    finished = json.loads(json_line(RunFinished(record=busy)))
    assert finished["host_busy"] == pytest.approx(0.95)
    assert json.loads(json_line(RunFinished(record=LECTURE)))["host_busy"] is None


def test_the_transcript_ends_with_what_the_accuracy_is_worth() -> None:
    poor = replace(LECTURE, eval_accuracy=0.762, n_eval=210, eval_majority=0.75)
    said = (
        "Accuracy 0.762 of 210 held out (95 % interval 0.700–0.815): no better than always answering the majority class"
    )
    assert any(line.startswith(said) for line in _lines([*RUN[:-1], RunFinished(record=poor)]))
    assert not any("Accuracy" in line for line in _lines(RUN))
