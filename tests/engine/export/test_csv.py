"""Runs as CSV and JSON, read back to the same values."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.contract.as_json import record_to_json
from engine.contract.config import RunConfig
from engine.contract.knob import SCRIPT
from engine.contract.records import Phase, RunRecord
from engine.contract.script_figures import HELD, ScriptFigures
from engine.contract.script_flags import turned
from engine.export.export import read_csv, to_csv, to_json
from engine.gpus.units import MIB
from tests.engine.lecture_runs import BASE, HOSTILE, lecture, run, virtual


def expected(record: RunRecord) -> dict[str, Any]:
    values = record_to_json(record)
    config = values.pop("config")
    del values["classes"], values["confusion"]  # tables
    values["device_name"] = values.pop("device")
    for name in ("ttft_s", "tpot_s", "itl_s", "e2e_s"):
        seconds = values.pop(name)
        values |= {f"{name}_{which}": seconds and seconds[which] for which in ("p50", "p90", "p99")}
    for name in ("own_knobs", "script_held_mib"):
        del values[name]
    values |= dict.fromkeys(f"script_{category}_mib" for category in HELD)
    return {**values, **config}  # `gpus` and `parallel` are the knobs' own


def test_csv_reads_back_to_the_same_values() -> None:
    records = [
        *lecture(),
        run(4, message="Out of memory, in backward.\nSecond line", failed_phase=Phase.BACKWARD, n_parameters=10**11),
        run(5, BASE.with_values(learning_rate=1 / 3, dropout=False, data="a;b,c\"d'e\tf"), device=None),
    ]
    assert read_csv(to_csv(records)) == [expected(record) for record in records]


def test_csv_of_scripts_has_their_own_knobs_and_leaves_out_what_the_command_does_not_say() -> None:
    config = RunConfig(job=SCRIPT, command="python train.py --b={batch_size} --n={width=64,128} --u={updates=1,2}")
    seen = ScriptFigures(exit_code=3, batch_size=4, held={"weights": 5 * MIB}, figures={"eval_loss": 0.25})
    rows = read_csv(to_csv([run(1, turned(config, "width", "128"), script=seen), run(2)]))
    assert [row["width"] for row in rows] == ["128", None]
    assert [row["own_updates"] for row in rows] == ["1", None]  # there is a column of that name
    told = (
        "batch_size",
        "precision",
        "epochs",
        "exit_code",
        "script_batch_size",
        "script_weights_mib",
        "script_figures",
    )
    assert [rows[0][name] for name in told] == [8, None, None, 3, 4, 5.0, "eval_loss=0.25"]
    assert rows[0]["command"] == config.command
    assert rows[1]["precision"] == "fp32"


def test_csv_of_a_virtual_gpu_has_the_cards_forecast() -> None:
    base, dear = virtual()
    rows = read_csv(to_csv([base, dear], [base]))
    assert [row["forecast_samples_per_s"] for row in rows] == [7.5, 5.0]
    assert [row["forecast_runtime_s"] for row in rows] == pytest.approx([512 / 7.5, 512 / 5.0])
    assert [row["samples_per_s"] for row in rows] == [2.0, 0.8]
    assert rows[1]["delta_forecast_samples_per_s_percent"] == pytest.approx(-100 / 3)
    assert rows[1]["verdict_forecast_samples_per_s"] == "worse"


def test_csv_of_several_gpus_has_all_of_them_in_a_cell() -> None:
    two = run(2, BASE.with_values(gpus=2), peak_used_by_rank=(7000 * MIB, None), wait_share=0.125, failed_rank=1)
    one, several = read_csv(to_csv([run(), two], scaling=lambda record: 0.75 if record is two else None))
    told = ("gpus", "parallel", "peak_used_mib_by_gpu", "wait_share", "scaling", "failed_rank")
    assert [several[name] for name in told] == [2, "ddp", "7000.0 –", 0.125, 0.75, 1]
    assert [one[name] for name in told] == [1, "ddp", None, None, None, None]


def test_csv_types_are_kept() -> None:
    (row,) = read_csv(to_csv([run(peak_used=7069 * MIB + 1)]))
    assert {name: type(value) for name, value in row.items() if value is not None} == {
        name: type(value) for name, value in expected(run(peak_used=7069 * MIB + 1)).items() if value is not None
    }
    assert row["peak_used_mib"] == 7069 + 1 / MIB
    (row,) = read_csv(to_csv([run(train_loss=math.nan, last_loss=-math.inf)]))
    assert math.isnan(float(str(row["train_loss"])))
    assert row["last_loss"] == -math.inf


def test_csv_with_a_baseline() -> None:
    rows = read_csv(to_csv(lecture(), [run()]))
    assert rows[1]["baseline_run_id"] == 1
    assert rows[1]["delta_peak_used_mib"] == -3450
    assert rows[1]["delta_time_s"] == pytest.approx(93.07 - 512 / 7.68)
    assert rows[1]["delta_samples_per_s_percent"] == pytest.approx(-28.4, abs=0.05)
    assert rows[1]["delta_time_is_per_sample"] is False
    assert [row["verdict_peak_used"] for row in rows] == ["same within noise", "better", "not enough data"]


@pytest.mark.parametrize("text", ["=1+1", "+x", "-x", "@x", "\t=x", "'=x", "''+x", "'plain", "＝x", "-1"])
def test_csv_disarms_formulas(text: str) -> None:
    written = to_csv([run(config=RunConfig(model=text))])
    row = next(csv.DictReader(io.StringIO(written)))
    assert not row["model"].startswith(("=", "+", "-", "@", "\t", "＝"))
    assert read_csv(written)[0]["model"] == text
    assert row["run_id"] == "1"


@settings(max_examples=100)
@given(st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp", "Cn"]), min_size=1))
@example("葛\U000e0100城")  # variation selectors choose a character's shape
@example("❤\ufe0f")
def test_any_visible_text_comes_back(text: str) -> None:
    assert read_csv(to_csv([run(message=text)]))[0]["message"] == text


def test_hostile_text_in_csv_and_json() -> None:
    record = run(config=RunConfig(model=HOSTILE), message="\x9b2J")
    written = to_csv([record])
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\ud800]", written)
    written.encode()
    assert str(read_csv(written)[0]["model"]).startswith("[bold]|\\|`x`*_%$#&{}~^<b>\ufffd[31m\ufffd\ufffd\n@team")
    assert to_json([record]).isascii()
    assert json.loads(to_json([record]))[0]["config"]["model"] == HOSTILE


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "The CSV is empty"),
        ("run_id,updates\n1\n", "Line 2 has 1 cells, but there are 2 columns"),
        ("run_id\nx\n", "Line 2, column run_id: 'x' is not a whole number"),
        ("run_id,dropout\n1,maybe\n", "Line 2, column dropout: 'maybe' is not True or False"),
        ("run_id,train_loss\n1,much\n", "column train_loss: 'much' is not a number"),
        ('run_id\n"1', "is not CSV"),
    ],
)
def test_csv_that_cannot_be_read(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        read_csv(text)


def test_csv_from_a_spreadsheet() -> None:
    """With a byte order mark, other line ends, an empty line and a column of one's own."""
    assert read_csv("\ufeffrun_id,mine\r\n7,yes\r\n\r\n") == [{"run_id": 7, "mine": "yes"}]


def test_json_is_what_runs_prints() -> None:
    runs = json.loads(to_json([run(), run(2, train_loss=math.nan)]))
    assert runs[0] == {"event": "run_finished", **record_to_json(run())}
    assert runs[1]["train_loss"] is None
