"""Other programs that say what a training will take, asked for the lecture's: bert-base, fp32, AdamW, 512 tokens.

`python -m tests.benchmarks.rivals NAME` asks one of them for every batch size and prints a line of JSON each. What a
program says is taken as it is: most leave out the CUDA context, some the activations.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from engine.gpus.units import MIB

BATCHES = (1, 2, 4, 8)
TOKENS = 512
PARAMETERS = 109_483_778
"""Of bert-base-uncased with two classes."""
_SIZES = {"vocab_size": 30_522, "hidden_size": 768, "num_layers": 12, "num_attention_heads": 12}
_GIB = 1024 * MIB

Said = Callable[[int], float]
"""From a batch size to bytes on the card."""


@dataclass(frozen=True, kw_only=True)
class Rival:
    """A program and how it is asked."""

    name: str
    package: str
    """What pip calls it."""
    module: str
    """Whose absence says that it is not installed."""
    ask: Callable[[], Said]
    """Imports what it needs and tells how to ask: what is timed is only the asking."""
    note: str = ""


def _traintop() -> Said:
    from engine.contract.config import RunConfig
    from engine.forecast.forecast import Assumptions, Forecaster
    from engine.gpus.catalogue import find
    from engine.process.imports import import_transformers

    import_transformers()
    _bert_class()
    forecaster, config = Forecaster(), RunConfig(model="bert-base-uncased", samples=512, seq_len=TOKENS)
    then = Assumptions(stack="lecture-2023")
    return lambda batch: forecaster.forecast(config.with_values(batch_size=batch), find("tesla-p4"), then).peak_used


def _mem_tracker() -> Said:
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.distributed._tools.mem_tracker import MemTracker

    _bert_class()

    def said(batch: int) -> float:
        with FakeTensorMode():
            model = _bert("cpu")
            optimizer = torch.optim.AdamW(model.parameters(), foreach=True)
            ids, labels = torch.zeros(batch, TOKENS, dtype=torch.long), torch.zeros(batch, dtype=torch.long)
            tracker = MemTracker()
            tracker.track_external(model, optimizer, ids, labels)
            with tracker:
                for _ in range(2):  # the states are there from the second update on
                    model(input_ids=ids, labels=labels).loss.backward()
                    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                    optimizer.step()
                    optimizer.zero_grad()
                    tracker.reset_mod_stats()
            return sum(held["Total"] for held in tracker.get_tracker_snapshot("peak").values())

    return said


def _accelerate() -> Said:
    from accelerate.commands.estimate import estimate_training_usage
    from accelerate.utils import calculate_maximum_sizes

    _bert_class()

    def said(batch: int) -> float:  # its command takes no batch size
        weights, _ = calculate_maximum_sizes(_bert("meta"))
        return max(estimate_training_usage(weights, "float32").values())

    return said


def _deepspeed() -> Said:
    from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs

    return lambda batch: estimate_zero2_model_states_mem_needs(PARAMETERS, cpu_offload=False)[1]


def _kitsune() -> Said:
    from kitsune.predict import predict_memory

    _bert_class()
    words = {"input_shape": (TOKENS,), "optimizer": "adamw", "training": True}
    return lambda batch: predict_memory(_bert("meta"), batch_size=batch, **words).total_bytes


def _torchinfo() -> Said:
    import torch
    from torchinfo import summary

    _bert_class()

    def said(batch: int) -> float:
        ids = torch.zeros(batch, TOKENS, dtype=torch.long, device="meta")
        told = summary(_bert("meta"), input_data=ids, device="meta", verbose=0)
        return told.total_input + told.total_output_bytes + told.total_param_bytes

    return said


def _vram_check() -> Said:
    from vram_check import estimate

    words = {"dtype": "fp32", "optimizer": "adamw", "seq_len": TOKENS}
    return lambda batch: estimate(PARAMETERS, batch_size=batch, **words).total_gb * _GIB


def _gpu_estimator() -> Said:
    from gpu_estimator import GPUEstimator

    words = {"sequence_length": TOKENS, "precision": "fp32", "optimizer": "adamw", "gpu_memory_gb": 8}
    return lambda batch: GPUEstimator().estimate(PARAMETERS, batch_size=batch, **words).total_memory_gb * _GIB


def _alloc() -> Said:
    from alloc.ghost import ghost

    _bert_class()
    words = {"dtype": "float32", "seq_length": TOKENS, "optimizer_type": "AdamW"}
    return lambda batch: ghost(_bert("meta"), batch_size=batch, **words).total_gb * _GIB


def _memguard() -> Said:
    from memory_guard.estimator import FinetuneMethod, ModelSpec, TrainSpec, estimate_training_memory

    model = ModelSpec(params=PARAMETERS, hidden_dim=768, num_heads=12, num_layers=12, bits=32)
    words = {"method": FinetuneMethod.FULL, "seq_length": TOKENS, "optimizer": "adamw"}
    words |= {"mixed_precision": False, "flash_attention": False}
    return lambda batch: estimate_training_memory(model, TrainSpec(batch_size=batch, **words)).total_mb * MIB


def _ftune() -> Said:
    from ftuneai import FineTuneMethod, ModelSpec, TrainingConfig
    from ftuneai.core.memory import MemoryEstimator

    sizes = {"num_kv_heads": 12, "intermediate_size": 3072, "max_seq_length": TOKENS, "default_dtype": "float32"}
    model = ModelSpec(name="bert-base-uncased", parameters=PARAMETERS, **_SIZES, **sizes)
    words = {"method": FineTuneMethod.FULL, "seq_length": TOKENS, "gradient_checkpointing": False}

    def said(batch: int) -> float:
        config = TrainingConfig(model=model.name, batch_size=batch, **words)
        return MemoryEstimator(model, config).estimate().total_gb * _GIB

    return said


def _llm_analysis() -> Said:
    from llm_analysis.analysis import LLMAnalysis
    from llm_analysis.config import DtypeConfig, GPUConfig, ModelConfig

    model = ModelConfig("bert-base-uncased", 12, 12, 768, _SIZES["vocab_size"], max_seq_len=TOKENS, model_type="bert")
    analysis = LLMAnalysis(model, GPUConfig("p4", 80, 192, 16, 0, 5.5), DtypeConfig("w16a16e16"))  # no fp32
    words = {"seq_len": TOKENS, "flash_attn": False, "softmax_dropout": True}
    kept = "(weight+op_state+grad+act)_memory_per_gpu"
    return lambda batch: analysis.training(batch_size_per_gpu=batch, **words)[kept]


def _bert_class() -> None:
    """Imported before anything is timed."""
    from transformers import BertForSequenceClassification  # noqa: F401


def _bert(device: str) -> Any:
    """Bert-base as in 2023: it had no fused attention."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    with torch.device(device):
        return BertForSequenceClassification(BertConfig(attn_implementation="eager")).train()


