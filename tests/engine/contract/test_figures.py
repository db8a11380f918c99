"""The one table of a run's figures: headings, values, how they are written, what they sort by."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from engine.contract import figures
from engine.contract.as_json import record_to_json
from engine.contract.config import RunConfig
from engine.contract.figures import (
    ACCURACY,
    CARD_SPEED,
    CARD_TIME,
    LOSS,
    MEAN_SPEED,
    MEMORY,
    SHARE,
    SPEED,
    STATUS,
    TIME,
    heading_of,
)
from engine.contract.records import Outcome, Phase
from engine.gpus.units import MIB
from tests.engine.lecture_runs import BASE, CPU, run, virtual


def test_samples_per_second_are_steady_where_that_is_known() -> None:
    known = run(samples_per_s=7.0, steady_samples_per_s=7.5)
    assert (SPEED.of(known), MEAN_SPEED.of(known)) == ("7.50", "7.00")
    for unknown in (replace(known, steady_samples_per_s=None), replace(known, updates=3)):
        assert (SPEED.of(unknown), MEAN_SPEED.of(unknown)) == ("7.00", "7.00")


def test_memory_is_named_as_the_devices_name_theirs() -> None:
    assert heading_of(MEMORY, []) == heading_of(MEMORY, [run(), run(device=None)]) == "VRAM MiB"
    assert heading_of(MEMORY, [run(device=CPU)]) == "RAM MiB"
    assert heading_of(MEMORY, [run(), run(device=CPU)]) == "memory MiB"
    assert heading_of(TIME, [run(device=CPU)]) == "time s"
    hostile = replace(CPU, memory_label="R\x1b[31m\nM")
    assert heading_of(MEMORY, [run(device=hostile)]).isprintable()


def test_what_is_timed_on_a_virtual_gpu_is_the_cpus_and_says_so() -> None:
    runs = virtual()
    assert [heading_of(entry, runs) for entry in (TIME, SPEED, MEAN_SPEED, figures.TOKENS)] == [
        "CPU time s",
        "CPU samples/s",
        "CPU mean samples/s",
        "CPU tokens/s",
    ]
    assert [figures.short_of(entry, runs) for entry in (TIME, SPEED, MEMORY)] == ["CPU s", "CPU /s", "MiB"]
    assert heading_of(MEMORY, runs) == "VRAM MiB"
    mixed = [*runs, run()]
    assert [heading_of(entry, mixed) for entry in (TIME, SPEED)] == ["time s", "samples/s"]
    assert figures.short_of(SPEED, mixed) == ""


def test_the_cards_own_figures_are_forecasts_and_marked_as_such() -> None:
    base, dear = virtual()
    assert [heading_of(entry, [base]) for entry in (CARD_SPEED, CARD_TIME)] == ["card samples/s", "card time s"]
    assert [(CARD_SPEED.of(row), CARD_TIME.of(row)) for row in (base, dear)] == [("~7.50", "~68.3"), ("~5.00", "~102")]
    assert CARD_TIME.read(base) == pytest.approx(512 / 7.5)  # for the samples that were trained on
    unknown = run()
    assert (CARD_SPEED.of(unknown), CARD_TIME.of(unknown)) == ("–", "–")


@pytest.mark.parametrize(("share", "text"), [(0.929, "92.9"), (0.9994, "99.9"), (0.9996, "100"), (1.2, "120")])
def test_the_share_fits_four_cells(share: float, text: str) -> None:
    assert SHARE.of(run(peak_used=int(share * 10**9), memory_total=10**9)) == text


def test_unknown_is_a_dash_and_never_zero() -> None:
    nothing = replace(run(), device=None, **dict.fromkeys(_OPTIONAL))
    cells = [entry.of(nothing) for entry in (TIME, SPEED, MEAN_SPEED, MEMORY, SHARE, LOSS, ACCURACY, figures.MFU)]
    assert set(cells) == {"–"}
    assert MEMORY.of(run(peak_used=0)) == "0"


_OPTIONAL = ("train_runtime_s", "samples_per_s", "steady_samples_per_s", "peak_used", "train_loss", "eval_accuracy")


def test_a_value_and_its_spread_have_the_same_digits() -> None:
    assert TIME.with_spread(66.7, 0.318) == "66.70 ±0.32"
    assert SPEED.with_spread(73.84, 1.26) == "73.8 ±1.3"
    assert LOSS.with_spread(0.00029, 0.00001) == "0.000290 ±0.000010"
    assert LOSS.with_spread(0.029, None) == "0.029"
    assert LOSS.with_spread(math.nan, 0.1) == "nan"


def test_an_accuracy_is_written_as_one() -> None:
    assert [ACCURACY.of(run(eval_accuracy=value)) for value in (0.621, 0.0004, 0.0, 1.0)] == [
        "0.621",
        "0.000",
        "0.000",
        "1.000",
    ]
    assert LOSS.of(run(train_loss=0.0004)) == "4.0e−04"


def test_the_status_says_where_a_run_died_and_sorts_by_its_outcome() -> None:
    died = run(outcome=Outcome.OUT_OF_MEMORY, failed_phase=Phase.BACKWARD)
    assert (STATUS.of(died), STATUS.sort_key(died)) == ("out of memory in backward", "out_of_memory")
    assert STATUS.of(run()) == "completed"


def test_knobs_of_every_table_have_a_short_heading_others_their_label_and_unit() -> None:
    short = (figures.BATCH, figures.ACCUMULATION, figures.CHECKPOINTING, figures.PRECISION)
    assert [entry.heading for entry in short] == ["batch", "acc", "ckpt", "prec"]
    length = figures.knob_entry("seq_len")
    assert (length.heading, length.of(run(config=RunConfig(seq_len=128)))) == ("sequence length tokens", "128")


def test_json_has_every_recorded_figure_under_its_name() -> None:
    values = record_to_json(run(config=BASE))
    names = list(values)
    recorded = [entry.name for entry in figures.RECORDED]
    first = names.index(recorded[0])
    assert names[first : first + len(recorded)] == recorded
    assert (values["peak_used_mib"], values["samples_per_s"]) == (7069, 7.68)


def test_memory_of_several_gpus_is_that_of_the_fullest_whose_rank_is_told() -> None:
    two = BASE.with_values(gpus=2, parallel="zero1")
    uneven = run(config=two, peak_used=7069 * MIB, peak_used_by_rank=(6000 * MIB, 7069 * MIB))
    assert MEMORY.of(uneven) == "7069 r1"
    assert heading_of(MEMORY, [run(), uneven]) == "VRAM MiB/GPU"
    even = replace(uneven, peak_used_by_rank=(7069 * MIB, 7069 * MIB - 1000))
    assert MEMORY.of(even) == MEMORY.of(run()) == "7069"
    unknown = replace(uneven, peak_used_by_rank=(None, 7069 * MIB))
    assert MEMORY.of(unknown) == "7069"


def test_gpus_are_those_that_were_taken_where_all_were_asked_for() -> None:
    every = run(config=BASE.with_values(gpus=None), peak_used_by_rank=(1, 2, 3))
    assert [figures.GPUS.of(each) for each in (run(), every, replace(every, peak_used_by_rank=()))] == ["1", "3", "–"]
    assert [figures.PARALLEL.of(each) for each in (run(), every)] == ["–", "ddp"]
    assert figures.WAITING.of(replace(every, wait_share=0.123)) == "12 %"


def test_json_tells_of_every_gpu_and_one_gpu_alone_has_nothing_to_tell() -> None:
    two = run(config=BASE.with_values(gpus=2), peak_used_by_rank=(MIB, None), wait_share=0.25, failed_rank=1)
    wanted = {
        "gpus": 2,
        "parallel": "ddp",
        "peak_used_mib_by_gpu": [1.0, None],
        "wait_share": 0.25,
        "scaling": 0.9,
        "failed_rank": 1,
    }
    assert {name: record_to_json(two, 0.9)[name] for name in wanted} == wanted
    assert {name: record_to_json(run())[name] for name in wanted} == dict.fromkeys(wanted) | {"gpus": 1}
