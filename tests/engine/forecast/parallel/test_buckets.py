"""Buckets of gradients by rule, against those of PyTorch's own DistributedDataParallel; the partition of ZeRO-1 too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.parallel import DistributedDataParallel

from engine.contract.config import RunConfig
from engine.forecast.parallel.buckets import buckets_of
from engine.forecast.parallel.partition import partition
from engine.forecast.prepare import build_on_meta
from engine.forecast.step import StepPlan, arrivals
from engine.gpus.catalogue import find
from engine.gpus.units import MIB
from engine.tracing.stack import CURRENT
from engine.training.hub import Hub
from engine.training.models import build, resolve, shape
from engine.workloads.data_shape import BatchShape
from engine.workloads.kinds.dummy import dummy_shape
from tests.engine.forecast.five_models import FIVE, TASKS
from tests.engine.language_models import MAKERS, VOCABULARY


@pytest.fixture(scope="module", autouse=True)
def _group() -> Iterator[None]:
    """A group of this process alone: what is kept, and in which order, does not depend on how many there are."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def _sizes(told: str) -> list[int]:
    return [int(each) for each in told.split(",")]


@pytest.mark.parametrize("bucket_mib", [1, 2, 25])
@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama"])
def test_buckets_are_those_of_ddp(kind: str, bucket_mib: int) -> None:
    torch.manual_seed(0)
    model = MAKERS[kind]()
    model.resize_token_embeddings(9_000)  # so that there are several
    _are_as_ddp(model, bucket_mib)


def test_frozen_weights_and_types_apart() -> None:
    torch.manual_seed(0)
    model = MAKERS["llama"]()
    for name, parameter in model.named_parameters():
        if "self_attn" in name:
            parameter.requires_grad_(False)
        if "mlp" in name:
            parameter.data = parameter.data.bfloat16()
    for layer in model.model.layers:
        layer.mlp.register_forward_pre_hook(lambda _, args: (args[0].bfloat16(),))
        layer.mlp.register_forward_hook(lambda _, args, out: out.float())
    _are_as_ddp(model, 1, types=2)


def _are_as_ddp(model: torch.nn.Module, bucket_mib: int, types: int = 1) -> None:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    arriving: list[torch.nn.Parameter] = []
    wrapped = DistributedDataParallel(model, bucket_cap_mb=None if bucket_mib == 25 else bucket_mib)
    for parameter in trained:
        parameter.register_post_accumulate_grad_hook(arriving.append)
    ids = torch.randint(0, VOCABULARY, (2, 8))
    for _ in range(3):
        arriving.clear()
        wrapped(input_ids=ids, labels=ids).loss.backward()
        wrapped.zero_grad()
    told = wrapped._get_ddp_logging_data()
    made = buckets_of(trained, arriving, bucket_mib)
    assert made.are_rebuilt
    assert len(made.first) == types
    assert sorted(made.first) == sorted(_sizes(told["bucket_sizes"]))
    rebuilt = _sizes(told["rebuilt_bucket_sizes"])
    assert sum(rebuilt) == sum(made.later)
    assert (made.later if types == 1 else sorted(made.later)) == (rebuilt if types == 1 else sorted(rebuilt))


@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama", "t5"])
def test_gradients_arrive_in_the_order_of_a_real_backward(kind: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(FIVE[kind]))
    config = RunConfig(model=str(tmp_path), task=TASKS[kind], seq_len=16, samples=12)
    source = resolve(config.model, Hub())
    traced = build_on_meta(source, config, CURRENT, n_labels=2, vocab_size=None)
    fields = dummy_shape(config).fields
    plan = StepPlan(config=config, model=traced, gpu=find("a100-40gb"), stack=CURRENT, fields=fields)
    told = arrivals(plan, BatchShape(2, 16, False, config.target_tokens and 16))
    names = {id(parameter): name for name, parameter in traced.named_parameters()}

    model, arrived = build(source, shape(source, config, n_labels=2, vocab_size=None), config), []
    for name, parameter in model.named_parameters():
        parameter.register_post_accumulate_grad_hook(lambda _, name=name: arrived.append(name))
    batch = {name: torch.ones((2, 16) if per_token else (2,), dtype=torch.int64) for name, per_token in fields}
    model.train()
    model(**batch).loss.backward()
    assert [names[id(parameter)] for parameter in told] == arrived
    assert len(set(arrived)) == len(names)


def test_what_is_never_reached_leaves_the_buckets_as_they_were_made() -> None:
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.ModuleList(torch.nn.Linear(400, 400) for _ in range(5))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for layer in self.layers[:-1]:
                x = layer(x)
            return x.sum()

    model = Model()
    trained = list(model.parameters())
    wrapped = DistributedDataParallel(model, bucket_cap_mb=1, find_unused_parameters=True)
    for _ in range(3):
        wrapped(torch.zeros(2, 400)).backward()
    told = wrapped._get_ddp_logging_data()
    made = buckets_of(trained, trained[:-2], 1)
    assert not made.are_rebuilt
    assert made.first == made.later == _sizes(told["bucket_sizes"])
    assert not told.get("rebuilt_bucket_sizes")


@pytest.mark.parametrize("ranks", [2, 3, 8])
def test_states_are_divided_as_by_zero_redundancy_optimizer(ranks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = MAKERS["bert"]()
    groups = [
        {"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.dim() <= 1], "weight_decay": 0.0},
    ]
    whole = ZeroRedundancyOptimizer([dict(group) for group in groups], torch.optim.AdamW, lr=1e-3)
    whole.world_size = ranks
    whole._partition_parameters_cache.clear()
    parts = partition(groups, ranks)
    for own, theirs in zip(parts, whole._partition_parameters(), strict=True):
        assert [list(map(id, group["params"])) for group in own] == [list(map(id, group["params"])) for group in theirs]
        assert [group["weight_decay"] for group in own] == [0.1, 0.0]


def test_one_tensor_can_make_a_rank_heavy() -> None:
    sizes = [sum(p.numel() for group in own for p in group["params"]) for own in partition(_lopsided(), 3)]
    assert max(sizes) == 5 * MIB
    assert min(sizes) <= 1024


def _lopsided() -> list[dict[str, object]]:
    shapes = [(5 * MIB,), *[(512,)] * 4]
    return [{"params": [torch.empty(shape, device="meta") for shape in shapes]}]
