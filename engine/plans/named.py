"""The experiments as plans, sized to the machine. Standard library only."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from engine.contract.by_job import defaults_of
from engine.contract.config import KEEPING, KNOBS, ConfigError, RunConfig, Value
from engine.contract.device_name import read_device
from engine.contract.knob import ANSWER
from engine.contract.own_models import is_trained_here
from engine.gpus.units import MIB
from engine.plans.answering import ANSWERING, sizes_of
from engine.plans.experiment import SCALES, NamedPlan, Sized, each, table
from engine.plans.lecture import CONFIG, MEMORY_MIB, REVIEWS
from engine.plans.types import Plan, PlannedRun

_LOADING = ("dataloader_num_workers", "dataloader_pin_memory", "dataloader_prefetch_factor")
_KEPT = frozenset(
    ("data", "text_column", "label_column", "target_column", *_LOADING, "seed", "device", "vram_limit", *KEEPING)
)
"""Knobs that an experiment leaves as they are set; it sets all others that are not given expressly."""
_PLACE = ("seed", "device", "vram_limit")
"""Those of them that both jobs have."""

_FEW_TOKENS = "a small model for a few tokens: on a CPU the lecture's takes minutes for a prompt"
_LARGE_CARD = "virtual:tesla-p4"


def scale_for(device_kind: str) -> str:
    """The scale that suits a device (`cuda`, `cpu` or `virtual`)."""
    return "lecture" if device_kind == "cuda" else "small"


def named_plan(
    name: str,
    base: RunConfig,
    scale: str,
    *,
    given: Collection[str] = (),
    memory_total: int | None = None,
) -> Plan:
    """The plan of a name in `NAMED` at a scale of `SCALES`.

    `given` names the knobs whose values in `base` win over the plan's sizes (but not over what a row is about); of
    experiments with answers, so does a model that a run trained, `run:N` or its folder, with the one that guesses.
    `memory_total`, in bytes, is that of the device that is there, where it is a CUDA GPU. Combinations that make no
    sense are there as skipped runs. Raises `ConfigError` on another name or scale, or on sizes that cannot be.
    """
    if name not in NAMED:
        known = ", ".join(NAMED)
        raise ConfigError("", f"{name!r} is not a plan: use {known}.")
    if scale not in SCALES:
        raise ConfigError("", f"{scale!r} is not a scale: use {', '.join(SCALES)}.")
    plan = NAMED[name]
    without_gpu = base.device == "auto" and memory_total is None
    on_cpu = without_gpu or base.device == "cpu" or base.device.startswith("virtual")
    on_virtual = without_gpu and (scale != "lecture" if plan.job == ANSWER else scale == "small" or plan.small_is_short)
    scale = "short" if scale == "small" and plan.small_is_short else scale
    is_small = scale == "small" or (scale == "short" and plan.job == ANSWER and on_cpu)
    kept = {knob: getattr(base, knob) for knob in given}
    if base.job != plan.job:
        base = defaults_of(plan.job).with_values(**{name: getattr(base, name) for name in _PLACE})
    values = {knob: getattr(plan.lecture, knob) for knob in KNOBS if knob not in _KEPT}
    if is_small or (base.answers and is_trained_here(base.model)):
        values |= plan.small
    if scale == "short":
        values |= plan.short
    if base.answers and is_trained_here(base.model):
        values |= {"model": base.model, "task": base.task, "draft_model": base.draft_model}
    if name == "bert-large":
        values |= _as_on_the_card(memory_total)
    if on_virtual:
        values |= plan.virtual

    def sized(*, sizes: Mapping[str, Value] = {}, **turned: Value) -> RunConfig:
        given_too = {knob: value for knob, value in kept.items() if knob not in turned}
        return base.with_values(**{**values, **sizes, **turned, **given_too})

    runs = tuple(_unrun(run, without_gpu) for run in plan.build(sized, scale))
    text = _GENERATED if plan.lecture.workload == "reviews" and base.data is None else ""
    text += f"; {plan.why_virtual}" if on_virtual and plan.why_virtual else ""
    first = next((run for run in runs if not run.skip), runs[0]).config
    sizes = sizes_of(first, runs) if plan.job == ANSWER else _sizes(first, runs)
    held = f", the card held to {first.vram_limit:,} MiB" if first.vram_limit is not None else ""
    about = _FEW_TOKENS if is_small and scale == "short" else SCALES[scale]
    return Plan(name=name, title=plan.title, runs=runs, sizes=f"{scale}: {sizes}{held} ({about}){text}")


def _unrun(run: PlannedRun, without_gpu: bool) -> PlannedRun:
    """The row, by forecast alone where a CPU that stands for a GPU would take minutes for it, or cannot do it."""
    config = run.config
    why = _EMULATED.get(config.precision) or _EMULATED.get(config.optimizer)
    if run.skip or why is None:
        return run
    if config.device == "cpu":
        return replace(run, skip=f"{why}: leave --device cpu out for a card's forecast")
    is_virtual = config.device.startswith("virtual") or (without_gpu and config.device == "auto")
    return replace(run, skip=why, by_forecast=True) if is_virtual else run


_EMULATED = {
    "tf32": "a CPU has no tf32",
    "bf16": "a CPU is slower in 16 bits, not faster as the card",
    "fp16": "a CPU is slower in 16 bits, not faster as the card",
    "adamw-8bit": "its step takes minutes on a CPU",
}
"""Precisions and optimizers whose runs on a CPU would say nothing of a card, and why not."""

_GENERATED = "; made-up reviews, learnt from scratch; --data FILE or a hub name for real ones"


def _as_on_the_card(memory_total: int | None) -> dict[str, Value]:
    """The lecture's card: a larger GPU is held to its memory, and without one it is a virtual one."""
    if memory_total is None:
        return {"device": _LARGE_CARD}
    return {"vram_limit": MEMORY_MIB} if memory_total > MEMORY_MIB * MIB else {}


