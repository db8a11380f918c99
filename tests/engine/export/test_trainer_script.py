"""A run as a script for the Trainer: run as a process of its own, it tells the losses that the run told."""

from __future__ import annotations

import csv
import gzip
import json
import runpy
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
import transformers

from engine.contract.by_job import defaults_of
from engine.contract.config import KNOBS, ConfigError, RunConfig
from engine.contract.knob import ANSWER, TRAIN
from engine.contract.records import DeviceInfo
from engine.export.trainer_script.parts import Part, literal, merged, source
from engine.export.trainer_script.script import make_script
from engine.export.trainer_script.trainer import arguments_of
from engine.process.imports import import_transformers
from engine.training.hub import Hub
from engine.workloads.tokens.vocabulary import train_wordpiece
from tests.engine.export.parity import Curves, ours, script_of, theirs, theirs_on_several, written
from tests.engine.make_reviews import make_rows
from tests.engine.techniques.parallel.cases import train
from tests.engine.techniques.parallel.ranks import ranks
from tests.engine.workloads.test_files import workbook

ROWS = make_rows(60)
BASE: dict[str, Any] = {"device": "cpu", "seq_len": 16, "batch_size": 8, "epochs": 2, "learning_rate": 1e-3}


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TRAINTOP_HOME", str(tmp_path / "home"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def hub() -> Hub:
    import_transformers()
    return Hub()  # not asked: it does not answer


def dummy(**knobs: Any) -> RunConfig:
    return RunConfig(**{**BASE, "samples": 28, **knobs})


def reviews(data: Path | None, **knobs: Any) -> RunConfig:
    return RunConfig(**{**BASE, "workload": "reviews", "data": str(data) if data else None, **knobs})


def text(data: Path | None, **knobs: Any) -> RunConfig:
    own = {"workload": "text", "task": "causal-lm", "model": "gpt2-tiny", "data": str(data) if data else None}
    return RunConfig(**{**BASE, **own, **knobs})


def messy_csv(folder: Path) -> Path:
    """Labels in several spellings, missing and rare, a header twice and in the middle, and semicolons."""
    lines = ["text;label;text"]
    for i, (words, label) in enumerate(ROWS):
        shown = str(label).upper() if i % 3 == 0 else f" {label}" if i % 3 == 1 else str(label)
        lines.append(f'"{words}; so";{"n/a" if i % 10 == 9 else shown};x')
    lines[30:30] = ["text;label;text", ";good;x", "odd;unique;x"]
    file = folder / "messy.csv"
    file.write_text("\ufeff" + "\r\n".join(lines) + "\r\n", encoding="utf-8")
    return file


def jsonl_gz(folder: Path) -> Path:
    file = folder / "rows.jsonl.gz"
    lines = [json.dumps({"review": words, "stars": label}) for words, label in ROWS]
    file.write_bytes(gzip.compress("\n".join(lines).encode()))
    return file


def table(file: Path, names: list[str]) -> Path:
    """A CSV of two columns of text and two of labels."""
    with file.open("w", newline="") as opened:
        rows = ((words, f"{words} twice", f'"{label}\\', label) for words, label in ROWS)
        csv.writer(opened).writerows([names, *rows])
    return file


def tsv(folder: Path) -> Path:
    file = folder / "rows.tsv"
    file.write_text("text\tlabel\n" + "".join(f'"{words}\t{label}\n' for words, label in ROWS))
    return file


def parquet(folder: Path) -> Path:
    table = datasets.Dataset.from_dict({"text": [words for words, _ in ROWS], "label": [label for _, label in ROWS]})
    table.to_parquet(folder / "rows.parquet")
    return folder / "rows.parquet"


def xlsx(folder: Path) -> Path:
    first = ROWS[0][1]
    rows: list[tuple[object, ...]] = [(words, 1 if label == first else 2) for words, label in ROWS]
    return Path(
        workbook(folder / "rows.xlsx", "old", old=[("text", "stars"), *rows[:9]], sheet=[("text", "stars"), *rows])
    )


def paragraphs(folder: Path) -> Path:
    file = folder / "words.txt"
    file.write_text("\n\n".join(f"{words}.\n {words}" for words, _ in ROWS))
    return file


