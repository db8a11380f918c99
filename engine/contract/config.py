"""RunConfig: every knob of a run, its bounds, its reason in one line, and refusals that name the fix.

Standard library only: the screen builds its knob list and the command line its flags from `KNOBS`,
before anything heavy is imported.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, get_args, get_origin, get_type_hints

from engine.contract.answering_knobs import AnsweringKnobs
from engine.contract.combinations import check_together
from engine.contract.command import Command, read_command
from engine.contract.device_name import SPELLINGS
from engine.contract.knob import ANSWER, JOBS, OWN_JOBS, SCRIPT, TRAIN, ConfigError, Knob, Value, check, coerce
from engine.contract.knob import setting as _knob
from engine.contract.own_data import is_own_file
from engine.contract.tasks import TASKS

__all__ = ["KNOBS", "ConfigError", "Knob", "RunConfig", "Value", "coerce"]


_POWERS = tuple(2**i for i in range(13))
QUANTISED = ("int8", "nf4")
"""Weights that need LoRA: what is rounded to so few bits cannot be trained itself."""
DEFAULT_SAMPLES = 512
"""Of data that is made up or the hub's, as in the lecture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig(AnsweringKnobs):
    """One run's settings. Frozen: a key builds a new one, which applies to the next run.

    Names and meanings follow `transformers.TrainingArguments` where it has the same setting.
    Raises `ConfigError` on a value out of bounds or a combination that makes no sense.
    """

    job: str = _knob(
        TRAIN,
        "job",
        "train teaches a model, answer lets it write (a classifier: score), script runs your command.",
        choices=JOBS,
        jobs=JOBS,
        group="what",
    )
    model: str = _knob(
        "bert-tiny",
        "model",
        "More parameters: weights, gradients and optimizer state grow together (16 bytes each in fp32 AdamW).",
        why_answering="More parameters: every step reads them all, so tokens/s fall about in proportion.",
        hint="preset, hub name or local folder",
        jobs=OWN_JOBS,
        group="what",
    )
    workload: str = _knob(
        "dummy",
        "workload",
        "dummy measures cost on random tokens; reviews learns classes, text words or pairs, instructions answers.",
        choices=("dummy", "reviews", "text", "instructions"),
        group="data",
    )
    data: str | None = _knob(
        None,
        "data",
        "CSV, TSV, JSON lines, Parquet, Excel or plain text file (also .gz), data set of the hub, or generated.",
        optional=True,
        hint="file, hub name or generated; generated where not set",
        group="data",
    )
    text_column: str | None = _knob(
        None,
        "text column",
        "Which column holds the text: of a pair the source, of instructions the messages or the prompt.",
        why_answering="Which column of a file holds the prompts, or the texts to be scored.",
        optional=True,
        hint="found by name and content",
        jobs=OWN_JOBS,
        group="data",
    )
    label_column: str | None = _knob(
        None,
        "label column",
        "Which column holds the class.",
        optional=True,
        hint="found by name and content",
        group="data",
    )
    target_column: str | None = _knob(
        None,
        "target column",
        "Which column holds what is to be written: of a pair the target, of instructions the completion.",
        optional=True,
        hint="found by name",
        group="data",
    )
    completion_only_loss: bool = _knob(
        True,
        "answers only",
        "Of instructions, learn what the assistant says alone; off learns every token, the questions too.",
        group="data",
    )
    task: str = _knob(
        "classification",
        "task",
        "The head on the model; a language model's head adds a batch × length × vocabulary tensor of logits.",
        why_answering="Language models write answers token by token; a classifier scores texts.",
        choices=tuple(TASKS),
        jobs=OWN_JOBS,
        group="what",
    )
    batch_size: int = _knob(
        8,
        "batch size",
        "Samples per micro-step: activations grow with it; a fuller GPU does more samples/s.",
        why_answering="Prompts or texts at once: memory grows with it; a step reads the weights once for all.",
        minimum=1,
        maximum=65_536,
        steps=_POWERS,
        jobs=OWN_JOBS,
        group="batch",
    )
    gradient_accumulation_steps: int = _knob(
        1,
        "accumulation",
        "Micro-steps per update: a larger effective batch at the memory of a small one, but fewer updates.",
        minimum=1,
        maximum=65_536,
        steps=_POWERS,
        group="batch",
    )
    gradient_checkpointing: str = _knob(
        "off",
        "checkpointing",
        "Keep each layer's input (selective: products too), compute the rest again: less memory, up to 1/3 more time.",
        choices=("off", "on", "every-second", "selective"),
        group="memory",
    )
    weights: str = _knob(
        "fp32",
        "weights",
        "What parameters are stored in, gradients and states with them (int8, nf4: only LoRA's); precision computes.",
        why_answering="What parameters are stored in: every step reads them all, so fewer bytes may be more tokens/s.",
        choices=("fp32", "bf16", "fp16", "int8", "nf4"),
        jobs=OWN_JOBS,
        group="memory",
    )
    precision: str = _knob(
        "fp32",
        "precision",
        "fp16, bf16: autocast, on tensor cores; tf32 rounds inside products; fp32 leaves 16-bit weights as they are.",
        why_answering="fp32 leaves 16-bit weights as they are; int8 and nf4 want bf16; tf32 rounds inside products.",
        choices=("fp32", "tf32", "fp16", "bf16"),
        jobs=OWN_JOBS,
        group="compute",
    )
    optimizer: str = _knob(
        "adamw",
        "optimizer",
        "AdamW keeps two states per parameter (8 bytes; 2 in 8 bits), SGD one with momentum; paged: moved to the host.",
        choices=("adamw", "adam", "sgd", "adafactor", "adamw-8bit", "paged-adamw-8bit"),
        group="optimizer",
    )
    optimizer_implementation: str = _knob(
        "fused",
        "implementation",
        "fused: one kernel, no temporaries; foreach: fast, but copies; loop: slow. Adafactor and 8-bit have their own.",
        choices=("fused", "foreach", "loop"),
        group="optimizer",
    )
    momentum: float = _knob(
        0.0,
        "momentum",
        "Of SGD: the share of a step that the next one keeps, for one state per parameter; 0 is off.",
        minimum=0.0,
        maximum=0.999,
        steps=(0.0, 0.5, 0.9, 0.99),
        group="optimizer",
    )
    optimizer_in_backward: bool = _knob(
        False,
        "in backward",
        "Step each parameter as soon as its gradient is there, and free it: no gradients are kept, no accumulation.",
        group="memory",
    )
    lora_rank: int = _knob(
        0,
        "LoRA rank",
        "Train two thin matrices beside each frozen one: gradients and optimizer state all but vanish; 0 is off.",
        minimum=0,
        maximum=1024,
        steps=(0, 4, 8, 16, 32, 64),
        group="memory",
    )
    lora_targets: str = _knob(
        "default",
        "LoRA targets",
        "Which linear layers get thin matrices: peft's default for the model (as a rule attention's), all, or by name.",
        hint="default, all-linear or names such as q_proj,v_proj",
        group="memory",
    )
    lora_alpha: int | None = _knob(
        None,
        "LoRA alpha",
        "The thin matrices' product counts alpha ÷ rank times.",
        minimum=1,
        maximum=65_536,
        steps=(8, 16, 32, 64, 128),
        optional=True,
        hint="2 × rank",
        group="memory",
    )
    lora_dropout: float = _knob(
        0.0,
        "LoRA dropout",
        "Share of the thin matrices' input that is dropped: regularises, and keeps one more copy of that input.",
        minimum=0.0,
        maximum=0.99,
        steps=(0.0, 0.05, 0.1),
        group="memory",
    )
    cross_entropy: str = _knob(
        "plain",
        "cross-entropy",
        "chunked and liger never hold a language model's logits: less memory, one more product by the vocabulary.",
        choices=("plain", "chunked", "liger"),
        group="memory",
    )
    activation_offloading: bool = _knob(
        False,
        "offloading",
        "Move what layers keep for backward to the host's memory and back: less on the GPU, more time on the bus.",
        group="memory",
    )
    torch_compile: bool = _knob(
        False,
        "torch.compile",
        "Fuses operators into fewer kernels: slow first updates, then faster ones.",
        why_answering="Fuses a step's operators into fewer kernels: a slow warm-up, then faster tokens.",
        jobs=OWN_JOBS,
        group="compute",
    )
    attention: str = _knob(
        "auto",
        "attention",
        "auto: sdpa where the model has it, else eager, which keeps length × length scores per head; flash is fastest.",
        choices=("auto", "sdpa", "eager", "flash"),
        jobs=OWN_JOBS,
        group="compute",
    )
    padding: str = _knob(
        "longest",
        "padding",
        "max_length computes on padding too; longest on less; bucketed (similar lengths) and packed on hardly any.",
        why_answering="Of texts to be scored: max_length computes on padding, longest on less, bucketed on hardly any.",
        choices=("max_length", "longest", "bucketed", "packed"),
        jobs=OWN_JOBS,
        group="batch",
    )
    seq_len: int = _knob(
        512,
        "sequence length",
        "Tokens per sample: activations grow with it, eager attention with its square.",
        unit="tokens",
        minimum=2,
        maximum=1_048_576,
        steps=_POWERS[3:],
        group="batch",
    )
    target_len: int | None = _knob(
        None,
        "target length",
        "Tokens that a seq2seq model writes per sample; the sequence length is what it reads.",
        unit="tokens",
        minimum=1,
        maximum=1_048_576,
        steps=_POWERS[3:],
        group="batch",
        optional=True,
        hint="as the sequence length",
    )
    samples: int | None = _knob(
        None,
        "samples",
        "Training samples in an epoch.",
        minimum=1,
        maximum=10_000_000,
        steps=(64, 128, 256, 512, 1000, 2000, 5000, 10_000, 100_000),
        group="data",
        optional=True,
        hint="all of a file",
        none="all",
    )
    eval_samples: int = _knob(
        1000,
        "eval samples",
        "Held-out samples that an evaluation scores (never more than the data has).",
        minimum=1,
        maximum=10_000_000,
        steps=(100, 200, 500, 1000, 2000, 5000),
        group="evaluation",
    )
    eval_steps: int | None = _knob(
        None,
        "eval every",
        "Updates between evaluations; the last update is always evaluated.",
        unit="updates",
        minimum=1,
        maximum=10_000_000,
        steps=(10, 20, 50, 100, 200, 500, 1000),
        group="evaluation",
        optional=True,
        hint="after every epoch",
        none="epoch",
    )
    metric_for_best_model: str = _knob(
        "loss",
        "best by",
        "Which figure of an evaluation says which one was the best: the loss, the accuracy or the mean of all F1.",
        choices=("loss", "accuracy", "macro-f1"),
        group="evaluation",
    )
    early_stopping_patience: int = _knob(
        0,
        "patience",
        "Evaluations in a row without a better one that end the run early; 0 trains to the end.",
        unit="evaluations",
        minimum=0,
        maximum=10_000,
        steps=(0, 1, 2, 3, 5, 10),
        group="evaluation",
    )
    early_stopping_threshold: float = _knob(
        0.0,
        "improvement",
        "How much better than the best an evaluation has to be, to count as better for the patience.",
        minimum=0.0,
        maximum=1e6,
        steps=(0.0, 0.001, 0.005, 0.01),
        group="evaluation",
    )
    epochs: int = _knob(
        1,
        "epochs",
        "Passes over the training samples.",
        minimum=1,
        maximum=10_000,
        steps=(1, 2, 3, 4, 5, 10, 20),
        group="what",
    )
    learning_rate: float = _knob(
        5e-5,
        "learning rate",
        "Size of an update; a larger effective batch usually bears a larger one.",
        minimum=0.0,
        maximum=10.0,
        steps=(1e-6, 3e-6, 1e-5, 2e-5, 3e-5, 5e-5, 1e-4, 2e-4, 3e-4, 5e-4, 1e-3, 3e-3, 1e-2),
        group="optimizer",
    )
    lr_scheduler: str = _knob(
        "linear",
        "schedule",
        "linear and cosine let the learning rate fall to 0 over the run; constant keeps it.",
        choices=("linear", "cosine", "constant"),
        group="optimizer",
    )
    warmup_steps: float = _knob(
        0.0,
        "warm-up",
        "Updates over which the learning rate rises from 0; below 1 a share of all updates.",
        minimum=0.0,
        maximum=10_000_000.0,
        steps=(0.0, 0.03, 0.06, 0.1, 100.0, 500.0, 1000.0),
        group="optimizer",
    )
    weight_decay: float = _knob(
        0.0,
        "weight decay",
        "What weights shrink by in an update, times the learning rate; biases and normalisations do not.",
        minimum=0.0,
        maximum=100.0,
        steps=(0.0, 0.001, 0.01, 0.05, 0.1),
        group="optimizer",
    )
    class_weights: str = _knob(
        "none",
        "class weights",
        "balanced: rare classes count more in the loss, so that all count alike; none: every sample counts alike.",
        choices=("none", "balanced"),
        group="optimizer",
    )
    label_smoothing_factor: float = _knob(
        0.0,
        "label smoothing",
        "The share of every label that is spread over all classes: less sure answers, which often are truer ones.",
        minimum=0.0,
        maximum=1.0,
        steps=(0.0, 0.05, 0.1, 0.2),
        group="optimizer",
    )
    max_grad_norm: float = _knob(
        1.0,
        "max grad norm",
        "Gradients longer than this are scaled down to it; 0 switches clipping off.",
        minimum=0.0,
        maximum=1e9,
        steps=(0.0, 0.5, 1.0, 5.0),
        group="optimizer",
    )
    non_finite_loss: str = _knob(
        "continue",
        "non-finite loss",
        "What a loss of nan or inf does: continue trains on, as the Trainer does; stop ends the run there, as failed.",
        choices=("continue", "stop"),
        group="optimizer",
    )
    dropout: bool = _knob(
        True, "dropout", "Off makes runs comparable to the last digit; on regularises, as trained.", group="what"
    )
    dataloader_num_workers: int = _knob(
        0,
        "workers",
        "Processes that prepare batches ahead; they help where the data share of the time is large.",
        minimum=0,
        maximum=64,
        steps=(0, 1, 2, 4, 8),
        group="data",
    )
    dataloader_pin_memory: bool = _knob(
        True, "pinned memory", "Page-locked host memory lets copies to the GPU overlap with compute.", group="data"
    )
    dataloader_prefetch_factor: int = _knob(
        2,
        "prefetch",
        "Batches each worker prepares ahead.",
        unit="batches",
        minimum=1,
        maximum=256,
        steps=(1, 2, 4, 8),
        group="data",
    )
    seed: int = _knob(
        42,
        "seed",
        "Same seed, same run: initialisation, order and dropout.",
        why_answering="Same seed, same run: random weights, prompts that are made up, and tokens that are drawn.",
        minimum=0,
        maximum=2**31 - 1,
        jobs=OWN_JOBS,
        group="what",
    )
    gpus: int | None = _knob(
        1,
        "GPUs",
        "Each trains on its own batches, and gradients are averaged: the effective batch and samples/s grow with them.",
        minimum=1,
        maximum=4096,
        steps=(1, 2, 4, 8),
        optional=True,
        hint="all that --device names",
        none="all",
        group="parallel",
    )
    parallel: str = _knob(
        "ddp",
        "parallel",
        "ddp: every GPU holds all; zero1 divides the optimizer's states; fsdp weights, gradients and states.",
        choices=("ddp", "zero1", "fsdp"),
        group="parallel",
    )
    reshard_after_forward: bool = _knob(
        True,
        "reshard",
        "Of fsdp: give a layer's weights back after forward, gather them again in backward; off keeps them meanwhile.",
        group="parallel",
    )
    bucket_mib: int = _knob(
        25,
        "bucket",
        "Of ddp and zero1: gradients that are sent at once, while backward goes on with the layers before.",
        unit="MiB",
        minimum=1,
        maximum=65_536,
        steps=(1, 5, 25, 50, 100),
        group="parallel",
    )
    device: str = _knob(
        "auto",
        "device",
        "auto takes the first CUDA GPU, else a virtual Tesla P4: real training on the CPU, accounted as on that GPU.",
        why_answering="auto takes the first CUDA GPU, else a virtual Tesla P4: the CPU answers, accounted as there.",
        hint=SPELLINGS,
        jobs=JOBS,
        group="where",
    )
    vram_limit: int | None = _knob(
        None,
        "VRAM limit",
        "Run as on a smaller card: over this limit it is out of memory.",
        unit="MiB",
        minimum=64,
        maximum=1_048_576,
        optional=True,
        hint="the card's own",
        jobs=OWN_JOBS,
        group="where",
    )

    output_dir: str | None = _knob(
        None,
        "output folder",
        "Keep the trained model here, as transformers and peft load it: the best (where held out), and the last.",
        optional=True,
        hint="no model is kept; {run} in a name becomes the run's number",
        group="saving",
    )
    save_steps: int = _knob(
        0,
        "save steps",
        "A checkpoint every so many updates, from which a run that was cut short goes on; 0 keeps none.",
        unit="updates",
        minimum=0,
        maximum=10_000_000,
        steps=(0, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000),
        group="saving",
    )
    save_total_limit: int = _knob(
        2,
        "checkpoints kept",
        "Older checkpoints of the run are removed, each with trained weights and the optimizer's states; 0 keeps all.",
        minimum=0,
        maximum=10_000,
        steps=(0, 1, 2, 3, 5, 10),
        group="saving",
    )

    command: str | None = _knob(
        None,
        "command",
        "Your own training script, as in a shell: {batch_size} in it is a knob, {block_size=256,512} one of its own.",
        optional=True,
        hint="a command",
        jobs=(SCRIPT,),
        group="script",
    )
    command_flags: str = _knob(
        "own",
        "flags",
        "transformers: it reads TrainingArguments, so knobs that are turned become its flags; own: placeholders alone.",
        choices=("own", "transformers"),
        jobs=(SCRIPT,),
        group="script",
    )
    command_values: str | None = _knob(
        None,
        "own knobs",
        "Values of knobs that only your script knows, as in block_size=512 dropout=0.1; each begins with its first.",
        optional=True,
        hint="the first of each",
        jobs=(SCRIPT,),
        group="script",
    )

    max_updates: int | None = _knob(
        None,
        "max updates",
        "Your script is ended after so many updates, which is enough to know its memory and speed.",
        unit="updates",
        minimum=1,
        maximum=10_000_000,
        steps=(10, 20, 50, 100, 200, 500, 1000),
        optional=True,
        hint="it ends by itself",
        jobs=(SCRIPT,),
        group="script",
    )

    def __post_init__(self) -> None:
        if self.samples is None and self.trains and not is_own_file(self.workload, self.data):
            object.__setattr__(self, "samples", DEFAULT_SAMPLES)  # a file has an end, made-up data has none
        knobs = globals().get("KNOBS", {})
        for knob in knobs.values():
            check(knob, getattr(self, knob.name))
        if self.command:
            command = read_command(self.command, knobs)
            object.__setattr__(self, "command", command.text)
            object.__setattr__(self, "command_values", command.turned_values(self.command_values))
        check_together(self, knobs)

    @property
    def is_quantised(self) -> bool:
        """Whether the matrices of the linear layers are stored in fewer than 16 bits."""
        return self.weights in QUANTISED

    @property
    def stored_in(self) -> str:
        """The type of the parameters that are not quantised: beside int8 and nf4 it is that of the precision."""
        if not self.is_quantised:
            return self.weights
        return self.precision if self.precision in ("bf16", "fp16") else "fp32"

    @property
    def computed_in(self) -> str:
        """The type of the matrix products: 16-bit weights without autocast compute in their own."""
        return self.stored_in if self.precision in ("fp32", "tf32") and self.stored_in != "fp32" else self.precision

    @property
    def trains(self) -> bool:
        """Whether the run trains a model of ours, with our loop."""
        return self.job == TRAIN

    @property
    def answers(self) -> bool:
        """Whether the run answers prompts."""
        return self.job == ANSWER

    @property
    def is_script(self) -> bool:
        """Whether the run is a command of the user's own."""
        return self.job == SCRIPT

    @property
    def script(self) -> Command | None:
        """The command as it was read; None without one."""
        return read_command(self.command, KNOBS) if self.command else None

    def says(self, name: str) -> bool:
        """Whether the knob `name` means something for this run: of a script, whether its command carries it."""
        jobs = KNOBS[name].jobs
        if self.script is None or SCRIPT in jobs:
            return self.job in jobs
        return name in self.script.knobs

    @property
    def keeps_keys(self) -> bool:
        """Whether it writes with keys and values that are kept."""
        return self.answers and self.task != "classification" and self.kv_cache != "off"

    @property
    def effective_batch_size(self) -> int:
        """Samples per optimizer update when every window is full, of all GPUs: of `all`, not counted yet, as of one."""
        return self.batch_size * self.gradient_accumulation_steps * (self.gpus or 1)

    @property
    def is_parallel(self) -> bool:
        """Whether it is to run on several GPUs: on all there are, where that is not counted yet."""
        return self.gpus != 1

    @property
    def is_divided(self) -> bool:
        """Whether each of several GPUs holds a part of the weights only."""
        return self.is_parallel and self.parallel == "fsdp"

    @property
    def target_tokens(self) -> int:
        """The most tokens of a sample's target; 0 where the task has none of its own."""
        return (self.target_len or self.seq_len) if self.task == "seq2seq-lm" else 0

    def smaller_pairs(self) -> Iterator[tuple[int, int]]:
        """Batch sizes below this one with the accumulation that keeps the effective batch, the largest first.

        None where the gradients are not kept, and so cannot accumulate.
        """
        if self.optimizer_in_backward:
            return
        whole = self.batch_size * self.gradient_accumulation_steps
        for size in range(self.batch_size - 1, 0, -1):
            if whole % size == 0:
                yield size, whole // size

    @property
    def n_samples(self) -> int:
        """Training samples in an epoch; of a file that is taken whole, and so has no number yet, the default."""
        return DEFAULT_SAMPLES if self.samples is None else self.samples

    def with_values(self, **changes: Value) -> RunConfig:
        """A copy with some knobs changed. Raises `ConfigError` when the result cannot run."""
        return replace(self, **changes)  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, Value]:
        """Plain values by field name, for JSON, TOML and the history."""
        return {name: getattr(self, name) for name in KNOBS}

    @classmethod
    def from_dict(cls, values: dict[str, Any], *, lenient: bool = False) -> RunConfig:
        """The inverse of `to_dict`.

        `lenient` ignores names that this version does not know, for histories written by another one.
        Raises `ConfigError` on an unknown name (unless lenient) or a wrong type.
        """
        unknown = [name for name in values if name not in KNOBS]
        if unknown and not lenient:
            raise ConfigError(unknown[0], f"{unknown[0]!r} is not a knob; the knobs are {', '.join(KNOBS)}.")
        known = {name: coerce(KNOBS[name], value) for name, value in values.items() if name in KNOBS}
        if lenient and known.get("lora_rank") and "lora_targets" not in known:
            known["lora_targets"] = "all-linear"  # what it was before it could be chosen
        return cls(**known)  # type: ignore[arg-type]


def _collect_knobs() -> dict[str, Knob]:
    hints = get_type_hints(RunConfig)
    knobs = {}
    inherited = {f.name for f in fields(AnsweringKnobs)}
    for f in sorted(fields(RunConfig), key=lambda f: f.name in inherited):
        hint = hints[f.name]
        optional = get_origin(hint) in (typing.Union, types.UnionType) and type(None) in get_args(hint)
        kind = next(a for a in get_args(hint) if a is not type(None)) if optional else hint
        knobs[f.name] = replace(f.metadata["knob"], name=f.name, kind=kind, optional=optional)
    return knobs


KNOBS: dict[str, Knob] = _collect_knobs()
"""Every knob by field name, in the order of the fields; those of answering alone, which are inherited, come last."""

KEEPING = frozenset(("output_dir", "save_steps", "save_total_limit"))
"""Knobs that say what is kept on the disk: no figure depends on them, so runs that differ in them alone are repeats."""