RIVALS = (
    Rival(name="traintop", package="traintop", module="engine", ask=_traintop),
    Rival(name="PyTorch's MemTracker", package="torch", module="torch", ask=_mem_tracker),
    Rival(
        name="llm-analysis", package="llm-analysis", module="llm_analysis", ask=_llm_analysis,
        note="decoders in 16 bits alone",
    ),
    Rival(name="vram-check", package="vram-check", module="vram_check", ask=_vram_check),
    Rival(name="ml-memguard", package="ml-memguard", module="memory_guard", ask=_memguard),
    Rival(name="gpu-estimator", package="gpu-estimator", module="gpu_estimator", ask=_gpu_estimator),
    Rival(name="alloc ghost", package="alloc", module="alloc", ask=_alloc),
    Rival(name="ftune", package="ftuneai", module="ftuneai", ask=_ftune),
    Rival(name="torch-kitsune", package="torch-kitsune", module="kitsune", ask=_kitsune),
    Rival(
        name="DeepSpeed ZeRO-2 estimate", package="deepspeed", module="deepspeed", ask=_deepspeed,
        note="model states alone, mixed precision",
    ),
    Rival(
        name="accelerate estimate-memory", package="accelerate", module="accelerate", ask=_accelerate,
        note="no batch size",
    ),
    Rival(name="torchinfo", package="torchinfo", module="torchinfo", ask=_torchinfo, note="weights and outputs"),
)  # fmt: skip


def main(name: str) -> None:
    """Ask the one of this name; a line of JSON for each batch size: batch, MiB and seconds."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # some print
    with contextlib.closing(answers):
        said = next(rival for rival in RIVALS if rival.name == name).ask()
        for batch in BATCHES:
            began = time.perf_counter()
            mib = said(batch) / MIB
            print(json.dumps({"batch": batch, "mib": mib, "seconds": time.perf_counter() - began}), file=answers)


if __name__ == "__main__":
    main(sys.argv[1])