def talks(folder: Path) -> Path:
    """Alpaca's columns: half of the instructions have an input, and one has no output."""
    file = folder / "talks.jsonl"
    rows = [
        {"instruction": words, "input": "now" if i % 2 else "", "output": f"It is {label}."}
        for i, (words, label) in enumerate(ROWS)
    ]
    file.write_text("\n".join(map(json.dumps, [*rows, {"instruction": "none", "input": "", "output": ""}])))
    return file


def pairs(folder: Path) -> Path:
    """As the hub has translations: both in one object."""
    file = folder / "pairs.jsonl"
    lines = [json.dumps({"translation": {"en": words, "xx": f"{label} {words}"}}) for words, label in ROWS]
    file.write_text("\n".join(lines))
    return file


def instructions(data: Path | None, **knobs: Any) -> RunConfig:
    return text(data, **{"workload": "instructions", "seq_len": 48, "eval_samples": 10, **knobs})


def one_document(folder: Path) -> Path:
    file = folder / "words.txt.gz"
    file.write_bytes(gzip.compress(" ".join(words for words, _ in ROWS * 10).encode()))
    return file


def saved_model(folder: Path) -> str:
    """Weights, a classifier for other classes, and a tokenizer."""
    tokenizer = train_wordpiece([words for words, _ in ROWS])
    torch.manual_seed(1)
    shape = transformers.BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        num_labels=3,
    )
    transformers.BertForSequenceClassification(shape).save_pretrained(folder / "saved")
    tokenizer.save_pretrained(folder / "saved")
    return str(folder / "saved")


def seq2seq_model(folder: Path) -> str:
    """A T5 without weights."""
    (folder / "t5").mkdir()
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 2, "vocab_size": 1000}
    said = {"model_type": "t5", **sizes, "decoder_start_token_id": 0, "pad_token_id": 0, "dropout_rate": 0.1}
    (folder / "t5" / "config.json").write_text(json.dumps(said))
    return str(folder / "t5")


Make = Callable[[Path], RunConfig]

FAST: dict[str, Make] = {
    "dropout, accumulation, a short last window": lambda folder: dummy(gradient_accumulation_steps=3),
    "masked, accumulation": lambda folder: dummy(
        task="masked-lm", batch_size=2, gradient_accumulation_steps=3, epochs=1
    ),
    "a messy file": lambda folder: reviews(messy_csv(folder), batch_size=16),
    "a text": lambda folder: text(paragraphs(folder), epochs=1),
    "instructions": lambda folder: instructions(talks(folder), samples=30),
    "saved weights and their tokenizer": lambda folder: reviews(
        jsonl_gz(folder), model=saved_model(folder), padding="max_length", samples=30
    ),
}

