"""What rounding costs, against what transformers says of the same text."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from engine.answering import quality
from engine.answering.loading import Found
from engine.contract.config import RunConfig
from engine.contract.events import AnsweringStarted, QualityMeasured, RunProgress
from engine.devices.cpu import CpuDevice
from engine.models.catalogue import ARCHITECTURES
from engine.training.models import ModelSource
from tests.engine import language_models
from tests.engine.answering.asked import Asked, config_of, run, save

IDS = [(7 * i * i + 3) % 190 for i in range(60)]
TEXT = quality.Text(name="numbers", parts=quality._parts(IDS, IDS, 32))
PAIRS = quality.Text(name="pairs", parts=[quality.Part(read=IDS[:20], wanted=IDS[20:40], is_pair=True)])


def foretold(model: PreTrainedModel, text: quality.Text, config: RunConfig) -> quality.Foretold:
    return quality.foretold(model.eval(), text, config, CpuDevice(), lambda: False)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_the_loss_is_the_models_own(kind: str) -> None:
    model = language_models.make(kind).eval()
    read = foretold(model, TEXT, config_of())
    total, n = 0.0, 0
    for start in (0, 32):
        ids = torch.tensor([IDS[start : start + 32]])
        with torch.no_grad():
            total += float(model(input_ids=ids, labels=ids).loss) * (ids.size(1) - 1)
        n += ids.size(1) - 1
    assert len(read.top) == n
    assert read.loss == pytest.approx(total / n, rel=1e-5)


def test_the_loss_of_a_pair_is_the_models_own() -> None:
    model = language_models.make("t5").eval()
    with torch.no_grad():
        loss = model(input_ids=torch.tensor([IDS[:20]]), labels=torch.tensor([IDS[20:40]])).loss
    assert foretold(model, PAIRS, config_of()).loss == pytest.approx(float(loss), rel=1e-5)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_rounded_keys_are_read(kind: str) -> None:
    model = language_models.make(kind)
    plain, rounded = (foretold(model, TEXT, config_of(kv_dtype=each)) for each in ("model", "int8"))
    assert rounded.loss != plain.loss
    assert rounded.loss == pytest.approx(plain.loss, rel=1e-2)


def test_a_model_agrees_with_itself() -> None:
    model = language_models.make("gpt2")
    read = foretold(model, TEXT, config_of())
    told = quality.measured(1, TEXT, read, read)
    assert (told.agreement, told.perplexity) == (1.0, told.own_perplexity)
    assert told.perplexity == pytest.approx(math.exp(read.loss))


def test_only_what_counts_is_scored() -> None:
    labels = [-100] * 20 + IDS[20:30] + [-100] * 30
    parts = quality._parts(IDS, labels, 25)
    assert sum(label != -100 for part in parts for label in part.wanted) == 9  # one is the first of its part
    assert len(parts) == 2  # the third has nothing that counts


@pytest.mark.parametrize(
    ("knobs", "measured"),
    [
        ({}, False),
        ({"weights": "bf16"}, True),
        ({"weights": "int8"}, True),
        ({"kv_dtype": "int8"}, True),
        ({"weights": "bf16", "held_out_tokens": 0}, False),
    ],
)
def test_what_is_rounded_is_measured(knobs: dict[str, str], measured: bool) -> None:
    config = language_models.make("gpt2").config
    config.dtype = torch.float32
    source = ModelSource(name="m", config=config, location=None, tokenizer=None, local_only=True, note="")
    assert quality.is_measured(config_of(**knobs), Found(source=source, tokenizer=None)) is measured


def _measured(asked: Asked) -> QualityMeasured:
    [told] = asked.of(QualityMeasured)
    return told


def test_a_run_measures_after_its_answers(tmp_path: Path) -> None:
    asked = run(config_of(save("gpt2", tmp_path), kv_dtype="int8", held_out_tokens=50, prompt_len=8))
    told = _measured(asked)
    assert told.text_name == "random tokens"
    assert told.n_tokens == 49
    assert told.agreement > 0.9
    assert asked.record is not None
    assert asked.record.answer is not None
    assert asked.record.answer.agreement == told.agreement


def test_int8_takes_a_third_of_the_bytes(tmp_path: Path) -> None:
    """Of a model of `llama-tiny`'s shape with the vocabulary that is trained on generated instructions."""
    pytest.importorskip("bitsandbytes")
    settings = {**ARCHITECTURES["llama-tiny"].settings, "vocab_size": 886}
    LlamaForCausalLM(LlamaConfig(**settings)).save_pretrained(tmp_path)
    plain, int8 = (
        run(config_of(str(tmp_path), weights=weights, requests=1, held_out_tokens=40)) for weights in ("fp32", "int8")
    )
    [whole], [rounded] = (asked.of(AnsweringStarted) for asked in (plain, int8))
    rows = 4 * (2 * 256 + 2 * 128 + 2 * 768 + 256)
    linear = 4 * (2 * 256 * 256 + 2 * 128 * 256 + 3 * 256 * 768)
    assert whole.n_parameters == rounded.n_parameters
    assert whole.weights - rounded.weights == 3 * linear - 4 * rows  # a scale in fp32 for each output
    assert rounded.weights < 0.35 * whole.weights
    assert _measured(int8).agreement > 0.5
    [note] = [event.detail for event in int8.of(RunProgress) if "are stored as int8" in event.detail]
    assert note.endswith("as fp32, and so are keys and values: --precision bf16 halves both.")
    assert not plain.of(QualityMeasured)
