"""A decoder of 1B parameters on a real card: the forecast of today's ways to train it, each before its run.

`TRAINTOP_RECORD=FILE python -m pytest -s -m gpu tests/engine/forecast/test_real_1b.py` also writes what was measured,
row by row, so that a machine that is taken away leaves what it had. The same code runs here on a virtual card with
fewer and narrower layers.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.contract.config import KNOBS as KNOB_LIST
from tests.engine.forecast.side_by_side import KNOBS, Bench, Row, base, judge, save, write_model

VIRTUAL = "virtual:h100-80gb"
NARROW = {
    "vocab_size": 4096,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
}
SHORTER = 16
FEW: tuple[dict[str, Any], ...] = (
    {},
    {"weights": "fp32", "precision": "bf16", "batch_size": 2},
    {"cross_entropy": "chunked", "gradient_checkpointing": "on"},
    {"lora_rank": 16, "lora_targets": "all-linear", "seq_len": 2048},
    {"torch_compile": True},
)


def _virtual_rows(folder: Path, knobs: tuple[dict[str, Any], ...]) -> list[Row]:
    torch.set_num_threads(1)
    write_model(folder, "cpu", **NARROW)
    start = base(str(folder), VIRTUAL)
    start = start.with_values(seq_len=start.seq_len // SHORTER)
    shorter = [{**each, "seq_len": each["seq_len"] // SHORTER} if "seq_len" in each else each for each in knobs]
    return list(Bench(start).rows(shorter))


def test_the_same_on_a_virtual_card(tmp_path: Path) -> None:
    rows = _virtual_rows(tmp_path / "model", FEW)
    judge(rows)
    assert [row.refused is not None for row in rows] == [False] * (len(FEW) - 1) + [True]
    assert "--torch-compile" in (rows[-1].refused or "")
    save(rows, VIRTUAL, tmp_path / "rows.json")
    kept = json.loads((tmp_path / "rows.json").read_text())
    assert kept["gpu"] == "NVIDIA H100 80GB HBM3"
    first, record = kept["rows"][0], rows[0].measured
    assert record is not None
    assert first["reserved_mib"] == first["forecast_reserved_mib"] == (record.peak_reserved or 0) / 2**20
    assert first["used_mib"] - first["reserved_mib"] == first["outside_mib"]
    assert kept["rows"][-1]["without"] == rows[-1].refused


@pytest.mark.slow
def test_all_of_it_on_a_virtual_card(tmp_path: Path) -> None:
    rows = _virtual_rows(tmp_path / "model", KNOBS)
    judge(rows)
    refused = {name for row in rows if row.refused for name in row.knobs}
    assert refused <= {"torch_compile", "weights", "lora_rank", "lora_targets", "optimizer", "gradient_checkpointing",
                       "batch_size"}  # fmt: skip
    assert len([row for row in rows if row.measured is not None]) >= 20


def test_it_asks_for_what_people_train_with() -> None:
    configs = [base("llama-3.2-1b", VIRTUAL).with_values(**changes) for changes in KNOBS]  # none is refused
    assert len(set(configs)) == len(KNOBS) >= 20
    assert {config.weights for config in configs} == set(KNOB_LIST["weights"].choices)


@pytest.mark.gpu
def test_on_this_card(tmp_path: Path) -> None:
    start = base(str(tmp_path / "model"), "cuda")
    bench = Bench(start)  # measures the context, so there must be none yet
    write_model(tmp_path / "model", "cuda")
    torch.cuda.empty_cache()
    list(bench.rows([{"batch_size": 1, "seq_len": 512}]))  # kernels that are loaded once and stay
    rows: list[Row] = []
    for row in bench.rows(KNOBS):
        rows.append(row)
        sys.stderr.write(f"{row}\n")
        if path := os.environ.get("TRAINTOP_RECORD"):
            save(rows, "cuda", Path(path))
    judge(rows)