SLOW: dict[str, Make] = {
    "generated": lambda folder: reviews(None, samples=40, eval_samples=20),
    "generated text": lambda folder: text(None, samples=40, eval_samples=10),
    "workbook": lambda folder: reviews(xlsx(folder)),
    "tsv": lambda folder: reviews(tsv(folder), samples=20),
    "parquet, bucketed": lambda folder: reviews(parquet(folder), padding="bucketed", batch_size=4),
    "lora, every second layer": lambda folder: reviews(
        tsv(folder), model=saved_model(folder), lora_rank=4, gradient_checkpointing="every-second"
    ),
    "checkpointing, eager": lambda folder: reviews(
        tsv(folder), model=saved_model(folder), gradient_checkpointing="on", attention="eager"
    ),
    "one long document": lambda folder: text(one_document(folder), samples=20),
    "a text, packed": lambda folder: text(paragraphs(folder), padding="packed", seq_len=64, batch_size=4),
    "a column, packed": lambda folder: text(tsv(folder), padding="packed", seq_len=64, samples=10, batch_size=4),
    "masked, packed": lambda folder: text(
        paragraphs(folder), task="masked-lm", model="bert-tiny", padding="packed", samples=20
    ),
    "masked, bucketed": lambda folder: text(
        tsv(folder), task="masked-lm", model=saved_model(folder), padding="bucketed", batch_size=4
    ),
    "masked, max_length": lambda folder: text(
        None, task="masked-lm", model="bert-tiny", padding="max_length", samples=20, dataloader_num_workers=1
    ),
    "instructions, packed": lambda folder: instructions(talks(folder), padding="packed", batch_size=4),
    "generated instructions, every token": lambda folder: instructions(
        None, samples=20, completion_only_loss=False, padding="max_length", seq_len=64, gradient_accumulation_steps=2
    ),
    "pairs": lambda folder: text(
        pairs(folder), model=seq2seq_model(folder), task="seq2seq-lm", target_len=8, gradient_accumulation_steps=2
    ),
    "generated pairs, max_length": lambda folder: text(
        None, model=seq2seq_model(folder), task="seq2seq-lm", samples=20, eval_samples=8, padding="max_length"
    ),
    "seq2seq": lambda folder: dummy(model=seq2seq_model(folder), task="seq2seq-lm"),
    "seq2seq, a target of its own, accumulation": lambda folder: dummy(
        model=seq2seq_model(folder), task="seq2seq-lm", target_len=5, gradient_accumulation_steps=3
    ),
    "causal": lambda folder: dummy(model="gpt2-tiny", task="causal-lm", lora_rank=4),
    "a text, packed, accumulation": lambda folder: text(
        paragraphs(folder), padding="packed", seq_len=64, batch_size=4, gradient_accumulation_steps=2
    ),
    "masked": lambda folder: dummy(task="masked-lm"),
    "masked, no label in many a batch": lambda folder: dummy(
        task="masked-lm", batch_size=1, seq_len=3, gradient_accumulation_steps=8, epochs=1
    ),
    "a class of every token": lambda folder: dummy(task="token-classification", lora_rank=4),
    "answers": lambda folder: dummy(task="question-answering", gradient_accumulation_steps=3),
    "experts": lambda folder: dummy(model="moe-tiny", task="causal-lm"),
    "a decoder that classifies": lambda folder: dummy(model="gpt2-tiny"),
    "sgd": lambda folder: dummy(optimizer="sgd", learning_rate=0.01),
    "sgd, loop": lambda folder: dummy(optimizer="sgd", optimizer_implementation="loop", learning_rate=0.01),
    "sgd, momentum": lambda folder: dummy(optimizer="sgd", momentum=0.9, learning_rate=0.01),
    "sgd, foreach, momentum": lambda folder: dummy(
        optimizer="sgd", momentum=0.9, optimizer_implementation="foreach", learning_rate=0.01
    ),
    "paged": lambda folder: dummy(optimizer="paged-adamw-8bit"),
    "nf4, saved": lambda folder: reviews(
        tsv(folder), model=saved_model(folder), weights="nf4", lora_rank=4, optimizer="paged-adamw-8bit"
    ),
    "nf4, bf16": lambda folder: dummy(
        model="gpt2-tiny", task="causal-lm", weights="nf4", precision="bf16", lora_rank=4
    ),
    "int8": lambda folder: dummy(model=seq2seq_model(folder), task="seq2seq-lm", weights="int8", lora_rank=4),
    "adam, loop": lambda folder: dummy(optimizer="adam", optimizer_implementation="loop"),
    "adamw, foreach, constant": lambda folder: dummy(optimizer_implementation="foreach", lr_scheduler="constant"),
    "adafactor": lambda folder: dummy(optimizer="adafactor"),
    "in backward": lambda folder: dummy(optimizer_in_backward=True, max_grad_norm=0.0),
    "bf16, no dropout": lambda folder: dummy(precision="bf16", dropout=False),
    "decay, warm-up, cosine": lambda folder: dummy(
        weight_decay=0.1, warmup_steps=0.3, lr_scheduler="cosine", optimizer_implementation="foreach"
    ),
    "adam, decay, constant after a warm-up": lambda folder: dummy(
        optimizer="adam", weight_decay=0.1, warmup_steps=2.0, lr_scheduler="constant"
    ),
    "loop, decay": lambda folder: dummy(optimizer_implementation="loop", weight_decay=0.1),
    "class weights, evaluations in between": lambda folder: reviews(
        messy_csv(folder), batch_size=8, class_weights="balanced", label_smoothing_factor=0.1, eval_steps=3
    ),
    "early stop": lambda folder: reviews(
        messy_csv(folder),
        batch_size=8,
        epochs=4,
        eval_steps=2,
        early_stopping_patience=1,
        metric_for_best_model="macro-f1",
        label_smoothing_factor=0.1,
        class_weights="none",
    ),
    "workers, stops": lambda folder: dummy(dataloader_num_workers=1, non_finite_loss="stop", max_grad_norm=0.1),
}
"""Every workload, task, kind of file, optimizer and technique that the fast ones leave out."""


