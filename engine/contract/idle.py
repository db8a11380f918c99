"""Knobs that were turned and change nothing, as others are: told, never refused. Standard library only.

A sweep over the LoRA rank begins without one, and a key that switches a technique off leaves its details as they are.
"""

from __future__ import annotations

from collections.abc import Callable

from engine.contract.by_job import defaults_of
from engine.contract.config import KNOBS, RunConfig
from engine.contract.knob import ANSWER, TRAIN

_Rule = tuple[Callable[[RunConfig], bool], tuple[str, ...], str]

_TRAINING: tuple[_Rule, ...] = (
    (lambda c: c.lora_rank == 0, ("lora_targets", "lora_alpha", "lora_dropout"), "without --lora-rank"),
    (lambda c: c.lora_rank > 0 and not c.dropout, ("lora_dropout",), "with --dropout off"),
    (lambda c: c.early_stopping_patience == 0, ("early_stopping_threshold",), "without --early-stopping-patience"),
    (lambda c: c.save_steps == 0, ("save_total_limit",), "without --save-steps"),
    (lambda c: c.dataloader_num_workers == 0, ("dataloader_prefetch_factor",), "without --dataloader-num-workers"),
    (
        lambda c: c.optimizer in ("adafactor", "adamw-8bit", "paged-adamw-8bit"),
        ("optimizer_implementation",),
        "with an optimizer that has one of its own",
    ),
    (
        lambda c: c.workload == "dummy",
        ("text_column", "label_column", "target_column", "eval_samples", "eval_steps"),
        "with --workload dummy, which reads nothing and holds nothing out",
    ),
    (lambda c: not c.is_parallel, ("parallel", "reshard_after_forward", "bucket_mib"), "with one GPU"),
    (lambda c: c.is_parallel and c.parallel != "fsdp", ("reshard_after_forward",), "without --parallel fsdp"),
    (lambda c: c.is_parallel and c.parallel == "fsdp", ("bucket_mib",), "with --parallel fsdp, which sends by layer"),
    (lambda c: c.workload != "instructions", ("completion_only_loss",), "without --workload instructions"),
)
"""When, which knobs, and why in words."""


_ANSWERING: tuple[_Rule, ...] = (
    (lambda c: c.prompt is not None, ("prompts", "requests", "repeats"), "with --prompt, which is asked once"),
    (lambda c: not c.has_dummy_prompts, ("prefix_len",), "without --prompts dummy, as others begin as they do"),
    (lambda c: c.has_dummy_prompts, ("chat_template",), "with --prompts dummy, which are no conversation"),
    (
        lambda c: c.prompt is not None or (c.has_dummy_prompts and not c.prefix_len and not c.repeats),
        ("prefix_cache",),
        "where no two prompts begin alike, as without --prefix-len",
    ),
    (
        lambda c: c.prompt is not None or (c.has_dummy_prompts and not c.repeats),
        ("response_cache",),
        "where nothing is asked again, as without --repeats",
    ),
    (lambda c: c.speculate == "off", ("speculate_tokens",), "without --speculate"),
    (lambda c: c.speculate != "draft", ("draft_model",), "without --speculate draft"),
    (lambda c: c.temperature == 0, ("top_k", "top_p"), "without --temperature, as the likeliest token wins"),
    (
        lambda c: c.weights == "fp32" and c.kv_dtype == "model",
        ("held_out_tokens",),
        "where nothing is rounded, as without --weights or --kv-dtype int8",
    ),
    (lambda c: c.batch_size == 1, ("batching",), "with --batch-size 1"),
    (
        lambda c: c.task == "classification",
        ("max_new_tokens", "ignore_eos", "chat_template", "held_out_tokens"),
        "with --task classification, which writes nothing",
    ),
)
"""The same for answers."""
_RULES = {TRAIN: _TRAINING, ANSWER: _ANSWERING}


def idle(config: RunConfig) -> tuple[str, ...]:
    """A sentence for every reason that knobs off their defaults change nothing; `()` as a rule."""
    told = []
    default = defaults_of(config.job)
    for applies, names, why in _RULES[config.job]:
        turned = [name for name in names if getattr(config, name) != getattr(default, name)]
        if turned and applies(config):
            *most, last = [KNOBS[name].flag for name in turned]
            flags = f"{', '.join(most)} and {last} change" if most else f"{last} changes"
            told.append(f"{flags} nothing {why}.")
    return tuple(told)


def without_idle_parallel(config: RunConfig) -> RunConfig:
    """The configuration with the knobs of several GPUs that change nothing as by default: what differs in them alone is
    one run.
    """
    default = defaults_of(TRAIN)
    return config.with_values(**{name: getattr(default, name) for name in idle_parallel(config)})


def idle_parallel(config: RunConfig) -> frozenset[str]:
    """The knobs of several GPUs that change nothing, turned or not."""
    names = (name for applies, names, _ in _TRAINING if applies(config) for name in names)
    return frozenset(name for name in names if KNOBS[name].group == "parallel")