def _sizes(config: RunConfig, runs: tuple[PlannedRun, ...]) -> str:
    samples = sorted({run.config.n_samples for run in runs if run.is_possible})
    many = f"{samples[0]:,} to {samples[-1]:,}" if len(samples) > 1 else f"{config.n_samples:,}"
    epochs = f", {config.epochs} epochs" if config.epochs > 1 else ""
    return f"{config.model}, {many} samples × {config.seq_len} tokens{epochs}"


def _batch_size(sized: Sized, scale: str) -> tuple[PlannedRun, ...]:
    return each(sized, "batch_size", (1, 2, 4, 8, 16, 32) if scale == "small" else (1, 2, 4, 8, 9))


def _accumulation(sized: Sized, scale: str) -> tuple[PlannedRun, ...]:
    # 32 micro-steps an epoch in the small sizes: with 32 there is one update left, and more would change nothing
    steps = {"small": (1, 2, 4, 8, 16, 32), "short": (1, 2, 4)}
    return each(sized, "gradient_accumulation_steps", steps.get(scale, (1, 2, 4, 8, 16, 32, 128, 1024, 4096)))


def _accuracy(sized: Sized, scale: str) -> tuple[PlannedRun, ...]:
    steps = {"small": (1, 8, 16, 32, 1024)}
    return each(sized, "gradient_accumulation_steps", steps.get(scale, (1, 8, 32, 1024)))


def _checkpointing(sized: Sized, scale: str) -> tuple[PlannedRun, ...]:
    turned = ((8, "off"), (8, "every-second"), (8, "on"), (16, "on"))
    turns: list[dict[str, Value]] = [{"batch_size": size, "gradient_checkpointing": switch} for size, switch in turned]
    return table(sized, *turns)


def _precision(sized: Sized, scale: str) -> tuple[PlannedRun, ...]:
    return each(sized, "precision", ("fp32", "tf32", "bf16", "fp16"))


def _preloading(sized: Sized, scale: str) -> tuple[PlannedRun, ...]:
    if scale != "lecture":  # there is nothing to copy to, so pinned memory changes nothing
        return each(sized, "dataloader_num_workers", (0, 1, 2))
    rows = ((0, False), (0, True), (1, True), (2, True), (4, True))
    turns: list[dict[str, Value]] = [{"dataloader_num_workers": n, "dataloader_pin_memory": pin} for n, pin in rows]
    return table(sized, *turns)


def _bert_large(sized: Sized, scale: str) -> tuple[PlannedRun, ...]:
    """The lecture's own deaths first, under its software: no card runs that today. Then what solves it."""
    on: dict[str, Value] = {"gradient_checkpointing": "on"}
    fused: dict[str, Value] = {"optimizer_implementation": "fused"}
    of_2023: dict[str, dict[str, Value]] = {
        "as the lecture: PyTorch 2.0 AdamW": {},
        "the same + checkpointing": on,
    }
    rows: dict[str, dict[str, Value]] = {
        "today's foreach AdamW": {},
        "fused AdamW": fused,
        "fused + checkpointing": fused | on,
        "fused + checkpointing, batch 4": fused | on | {"batch_size": 4},
        "fused + checkpointing, in backward": fused | on | {"optimizer_in_backward": True, "max_grad_norm": 0.0},
        "8-bit AdamW + checkpointing": on | {"optimizer": "adamw-8bit"},
        "LoRA rank 8": fused | {"lora_rank": 8},
    }
    turns = [{"batch_size": 1, **turned} for turned in (*of_2023.values(), *rows.values())]
    if scale != "lecture":
        turns = [{**turned, "samples": _enough(turned)} for turned in turns]
    runs = table(sized, *turns, labels=(*of_2023, *rows))
    return (*map(_as_in_2023, runs[: len(of_2023)]), *runs[len(of_2023) :])