def both(cases: dict[str, Make], folder: Path, hub: Hub) -> Iterator[tuple[str, Curves, Curves]]:
    """Each case trained by us and by its script."""
    configs = {}
    for i, (name, make) in enumerate(cases.items()):
        (folder / f"case {i}").mkdir()
        configs[name] = make(folder / f"case {i}")
    mine = [ours(config, hub) for config in configs.values()]
    (folder / "scripts").mkdir()
    scripts = [script_of(config, hub) for config in configs.values()]
    yield from zip(configs, mine, theirs(scripts, folder / "scripts"), strict=True)


def assert_same(name: str, mine: Curves, other: Curves) -> None:
    loose = "bf16" in name or name == "paged"  # states in 8 bits make much of a last digit
    tolerance = 2e-3 if loose else 1e-5
    assert len(mine.losses) == len(other.losses) > 1, name
    assert mine.losses == pytest.approx(other.losses, abs=tolerance), name
    # where rows have not all as many labels, we weigh by these and the Trainer by rows
    uneven = any(word in name for word in ("packed", "masked", "instructions", "pairs", "unequal"))
    assert mine.eval_losses == pytest.approx(other.eval_losses, abs=0.1 if uneven else tolerance), name
    assert mine.accuracies == pytest.approx(other.accuracies), name


def test_scripts_give_the_losses_of_the_run(tmp_path: Path, hub: Hub) -> None:
    for name, mine, other in both(FAST, tmp_path, hub):
        assert_same(name, mine, other)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_every_workload_and_technique_gives_the_losses_of_the_run(name: str, tmp_path: Path, hub: Hub) -> None:
    for _, mine, other in both({name: SLOW[name]}, tmp_path, hub):
        assert_same(name, mine, other)


ON_TWO: dict[str, Make] = {
    "ddp, dropout, a rest that is no whole window": lambda folder: on_two(dummy(samples=29, batch_size=4)),
    "zero1, accumulation": lambda folder: on_two(
        dummy(batch_size=2, gradient_accumulation_steps=3, epochs=1), parallel="zero1"
    ),
    "fsdp, kept after forward": lambda folder: on_two(
        dummy(samples=32, batch_size=4), parallel="fsdp", reshard_after_forward=False
    ),
    "unequal tokens, accumulation": lambda folder: on_two(
        text(paragraphs(folder), epochs=1, batch_size=4, gradient_accumulation_steps=2)
    ),
    "masked, bucketed": lambda folder: on_two(
        text(tsv(folder), task="masked-lm", model=saved_model(folder), padding="bucketed", batch_size=4)
    ),
}


def on_two(config: RunConfig, **knobs: Any) -> RunConfig:
    return config.with_values(device="virtual:tesla-p4", gpus=2, **knobs)


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_TWO)
def test_under_torchrun_a_script_gives_the_losses_of_a_run_on_two_gpus(name: str, tmp_path: Path, hub: Hub) -> None:
    config = ON_TWO[name](tmp_path)
    with ranks(2) as group:
        mine = group.each(train, config)[0]
    other = theirs_on_several(script_of(config, hub), tmp_path / "scripts", 2)
    evaluations = [each.loss for each in mine.evaluations]
    assert_same(name, Curves(mine.losses, evaluations, []), replace(other, accuracies=[]))


