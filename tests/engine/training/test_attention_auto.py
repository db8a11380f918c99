"""`--attention auto`: models without an sdpa in transformers train and are forecast; what was taken is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.contract.config import ConfigError, RunConfig
from engine.contract.events import Event, RunProgress
from engine.contract.records import Outcome, RunRecord
from engine.devices.open import open_device
from engine.forecast.forecast import Forecaster
from engine.gpus.catalogue import find
from engine.training.hub import Hub
from engine.training.run import Run
from tests.engine.model_folders import FAMILIES

WITHOUT_SDPA: dict[str, dict[str, Any]] = {
    "gpt_neo": FAMILIES["gpt-neo"],
    "bloom": {"model_type": "bloom", "vocab_size": 1000, "hidden_size": 64, "n_layer": 2, "n_head": 4},
    "deberta-v2": {
        **FAMILIES["bert"],
        "model_type": "deberta-v2",
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_buckets": 16,
    },
}


@pytest.fixture(params=WITHOUT_SDPA)
def config(request: pytest.FixtureRequest, tmp_path: Path) -> RunConfig:
    torch.set_num_threads(1)
    (tmp_path / "config.json").write_text(json.dumps(WITHOUT_SDPA[request.param]))
    return RunConfig(model=str(tmp_path), batch_size=2, seq_len=16, samples=4, device="virtual:tesla-p4")


def _run(config: RunConfig) -> tuple[RunRecord, list[str]]:
    events: list[Event] = []
    hub = Hub()
    hub.probe()
    record = RunRecord(run_id=1, config=config, outcome=Outcome.RUNNING)
    run = Run(record=record, device=open_device(config), hub=hub, emit=events.append, should_stop=lambda: False)
    return run.execute(), [event.detail for event in events if isinstance(event, RunProgress)]


def test_eager_is_taken_where_there_is_no_sdpa_in_runs_and_forecasts(config: RunConfig) -> None:
    record, said = _run(config)
    assert record.outcome is Outcome.COMPLETED, record.message
    model_type = json.loads((Path(config.model) / "config.json").read_text())["model_type"]
    sentence = f"Attention: eager, as {model_type} has no sdpa in transformers (--attention auto)."
    assert sentence in said
    forecaster, gpu = Forecaster(), find("tesla-p4")
    made = forecaster.forecast(config, gpu)
    assert sentence in made.notes
    eager = forecaster.forecast(config.with_values(attention="eager"), gpu)
    assert (eager.peak_allocated, eager.breakdown) == (made.peak_allocated, made.breakdown)
    assert not [note for note in eager.notes if note.startswith("Attention")]


def test_sdpa_that_was_asked_for_is_refused_with_the_fix(config: RunConfig) -> None:
    asked = config.with_values(attention="sdpa")
    for do in (lambda: _run(asked), lambda: Forecaster().forecast(asked, find("tesla-p4"))):
        with pytest.raises(
            ConfigError, match=r"--attention sdpa does not exist for .*: use --attention eager"
        ) as error:
            do()
        assert error.value.knob == "attention"


def test_sdpa_is_taken_where_the_model_has_it() -> None:
    config = RunConfig(batch_size=2, seq_len=16, samples=4, device="virtual:tesla-p4")
    assert config.attention == "auto"
    record, said = _run(config)
    assert record.outcome is Outcome.COMPLETED
    assert "Attention: sdpa (--attention auto)." in said
    forecaster, gpu = Forecaster(), find("tesla-p4")
    made, asked = (forecaster.forecast(c, gpu) for c in (config, config.with_values(attention="sdpa")))
    assert (made.peak_allocated, made.breakdown) == (asked.peak_allocated, asked.breakdown)
    assert "Attention: sdpa (--attention auto)." in made.notes
