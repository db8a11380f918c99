"""A deep model's traces, told from those of its first layers: the same to the last event as its own."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.contract.config import RunConfig
from engine.contract.records import Phase
from engine.forecast.deep import Deep, Traced
from engine.forecast.fold import Fold, NotFoldedError
from engine.forecast.layers import find_layers
from engine.forecast.prepare import build_on_meta
from engine.forecast.recording import Recording
from engine.forecast.speed import Work
from engine.forecast.step import StepPlan, record_scoring, record_step
from engine.gpus.catalogue import find
from engine.tracing.stack import CURRENT
from engine.training.hub import Hub
from engine.training.models import resolve
from engine.workloads.data_shape import BatchShape
from engine.workloads.kinds.dummy import dummy_shape
from tests.engine.forecast.five_models import FIVE

_TEN: dict[str, dict[str, Any]] = {
    "bert": {**FIVE["bert"], "num_hidden_layers": 10},
    "gpt2": {**FIVE["gpt2"], "n_layer": 10},
    "llama": {**FIVE["llama"], "num_hidden_layers": 10},
    "mixtral": {**FIVE["mixtral"], "num_hidden_layers": 10},
    "qwen2": {**FIVE["llama"], "model_type": "qwen2", "num_hidden_layers": 10},
    # every other layer sees a window only, and the last of 23 is as the first
    "gemma2": {**FIVE["llama"], "model_type": "gemma2", "num_hidden_layers": 23, "head_dim": 32},
    # an encoder and a decoder, of which the first layers know positions
    "t5": {**FIVE["t5"], "num_layers": 13},
}
_TECHNIQUES: dict[str, dict[str, Any]] = {
    "plain": {},
    "fp16": {"precision": "fp16"},
    "16-bit weights": {"weights": "bf16", "precision": "bf16"},
    "checkpointing": {"gradient_checkpointing": "on"},
    "selective": {"gradient_checkpointing": "selective", "precision": "bf16"},
    "in backward": {"optimizer_in_backward": True, "max_grad_norm": 0.0},
    "lists": {"optimizer_implementation": "foreach"},
    "adapters": {"lora_rank": 4, "lora_targets": "all-linear", "precision": "bf16"},
    "nf4": {"lora_rank": 4, "lora_targets": "all-linear", "weights": "nf4", "precision": "bf16"},
    "divided": {"gpus": 3, "parallel": "fsdp"},
    "int8": {"lora_rank": 4, "weights": "int8", "precision": "fp16"},
}
_OTHERS = {"one by one": {"optimizer_implementation": "loop"}, "factored": {"optimizer": "adafactor"}}
_QUICK = [
    ("llama", "plain"),
    ("llama", "fp16"),
    ("llama", "checkpointing"),
    ("llama", "adapters"),
    ("mixtral", "plain"),
]
"""One of each way to be deep: weights alone, with scaling, layers played twice, small matrices beside, experts."""
_SLOW = [("llama", technique) for technique in (*_TECHNIQUES, *_OTHERS) if ("llama", technique) not in _QUICK]
_SLOW += [(kind, "plain") for kind in _TEN if (kind, "plain") not in _QUICK]
_SLOW += [("bert", "adapters"), ("gpt2", "lists"), ("gpt2", "checkpointing"), ("qwen2", "nf4")]
_EVERY: list[Any] = [*_QUICK, *(pytest.param(*one, marks=pytest.mark.slow) for one in _SLOW)]


def _plan(folder: Path, settings: dict[str, Any], **knobs: Any) -> StepPlan:
    (folder / "config.json").write_text(json.dumps(settings))
    tasks = {"bert": "classification", "t5": "seq2seq-lm"}
    config = RunConfig(
        model=str(folder), task=tasks.get(settings["model_type"], "causal-lm"), seq_len=32, samples=12, **knobs
    )
    model = build_on_meta(resolve(config.model, Hub()), config, CURRENT, n_labels=2, vocab_size=None)
    return StepPlan(config=config, model=model, gpu=find("a100-40gb"), stack=CURRENT, fields=dummy_shape(config).fields)


class Counted:
    """Traces steps; `times` says how often, by the number of parameters."""

    def __init__(self, plan: StepPlan, *, accumulates: bool = False) -> None:
        self._plan, self._accumulates = plan, accumulates
        self.times: Counter[int] = Counter()

    def __call__(self, batch: BatchShape) -> Traced:
        self.times[_size(self._plan)] += 1
        work = Work()
        return Traced(record_step(self._plan, batch, accumulates=self._accumulates, work=work), work)


def _size(plan: StepPlan) -> int:
    return sum(1 for _ in plan.model.parameters())


def _batch(plan: StepPlan, samples: int) -> BatchShape:
    return BatchShape(samples, 32, False, plan.config.target_tokens)


@pytest.mark.parametrize(("kind", "technique"), _EVERY)
def test_the_whole_is_told_from_a_few_layers(tmp_path: Path, kind: str, technique: str) -> None:
    torch.set_num_threads(1)
    plan = _plan(tmp_path, _TEN[kind], **(_TECHNIQUES | _OTHERS)[technique])
    trace = Counted(plan, accumulates=technique in ("fp16", "divided"))
    told = Deep(trace, find_layers(plan.model, plan.model.config))(_batch(plan, 2))  # type: ignore[arg-type]
    assert trace.times[_size(plan)] == 0
    assert told == trace(_batch(plan, 2))


def test_more_batches_take_two_depths_each_and_one_sample_three(tmp_path: Path) -> None:
    plan = _plan(tmp_path, _TEN["llama"])
    trace = Counted(plan)
    deep = Deep(trace, find_layers(plan.model, plan.model.config))  # type: ignore[arg-type]
    for samples, depths in ((2, 3), (3, 2), (1, 3)):
        trace.times.clear()
        told = deep(_batch(plan, samples))
        assert trace.times.total() == depths
        assert told == trace(_batch(plan, samples))


def test_every_second_layer_may_be_another(tmp_path: Path) -> None:
    plan = _plan(tmp_path, {**_TEN["llama"], "num_hidden_layers": 19}, gradient_checkpointing="every-second")
    layers = find_layers(plan.model, plan.model.config)  # type: ignore[arg-type]
    assert layers is None  # 5, 7 and 9 of them would be more than 19
    plan = _plan(tmp_path, {**_TEN["llama"], "num_hidden_layers": 20}, gradient_checkpointing="every-second")
    layers = find_layers(plan.model, plan.model.config)  # type: ignore[arg-type]
    assert layers is not None
    assert layers.depths == (4, 6, 8)
    trace = Counted(plan)
    assert Deep(trace, layers)(_batch(plan, 2)) == trace(_batch(plan, 2))
    assert trace.times[_size(plan)] == 1


def test_an_evaluation_is_told_from_a_few_layers(tmp_path: Path) -> None:
    plan = _plan(tmp_path, _TEN["gpt2"])
    layers = find_layers(plan.model, plan.model.config)  # type: ignore[arg-type]
    assert layers is not None
    batch = _batch(plan, 2)
    deep = Deep(lambda batch: Traced(record_scoring(plan, batch), Work()), layers)
    assert deep(batch).recording == record_scoring(plan, batch)


def test_a_model_whose_layers_are_told_is_whole_again(tmp_path: Path) -> None:
    plan = _plan(tmp_path, _TEN["llama"])
    before = [name for name, _ in plan.model.named_parameters()]
    Deep(Counted(plan), find_layers(plan.model, plan.model.config))(_batch(plan, 2))  # type: ignore[arg-type]
    assert [name for name, _ in plan.model.named_parameters()] == before


@pytest.mark.parametrize(
    "change",
    [
        lambda layers: setattr(layers[6].mlp, "act_fn", torch.nn.Tanh()),
        lambda layers: setattr(layers[6].self_attn, "scaling", 0.5),
        lambda layers: setattr(layers[6].mlp, "up_proj", torch.nn.Linear(128, 512, device="meta")),
        lambda layers: layers[6].self_attn.q_proj.weight.requires_grad_(False),
        lambda layers: layers.__delitem__(slice(4, None)),
    ],
    ids=["another module", "another setting", "another size", "frozen", "few"],
)
def test_a_model_with_unlike_layers_or_few_is_not_cut(tmp_path: Path, change: Any) -> None:
    plan = _plan(tmp_path, _TEN["llama"])
    change(plan.model.model.layers)  # type: ignore[union-attr]
    assert find_layers(plan.model, plan.model.config) is None  # type: ignore[arg-type]


def test_what_cannot_be_told_is_traced_whole(tmp_path: Path) -> None:
    plan = _plan(tmp_path, _TEN["llama"])
    layers = list(plan.model.model.layers)  # type: ignore[union-attr, arg-type]
    weight = torch.ones(1, device="meta")
    # it does something else from its place on, which no setting shows
    for layer in layers[3:]:
        layer.register_forward_pre_hook(lambda module, args: (args[0] * weight, *args[1:]))
    trace = Counted(plan)
    deep = Deep(trace, find_layers(plan.model, plan.model.config))  # type: ignore[arg-type]
    told = deep(_batch(plan, 2))
    assert trace.times[_size(plan)] == 1
    assert told == trace(_batch(plan, 2))


def _recording(layers: int, *, unlike: bool = False) -> Recording:
    """Forward makes a tensor a layer and one as long as there are layers; backward frees them from the last on."""
    made = Recording()
    made.mark("first", Phase.FORWARD)
    slots = [made.allocate(100 + unlike * layers, "activations") for _ in range(layers)]
    made.allocate(8 * layers, "temporaries")
    made.mark("first", Phase.BACKWARD)
    for slot in reversed(slots):
        assert slot is not None
        made.free(slot)
    return made


def test_a_fold_follows_what_is_made_in_order_and_freed_in_the_other() -> None:
    two, three, four = (_recording(n) for n in (2, 3, 4))
    assert Fold(two, three, four, 48).unfold(two, three) == _recording(50)


def test_a_fold_refuses_what_grows_in_another_way() -> None:
    with pytest.raises(NotFoldedError):
        Fold(*(_recording(n, unlike=True) for n in (2, 3, 4)), 48)
    with pytest.raises(NotFoldedError):
        Fold(*(_recording(n) for n in (2, 3, 5)), 48)