def test_a_script_for_several_gpus_will_not_run_as_one_process(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6")
    made = script_of(dummy(device="cuda:0,2", gpus=2, vram_limit=4096), hub)
    assert '["CUDA_VISIBLE_DEVICES"] = "4,6"' in made.text
    assert "card = int" in made.text
    assert "# Start it by: torchrun --nproc-per-node 2 " in made.text
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(SystemExit, match="A process for every GPU: torchrun --nproc-per-node 2 "):
        runpy.run_path(str(written(made, tmp_path)), run_name="__main__")
    every = script_of(dummy(device="cuda", gpus=None), hub).text
    assert "torchrun --nproc-per-node gpu" in every
    assert '["CUDA_VISIBLE_DEVICES"]' not in every
    assert '"CUDA_VISIBLE_DEVICES"] = "4,5"' in script_of(dummy(device="auto", gpus=2), hub).text


def test_what_the_trainer_cannot_divide_is_said_or_refused(hub: Hub) -> None:
    two = dummy(device="cuda", gpus=2)
    assert "ZeroRedundancyOptimizer" in script_of(two.with_values(parallel="zero1"), hub).text
    fsdp = two.with_values(parallel="fsdp", optimizer="sgd", optimizer_implementation="foreach")
    assert 'fsdp_config={"reshard_after_forward": True}' in script_of(fsdp, hub).text
    with pytest.raises(ConfigError, match="the Trainer takes only optimizers that it has a name for") as refused:
        script_of(fsdp.with_values(momentum=0.9), hub)
    assert refused.value.knob == "optimizer"


def test_only_what_the_script_says_is_needed_is_imported(tmp_path: Path, hub: Hub) -> None:
    allowed = {"torch", "transformers", "datasets", "numpy", "tokenizers", "peft", "python_calamine"}
    allowed |= {"collections", "bisect", "math", "os", "pathlib", "re", "gzip"}
    for config in (
        dummy(lora_rank=2),
        reviews(xlsx(tmp_path), padding="bucketed"),
        text(paragraphs(tmp_path), padding="packed", seq_len=32),
    ):
        written = script_of(config, hub).text
        compile(written, "handed over", "exec")
        imports = [line.split()[1] for line in written.splitlines() if line.startswith(("import ", "from "))]
        assert {name.partition(".")[0] for name in imports} <= allowed


def test_generated_text_is_a_file_beside_the_script(tmp_path: Path, hub: Hub) -> None:
    made = script_of(reviews(None, samples=40, eval_samples=20, seed=7), hub)
    assert made.data_name == "traintop-reviews-7-4000-20.jsonl"
    assert f"Path(__file__).with_name({literal(made.data_name)})" in made.text
    rows = [json.loads(line) for line in made.data.splitlines()]
    assert [row["part"] for row in rows] == ["train"] * 4000 + ["test"] * 20


def test_what_the_trainer_cannot_do_is_said_on_top(hub: Hub) -> None:
    head = script_of(dummy(optimizer_in_backward=True, max_grad_norm=0.0), hub).text.partition("\nimport")[0]
    assert "stepped its optimizer in backward, which the Trainer cannot" in head
    head = script_of(dummy(device="virtual:tesla-p4", vram_limit=4096), hub).text.partition("\nimport")[0]
    assert "on a virtual tesla-p4" in head
    assert "held to 4096 MiB" in head


def test_the_script_names_the_card_that_was_meant(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")

    def named(device: str, ran_on: DeviceInfo | None = None) -> str:
        return make_script(dummy(device=device), hub, title="Run 1", device=ran_on).text

    assert '["CUDA_VISIBLE_DEVICES"] = "3"' in named("cuda:1")
    uuid = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"
    ran_on = DeviceInfo(name="Tesla P4", kind="cuda", index=1, uuid=uuid)
    for device in ("cuda:1", "free", "auto"):
        assert f'["CUDA_VISIBLE_DEVICES"] = "{uuid}"' in named(device, ran_on)
    assert '["CUDA_VISIBLE_DEVICES"] = "GPU-8932"' in named("GPU-8932")
    assert "3B:00" not in named("3b:00.0").partition("\nimport")[2]  # the variable takes no PCI address
    assert "the UUID of one card" in named("free")


def test_what_a_run_would_be_refused_for_is_refused(tmp_path: Path, hub: Hub) -> None:
    with pytest.raises(ConfigError, match=r"has no config\.json"):
        script_of(dummy(model=str(tmp_path)), hub)
    with pytest.raises(ConfigError, match="does not exist"):
        script_of(reviews(tmp_path / "nowhere.csv"), hub)


OTHER_VALUES: dict[str, Any] = {
    "model": "bert-mini",
    "optimizer": "sgd",  # Adam is AdamW where there is no weight decay
    "text_column": "more",
    "label_column": "other",
    "target_column": "other",
    "vram_limit": 4096,
    "seed": 1,
    "device": "cuda:1",
    "gpus": 2,
    "max_grad_norm": 0.0,
    "eval_samples": 3,
    "samples": 5,
    "seq_len": 24,
    "lora_targets": "query",
    "lora_alpha": 3,
    "output_dir": "elsewhere",
}


def test_an_answering_run_has_no_script_for_the_trainer(hub: Hub) -> None:
    with pytest.raises(ConfigError, match="The Trainer answers nothing"):
        script_of(defaults_of(ANSWER), hub)


@pytest.mark.parametrize("name", [name for name, knob in KNOBS.items() if TRAIN in knob.jobs and name != "job"])
def test_no_knob_is_forgotten(name: str, tmp_path: Path, hub: Hub) -> None:
    """Turning any knob changes what the script does or says."""
    file = table(tmp_path / "a.csv", ["text", "more", "label", "other"])
    base = reviews(file, device="cuda", dataloader_num_workers=1, max_grad_norm=0.5, save_steps=10)
    if name in ("optimizer_in_backward", "task", "workload"):
        base = dummy(device="cuda", max_grad_norm=0.0, model="gpt2-tiny")
    if name == "cross_entropy":
        base = dummy(device="cuda", model="gpt2-tiny", task="causal-lm")
    if name == "target_len":
        base = dummy(device="cuda", model="t5-small", task="seq2seq-lm")
    if name in ("target_column", "completion_only_loss"):
        base = instructions(file, device="cuda", text_column="text", target_column="label")
    if name.startswith("lora_") and name != "lora_rank":
        base = base.with_values(lora_rank=4)
    if name == "momentum":
        base = base.with_values(optimizer="sgd")
    if name == "early_stopping_threshold":
        base = base.with_values(early_stopping_patience=1)
    if name in ("parallel", "bucket_mib", "reshard_after_forward"):
        base = base.with_values(gpus=2, parallel="fsdp" if name == "reshard_after_forward" else "ddp")
    knob, now = KNOBS[name], getattr(base, name)
    if name == "data":
        other = reviews(messy_csv(tmp_path), device="cuda", dataloader_num_workers=1, max_grad_norm=0.5)
    elif name == "workload":
        other = reviews(file, device="cuda", max_grad_norm=0.0, model="gpt2-tiny", samples=28)
    else:
        options = (OTHER_VALUES[name],) if name in OTHER_VALUES else (*knob.choices, *knob.steps, not now)
        allowed = [value for value in options if value != now and not (name == "padding" and value == "packed")]
        other = base.with_values(**{name: allowed[0]})
    one, two = (
        [line for line in script_of(config, hub).text.splitlines() if not line.startswith("# traintop run")]
        for config in (base, other)
    )
    assert one != two


def test_hostile_text_stays_text(tmp_path: Path, hub: Hub) -> None:
    file = table(tmp_path / 'a"""\\\n\'import os.csv', ['a"\\n', "'b", '"label\nimport os', "c"])
    config = reviews(file, text_column='a"\\n', label_column='"label\nimport os')
    written = script_of(config, hub).text
    compile(written, "handed over", "exec")
    assert not any(line.startswith("import os") for line in written.splitlines())
    scope: dict[str, Any] = {}
    constants = [line for line in written.splitlines() if line.startswith(("FILE =", "TEXT, LABEL =", "CLASSES ="))]
    exec("\n".join(constants), scope)
    assert (scope["FILE"], scope["TEXT"], scope["LABEL"]) == (str(file), 'a"\\n', '"label\nimport os')


# the arguments ----------------------------------------------------------------------------------------------------


def made(config: RunConfig, folder: Path, monkeypatch: pytest.MonkeyPatch) -> transformers.TrainingArguments:
    """What the source makes, in a folder of its own; this machine need not have the GPU that it asks for."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr("transformers.training_args.is_torch_tf32_available", lambda: True)
    monkeypatch.setattr("transformers.training_args.enable_tf32", lambda on: None)
    values = {name: eval(code, {"torch": torch}) for name, code in arguments_of(config, held_out=True).items()}
    return transformers.TrainingArguments(**values)


def test_training_arguments_say_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = RunConfig(
        batch_size=16,
        gradient_accumulation_steps=4,
        gradient_checkpointing="every-second",
        epochs=2,
        learning_rate=3e-4,
        lr_scheduler="constant",
        max_grad_norm=0.0,
        seed=7,
        dataloader_num_workers=2,
        dataloader_prefetch_factor=4,
        device="cpu",
    )
    arguments = made(config, tmp_path, monkeypatch)
    assert arguments.per_device_train_batch_size == arguments.per_device_eval_batch_size == 16
    assert arguments.gradient_accumulation_steps == 4
    assert arguments.activation_checkpointing is True
    assert arguments.activation_checkpointing_kwargs == {"use_reentrant": False, "every_n_layers": 2}
    assert (arguments.num_train_epochs, arguments.max_steps) == (2, -1)
    assert (arguments.learning_rate, arguments.weight_decay, arguments.max_grad_norm) == (3e-4, 0.0, 0.0)
    assert (arguments.lr_scheduler_type, arguments.warmup_steps) == ("constant", 0)
    assert (arguments.seed, arguments.data_seed) == (7, 7)
    assert (arguments.dataloader_num_workers, arguments.dataloader_prefetch_factor) == (2, 4)
    assert arguments.dataloader_multiprocessing_context == "forkserver"
    assert (arguments.eval_strategy, arguments.save_strategy) == ("epoch", "no")
    assert arguments.use_cpu is True


@pytest.mark.parametrize(
    ("precision", "wanted"), [("fp32", (False, False)), ("fp16", (True, False)), ("bf16", (False, True))]
)
def test_precision(precision: str, wanted: tuple[bool, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = made(RunConfig(precision=precision, device="cpu"), tmp_path, monkeypatch)
    assert (arguments.fp16, arguments.bf16) == wanted
    assert "tf32" in arguments_of(RunConfig(precision="tf32"), held_out=False)


@pytest.mark.parametrize("implementation", KNOBS["optimizer_implementation"].choices)
@pytest.mark.parametrize("optimizer", KNOBS["optimizer"].choices)
def test_every_optimizer_is_known_to_transformers(optimizer: str, implementation: str) -> None:
    from transformers.training_args import OptimizerNames

    config = RunConfig(optimizer=optimizer, optimizer_implementation=implementation)
    assert eval(arguments_of(config, held_out=False)["optim"]) in {known.value for known in OptimizerNames}


# its making -------------------------------------------------------------------------------------------------------


def test_imports_are_merged() -> None:
    lines = ["import torch", "from x import b, a", "from x import c", "import os", "import numpy as np", "import torch"]
    assert merged(lines) == ["import os", "", "from x import a, b, c", "import numpy as np", "import torch"]


@pytest.mark.parametrize("value", ["a", "it's", 'say "x"', "'\"", "\\", "\n\x1b", {"a'": [1, None]}, ["x"], 1.5, True])
def test_values_come_back_from_their_source(value: object) -> None:
    assert eval(literal(value)) == value


def test_a_script_is_its_parts() -> None:
    part = Part(imports=("import os",), constants=("A = 1",), functions=("def f():\n    return A",), main=("f()",))
    written = source(["heading"], [part, Part(notes=("a note",), needs=("peft",))])
    assert written.startswith("# heading\n# Needs torch, transformers 5, datasets, accelerate, peft.\n# a note\n")
    scope: dict[str, Any] = {"__name__": "x"}
    exec(written, scope)
    assert scope["f"]() == 1
