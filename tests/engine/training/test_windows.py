"""The language models' loss is divided by the labels of the whole window, as the Trainer does."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, PreTrainedModel, Trainer, TrainerCallback, TrainingArguments

from engine.contract.config import RunConfig
from engine.contract.events import EvalDone
from engine.contract.tasks import IGNORED, TASKS
from engine.devices.cpu import CpuDevice
from engine.techniques.stopping import Stopped
from engine.training.evaluation import evaluate
from engine.training.models import _heads
from engine.training.trainer import train
from engine.training.windows import n_labels, turns
from engine.workloads.collate import PaddingCollate, Samples, Targets, stack
from engine.workloads.prepared import PreparedData
from engine.workloads.standalone.packing import assign, pack
from tests.engine.jobs import Recorded, make_job
from tests.engine.model_folders import model_folder

TASK_OF = {"bert": "masked-lm", "gpt2": "causal-lm", "llama": "causal-lm", "t5": "seq2seq-lm"}
COUNTS_BY_ITSELF = ("gpt2", "llama")
"""Their heads divide by `num_items_in_batch`; BERT's and T5's take it and go on without."""
N, LONGEST = 30, 40


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small tensors: more of them only wait for each other
    yield
    torch.set_num_threads(threads)


def config_of(family: str, **changes: Any) -> RunConfig:
    shared: dict[str, Any] = {"task": TASK_OF[family], "device": "cpu", "dropout": False, "seed": 5}
    sizes = {"batch_size": 3, "samples": N, "seq_len": LONGEST}
    # without momentum and clipping the weights are the sum of the gradients
    plain = {"optimizer": "sgd", "max_grad_norm": 0.0, "learning_rate": 0.05, "lr_scheduler": "constant"}
    return RunConfig(**{**shared, **sizes, **plain, **changes})


def texts_of(family: str, *, packed: bool = False) -> PreparedData:
    """Texts of very different lengths, with an answer alone to learn in some."""
    chance = random.Random(2)
    texts = [
        np.array([chance.randrange(5, 900) for _ in range(chance.choice((3, 8, LONGEST)))], dtype=np.int32)
        for _ in range(N)
    ]
    flat, offsets = np.concatenate(texts), np.cumsum([0, *map(len, texts)]).astype(np.int64)
    collate: Any = PaddingCollate(pad_token_id=0, fill={"labels": IGNORED})
    if packed:
        rows = assign([len(text) for text in texts], LONGEST)
        tables = {name: table.ravel() for name, table in pack(texts, rows, LONGEST, 0).items()}
        samples, collate = Samples(tables, np.arange(len(rows) + 1, dtype=np.int64) * LONGEST), stack
    elif family == "t5":
        of_each = np.array([chance.choice((1, 2, 30)) for _ in range(N)])
        labels = np.array([chance.randrange(5, 900) for _ in range(int(of_each.sum()))], dtype=np.int32)
        targets = Targets(labels=labels, offsets=np.cumsum([0, *of_each]).astype(np.int64))
        samples = Samples({"input_ids": flat}, offsets, targets=targets)
        collate = PaddingCollate(pad_token_id=0, fill={"labels": IGNORED}, own_width="labels")
    else:
        labels = flat.copy()
        is_kept = np.array([chance.random() < (0.3 if family == "bert" else 0.8) for _ in flat])
        labels[~is_kept] = IGNORED
        samples = Samples({"input_ids": flat, "labels": labels}, offsets)
    return PreparedData(
        train=samples,
        evaluation=samples,
        collate=collate,
        n_labels=2,
        label_names=(),
        tokenizer=None,
        vocab_size=None,
        pad_token_id=0,
        notes=(),
    )


def model_of(folder: Path, family: str) -> PreTrainedModel:
    """The same weights each time."""
    said = json.loads((Path(model_folder(folder, family)) / "config.json").read_text())
    shape = AutoConfig.for_model(**said)
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "resid_pdrop", "embd_pdrop", "attn_pdrop"):
        setattr(shape, name, 0.0)
    shape.dropout_rate, shape.pad_token_id, shape.use_cache = 0.0, 0, False  # a cache knows of no documents in a row
    torch.manual_seed(7)
    model: PreTrainedModel = _heads()[TASK_OF[family]].from_config(shape)
    return model


class _Losses(TrainerCallback):
    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **more: Any) -> None:
        if logs and "loss" in logs:
            self.losses.append(logs["loss"])


def reference(config: RunConfig, model: PreTrainedModel, data: PreparedData, folder: Path, family: str) -> list[float]:
    """Train with transformers.Trainer: as it is, where the head divides by itself, else by its `compute_loss_func`."""

    def collate(items: Any) -> dict[str, torch.Tensor]:
        batch = data.collate(items)
        if family == "t5":  # the Trainer takes the labels away
            batch["decoder_input_ids"] = model.prepare_decoder_input_ids_from_labels(batch["labels"])
        return batch

    def divided(outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor) -> torch.Tensor:
        return cross_entropy(outputs.logits.flatten(0, 1), labels.flatten(), reduction="sum") / num_items_in_batch

    if family == "gpt2":  # by whose name the Trainer does not see that its labels are shifted, as it does of others
        model.loss_type = "ForCausalLM"
    seen = _Losses()
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(folder),
            per_device_train_batch_size=config.batch_size,
            gradient_accumulation_steps=config.gradient_accumulation_steps,
            optim="sgd",
            lr_scheduler_type="constant",
            learning_rate=config.learning_rate,
            max_grad_norm=0.0,
            num_train_epochs=config.epochs,
            seed=config.seed,
            data_seed=config.seed,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
        ),
        train_dataset=data.train,
        data_collator=collate,
        callbacks=[seen],
        **({} if family in COUNTS_BY_ITSELF else {"compute_loss_func": divided}),
    )
    trainer.train()
    return seen.losses


@pytest.mark.parametrize(
    ("family", "packed"),
    [("bert", False), ("gpt2", False), ("llama", False), ("t5", False), ("gpt2", True), ("llama", True)],
)
def test_losses_and_gradients_are_the_trainers(tmp_path: Path, family: str, packed: bool) -> None:
    config = config_of(family, gradient_accumulation_steps=4, batch_size=1 if packed else 3)
    data = texts_of(family, packed=packed)
    ours, theirs, before = (model_of(tmp_path, family) for _ in range(3))
    recorded = make_job(config, ours, data=data)
    assert train(recorded.job)
    losses = reference(config, theirs, data, tmp_path / "trained", family)
    assert len(losses) == recorded.job.planned_updates >= 3
    torch.testing.assert_close(recorded.losses, losses, rtol=0, atol=1e-5)
    assert any((mine != first).any() for mine, first in zip(ours.parameters(), before.parameters(), strict=True))
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=2e-6, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("family", TASK_OF)
def test_accumulation_equals_the_large_batch_whatever_the_lengths(tmp_path: Path, family: str) -> None:
    data = texts_of(family)
    configs = [config_of(family, batch_size=n, gradient_accumulation_steps=steps) for n, steps in ((12, 1), (2, 6))]
    large, small = (make_job(config, model_of(tmp_path, family), data=data) for config in configs)
    for recorded in (large, small):
        assert train(recorded.job)
    torch.testing.assert_close(large.losses, small.losses, rtol=0, atol=1e-5)


def test_a_batch_without_labels_adds_nothing(tmp_path: Path) -> None:
    """As when no token of a short text is masked: the mean over none would be nan."""
    data = texts_of("bert")
    labels, offsets = data.train.sequences["labels"], data.train.offsets
    order = make_job(config_of("bert"), model_of(tmp_path, "bert"), data=data).job.order
    silent = list(order)[1]
    labels[offsets[silent] : offsets[silent + 1]] = IGNORED
    recorded = make_job(
        config_of("bert", batch_size=1, gradient_accumulation_steps=3), model_of(tmp_path, "bert"), data=data
    )
    together = make_job(config_of("bert"), model_of(tmp_path, "bert"), data=data)
    for each in (recorded, together):
        assert train(each.job)
    torch.testing.assert_close(recorded.losses, together.losses, rtol=0, atol=1e-5)


def _window(loaded: list[int], n: int) -> Iterator[dict[str, torch.Tensor]]:
    for i in range(n):
        loaded.append(i)
        yield {"input_ids": torch.ones((1, 4), dtype=torch.int64), "labels": torch.full((1, 4), i)}


@pytest.mark.parametrize(("task", "ahead"), [("classification", 1), ("causal-lm", 3)])
def test_only_what_is_divided_by_its_labels_is_looked_ahead_to(task: str, ahead: int) -> None:
    loaded: list[int] = []
    made = turns(_window(loaded, 7), steps=7, accumulation=3, task=TASKS[task], should_stop=lambda: False)
    seen = []
    for turn in made:
        seen.append((turn.number, turn.of, turn.divisor, len(loaded)))
    assert [each[:3] for each in seen] == [(n, 3, 3) for _ in "ab" for n in (1, 2, 3)] + [(1, 1, 1)]
    assert seen[0][3] == ahead
    assert seen[3][3] == 3 + ahead


def test_stopping_does_not_wait_for_the_window() -> None:
    loaded: list[int] = []
    made = turns(
        _window(loaded, 9), steps=9, accumulation=9, task=TASKS["masked-lm"], should_stop=lambda: len(loaded) == 2
    )
    with pytest.raises(Stopped):
        next(made)
    assert len(loaded) == 2


def test_labels_are_counted_where_the_loss_counts_them() -> None:
    labels = torch.tensor([[1, 2, IGNORED, 4], [IGNORED, IGNORED, IGNORED, 3]])
    batch = {"input_ids": torch.zeros_like(labels), "labels": labels}
    assert n_labels(batch, TASKS["masked-lm"]) == n_labels(batch, TASKS["seq2seq-lm"]) == 4
    assert n_labels(batch, TASKS["causal-lm"]) == 3  # a row's first token has none before it
    assert n_labels(batch, TASKS["question-answering"]) == 2


# scoring ------------------------------------------------------------------------------------------------------------


def _scored(recorded: Recorded, data: PreparedData, batch_size: int) -> EvalDone:
    batches = [
        data.collate([data.train[i] for i in range(at, min(at + batch_size, len(data.train)))])
        for at in range(0, len(data.train), batch_size)
    ]
    assert evaluate(recorded.job, batches, 1.0)
    done = recorded.events[-1]
    assert isinstance(done, EvalDone)
    return done


@pytest.mark.parametrize("family", TASK_OF)
def test_a_held_out_loss_is_the_mean_over_all_labels(tmp_path: Path, family: str) -> None:
    data, model = texts_of(family), model_of(tmp_path, family).eval()
    recorded = make_job(config_of(family), model, data=data, device=CpuDevice())
    together, apart = _scored(recorded, data, N), _scored(recorded, data, 1)
    assert together.loss == pytest.approx(apart.loss, abs=1e-5)
    with torch.no_grad():
        whole = model(**data.collate([data.train[i] for i in range(N)])).loss.item()
    assert together.loss == pytest.approx(whole, abs=1e-5)
    assert together.accuracy is None
    assert together.n_samples == N


def test_a_token_counts_as_right_and_padding_does_not(tmp_path: Path) -> None:
    data = texts_of("bert")
    labels = data.train.sequences["labels"]
    labels[labels != IGNORED] %= 2
    said = json.loads((Path(model_folder(tmp_path, "bert")) / "config.json").read_text())
    model = _heads()["token-classification"].from_config(AutoConfig.for_model(**said, num_labels=2)).eval()
    recorded = make_job(config_of("bert", task="token-classification"), model, data=data)
    batch = data.collate([data.train[i] for i in range(N)])
    with torch.no_grad():
        answers = model(**batch).logits.argmax(-1)
    counted = batch["labels"] != IGNORED
    right = (answers == batch["labels"])[counted].double().mean().item()
    assert _scored(recorded, data, 4).accuracy == pytest.approx(right)
    assert 0 < right < 1


def test_an_answer_is_right_where_both_its_ends_are(tmp_path: Path) -> None:
    said = json.loads((Path(model_folder(tmp_path, "bert")) / "config.json").read_text())
    torch.manual_seed(3)
    model = _heads()["question-answering"].from_config(AutoConfig.for_model(**said)).eval()
    flat = np.arange(5, 5 + 6 * 12, dtype=np.int32)
    with torch.no_grad():
        told = model(input_ids=torch.from_numpy(flat.astype(np.int64)).view(6, 12))
    begins, ends = told.start_logits.argmax(-1).numpy(), told.end_logits.argmax(-1).numpy()
    begins[0] = (begins[0] + 1) % 12  # wrong at one end, at the other, and at both
    ends[1] = (ends[1] + 1) % 12
    begins[2], ends[2] = (begins[2] + 1) % 12, (ends[2] + 1) % 12
    samples = Samples(
        {"input_ids": flat}, np.arange(7, dtype=np.int64) * 12, {"start_positions": begins, "end_positions": ends}
    )
    data = replace(texts_of("bert"), train=samples, collate=stack)
    recorded = make_job(config_of("bert", task="question-answering"), model, data=data)
    assert _scored(recorded, data, 4).accuracy == pytest.approx(0.5)
