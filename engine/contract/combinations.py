"""Knobs that cannot go together: refusals that name the fix. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from engine.contract.answering_combinations import check_answering, check_device
from engine.contract.device_name import read_device
from engine.contract.knob import ConfigError, Knob
from engine.contract.script_combinations import check_script

if TYPE_CHECKING:
    from engine.contract.config import RunConfig


def check_together(config: RunConfig, knobs: Mapping[str, Knob]) -> None:
    """Raise `ConfigError` where values that are good alone cannot go together."""
    if config.is_script:
        check_script(config, knobs)
        return
    _check_job(config, knobs)
    if config.answers:
        check_answering(config)
        return
    for check in _CHECKS:
        check(config)


def _check_job(config: RunConfig, knobs: Mapping[str, Knob]) -> None:
    """What means nothing for a job is not turned: a row that shows it would claim that it did something."""
    for knob in knobs.values():
        if config.job in knob.jobs or getattr(config, knob.name) == knob.default:
            continue
        other = knob.jobs[0]
        raise ConfigError(
            knob.name,
            f"{knob.flag} is for --job {other}, and this one is to {config.job}: leave it out, or use --job {other}.",
        )


_TASKS_OF: dict[str, tuple[tuple[str, ...], str]] = {
    "reviews": (("classification",), "reviews"),
    "text": (("causal-lm", "masked-lm", "seq2seq-lm"), "plain text"),
    "instructions": (("causal-lm",), "instructions"),
}
"""By workload, the tasks that it can train, and how sentences call its data; the dummy one trains all."""


def _check_task(config: RunConfig) -> None:
    tasks, what = _TASKS_OF.get(config.workload, ((config.task,), ""))
    if config.task in tasks:
        return
    *most, last = tasks
    fix = f"use --task {', '.join(most)} or {last}" if most else f"use --task {last}"
    if config.workload == "instructions" and config.task == "seq2seq-lm":
        fix += ", or --workload text, which reads prompts and completions as pairs"
    raise ConfigError("task", f"--task {config.task} cannot train on {what}: {fix}.")


def _check_target_len(config: RunConfig) -> None:
    if config.target_len is not None and config.task != "seq2seq-lm":
        raise ConfigError(
            "target_len",
            f"--target-len is for a model that reads one text and writes another, and --task {config.task} has one "
            "text: use --seq-len alone, or --task seq2seq-lm.",
        )


_NO_PACKING = {
    "reviews": "--padding packed puts several texts in a row, and a classifier reads one token per row: "
    "use --padding bucketed.",
    "dummy": "--padding packed has nothing to do, as the dummy workload's samples are full: use --padding longest.",
}


def _check_padding(config: RunConfig) -> None:
    if config.padding != "packed":
        return
    if config.workload in _NO_PACKING:
        raise ConfigError("padding", _NO_PACKING[config.workload])
    if config.task == "seq2seq-lm":
        raise ConfigError(
            "padding",
            "--padding packed puts several texts in a row, and a seq2seq model reads one text to write one: "
            "use --padding bucketed.",
        )


def _check_weights(config: RunConfig) -> None:
    if config.weights in ("bf16", "fp16") and config.precision == "fp16" and config.lora_rank == 0:
        fix = "--precision bf16" if config.weights == "bf16" else "--precision fp32, which computes in fp16 unscaled"
        raise ConfigError(
            "precision",
            f"--precision fp16 scales the loss, and gradients in 16 bits, as with --weights {config.weights}, cannot "
            f"be unscaled: use {fix}, or --weights fp32.",
        )


def _check_quantised(config: RunConfig) -> None:
    if not config.is_quantised:
        return
    if config.lora_rank == 0:
        raise ConfigError(
            "weights",
            f"--weights {config.weights} cannot be trained themselves, only what LoRA puts beside them: "
            "use --lora-rank 16, or --weights bf16.",
        )
    if config.torch_compile:
        raise ConfigError(
            "torch_compile",
            f"--torch-compile is not for --weights {config.weights}, whose layers transformers counts among those that "
            "cannot be compiled: use --torch-compile off, or --weights bf16.",
        )


def _check_momentum(config: RunConfig) -> None:
    if config.momentum > 0 and config.optimizer != "sgd":
        raise ConfigError(
            "momentum",
            f"--momentum is SGD's, and this is {config.optimizer}: use --optimizer sgd, or --momentum 0.",
        )


def _check_optimizer_in_backward(config: RunConfig) -> None:
    if not config.optimizer_in_backward:
        return
    obstacles = (
        (config.gradient_accumulation_steps > 1, "the gradients of a window", "--gradient-accumulation-steps 1"),
        (config.max_grad_norm > 0, "all gradients at once for their norm", "--max-grad-norm 0"),
        (
            config.precision == "fp16",
            "all gradients at once to unscale them",
            "--precision fp32, or bf16 where the card has it",
        ),
    )
    for applies, needs, fix in obstacles:
        if applies:
            raise ConfigError(
                "optimizer_in_backward",
                f"--optimizer-in-backward frees each gradient at once, but this run needs {needs}: use {fix}.",
            )


def _check_evaluation(config: RunConfig) -> None:
    if config.early_stopping_patience and config.workload == "dummy":
        raise ConfigError(
            "early_stopping_patience",
            "--early-stopping-patience waits for better evaluations, and the dummy workload has nothing to evaluate: "
            "use 0, or --workload reviews or text.",
        )
    if config.metric_for_best_model != "loss" and config.task != "classification":
        raise ConfigError(
            "metric_for_best_model",
            f"--metric-for-best-model {config.metric_for_best_model} needs classes, and --task {config.task} has none: "
            "use --metric-for-best-model loss.",
        )


def _check_class_loss(config: RunConfig) -> None:
    if config.task == "classification":
        return
    if config.class_weights != "none":
        raise ConfigError(
            "class_weights",
            f"--class-weights {config.class_weights} needs classes, and --task {config.task} has none: use none.",
        )
    if config.label_smoothing_factor:
        raise ConfigError(
            "label_smoothing_factor",
            f"--label-smoothing-factor is there for classes, and --task {config.task} has none: use 0.",
        )


def _check_cross_entropy(config: RunConfig) -> None:
    if config.cross_entropy == "plain":
        return
    if not config.task.endswith("-lm"):
        raise ConfigError(
            "cross_entropy",
            f"--cross-entropy {config.cross_entropy} is for a language model's loss, and --task {config.task} has a "
            "small head: use --cross-entropy plain.",
        )
    if config.torch_compile:
        raise ConfigError(
            "cross_entropy",
            f"--cross-entropy {config.cross_entropy} leaves the head's product to the loss, which --torch-compile does "
            "not follow: use --cross-entropy plain or --torch-compile off.",
        )


def _check_activation_offloading(config: RunConfig) -> None:
    if not config.activation_offloading:
        return
    if read_device(config.device).kind == "cpu":
        raise ConfigError(
            "activation_offloading",
            "--activation-offloading moves what a GPU keeps to the host, and on --device cpu it is there already: use "
            "--activation-offloading off, or --device virtual:tesla-p4 (or another GPU) to see what it would save.",
        )
    if config.torch_compile:
        raise ConfigError(
            "activation_offloading",
            "--activation-offloading moves what each operator keeps, and --torch-compile decides itself what is kept: "
            "use --activation-offloading off or --torch-compile off.",
        )


def _check_parallel(config: RunConfig) -> None:
    if not config.is_parallel:
        return
    name, wanted = read_device(config.device), f"--gpus {'all' if config.gpus is None else config.gpus}"
    if name.kind == "cpu":
        raise ConfigError(
            "gpus",
            f"{wanted} needs GPUs, and --device cpu has none: use --gpus 1, or --device virtual:tesla-p4 to train on "
            "several that are not there.",
        )
    if name.count is not None and (config.gpus or 0) > name.count:
        cards = f"{name.count} GPUs" if name.count > 1 else "one GPU"
        more = "free" if name.free else f"virtual:{name.gpu}" if name.kind == "virtual" else "cuda"
        raise ConfigError(
            "gpus",
            f"{wanted} is more than --device {config.device} names ({cards}): use --gpus {name.count}, or --device "
            f"{more}.",
        )
    obstacles = (
        (
            config.optimizer_in_backward,
            "optimizer_in_backward",
            "--optimizer-in-backward steps before the GPUs have averaged a gradient: use --optimizer-in-backward off",
        ),
        (
            config.torch_compile and config.parallel == "fsdp",
            "torch_compile",
            "--torch-compile does not follow how fsdp gathers a layer's weights: use --torch-compile off or "
            "--parallel ddp",
        ),
        (
            config.is_quantised and config.parallel == "fsdp",
            "weights",
            f"--weights {config.weights} cannot be divided by --parallel fsdp: use --parallel ddp or --weights bf16",
        ),
        (
            config.parallel == "fsdp" and config.optimizer in ("adafactor", "paged-adamw-8bit"),
            "optimizer",
            f"--optimizer {config.optimizer} has no step for weights that are divided by --parallel fsdp: use "
            "--optimizer adamw or --parallel ddp",
        ),
        (
            config.parallel == "fsdp" and config.optimizer == "sgd" and config.optimizer_implementation == "fused",
            "optimizer_implementation",
            "PyTorch's fused SGD has no step for weights that are divided by --parallel fsdp: use "
            "--optimizer-implementation foreach or --parallel ddp",
        ),
    )
    for applies, knob, sentence in obstacles:
        if applies:
            raise ConfigError(knob, f"{sentence}, or --gpus 1.")


_CHECKS = (
    _check_task,
    _check_target_len,
    _check_padding,
    _check_weights,
    _check_quantised,
    _check_momentum,
    check_device,
    _check_optimizer_in_backward,
    _check_evaluation,
    _check_class_loss,
    _check_cross_entropy,
    _check_activation_offloading,
    _check_parallel,
)