def _as_in_2023(run: PlannedRun) -> PlannedRun:
    if run.skip:
        return run
    config = run.config.with_values(device=_LARGE_CARD, vram_limit=None)
    return replace(run, config=config, skip=_OLD, by_forecast=True, stack=STACK_OF_2023)


STACK_OF_2023 = "lecture-2023"
"""The lecture's software, as forecasts call it."""
_OLD = "the software of 2023 does not run here"


def _enough(turned: dict[str, Value]) -> int:
    """Samples until the peak was seen: with foreach's temporaries it is the first update's step, else the second
    update's backward, which has the optimizer's state and the activations at once."""
    foreach = "optimizer_implementation" not in turned and "optimizer" not in turned
    return int(turned["batch_size"] or 1) * (1 if foreach else 2)


def _gpus(sized: Sized, scale: str) -> tuple[PlannedRun, ...]:
    """One GPU, and what more of them do, divided in each way. Where there are not as many a forecast stands in."""
    device = sized().device
    name = read_device(device)
    anywhere: dict[str, Value] = {"device": f"virtual:{name.gpu}"} if name.kind == "virtual" else {}
    turns: dict[str, dict[str, Value]] = {"1 GPU": {"gpus": 1}}
    for n in (2, 4, 8):
        turns |= {f"{n} × {parallel}": {"gpus": n, "parallel": parallel} for parallel in ("ddp", "zero1", "fsdp")}
    return table(sized, *({**turned, **anywhere} for turned in turns.values()), labels=tuple(turns))


_SMALL: dict[str, Value] = {"model": "bert-tiny", "samples": 128}
_MINI: dict[str, Value] = {"model": "bert-mini", "samples": 64}
_SHORT: dict[str, Value] = {"samples": 18}

NAMED: dict[str, NamedPlan] = {
    plan.name: plan
    for plan in (
        NamedPlan(
            name="batch-size",
            title="Batch size",
            description="A fuller GPU does more samples/s until its memory is full: batch 1 to out of memory.",
            build=_batch_size,
            small=_SMALL,
            short=_SHORT,
            virtual={"vram_limit": 1100},
            why_virtual="so that batch 16 of a small model fills it, as batch 8 of the lecture's did its own",
        ),
        NamedPlan(
            name="accumulation",
            title="Gradient accumulation",
            description="A larger effective batch at the memory of a small one; fewer updates, so it learns less.",
            build=_accumulation,
            small={**_SMALL, "samples": 256},
            short={"samples": 32},
        ),
        NamedPlan(
            name="accuracy",
            title="Validation accuracy",
            description="With the epochs fixed, more accumulation means fewer updates, and accuracy falls.",
            build=_accuracy,
            small={
                "model": "bert-tiny",
                "padding": "bucketed",
                "seq_len": 64,
                "samples": 2000,
                "learning_rate": 3e-4,  # small enough that 16 times fewer updates are too few, for every seed
                "lr_scheduler": "constant",
                "dropout": False,
            },
            short={"samples": 16, "eval_samples": 16, "epochs": 1},
            lecture=REVIEWS,
        ),
        NamedPlan(
            name="checkpointing",
            title="Gradient checkpointing",
            description="Compute activations again instead of keeping them: half the memory for a third more time.",
            build=_checkpointing,
            small=_MINI,
            short={"samples": 16},
        ),
        NamedPlan(
            name="precision",
            title="Precision",
            description="fp32, tf32, bf16 and fp16: the memory of activations and the speed of matrix units.",
            build=_precision,
            small={},
            short={"samples": 16},
            small_is_short=True,
            virtual={"device": "virtual:a100-40gb"},
            why_virtual="on a virtual A100, for the lecture's P4 has neither tf32 nor bf16",
        ),
        NamedPlan(
            name="preloading",
            title="Data preloading",
            description="Worker processes and pinned memory: they pay where the data share of the time is large.",
            build=_preloading,
            small={**_SMALL, "samples": 256},
            short={"samples": 32},
        ),
        NamedPlan(
            name="bert-large",
            title="BERT-large on the lecture's card",
            description="The lecture's unsolved case, out of memory even at batch 1: what makes it fit its card.",
            build=_bert_large,
            small={},
            short={},
            lecture=CONFIG.with_values(model="bert-large-uncased", batch_size=1),
            small_is_short=True,
        ),
        NamedPlan(
            name="gpus",
            title="Multiple GPUs",
            description="1, 2, 4 and 8 GPUs: speed grows, zero1 and fsdp divide the memory. Too few here: by forecast.",
            build=_gpus,
            small={"model": "bert-small", "samples": 128, "seq_len": 64},  # more weights than activations
            short={"samples": 128},
        ),
        *ANSWERING,
    )
}
"""The experiments: those of training in the lecture's order, then those with answers."""
