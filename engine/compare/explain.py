"""Why a knob costs what it costs, with the user's own runs as evidence, and what an out-of-memory means.

Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from engine.compare import answer_memory
from engine.compare.compare import changed_knobs, compare, explain, row_of
from engine.contract.config import KEEPING, KNOBS, ConfigError, RunConfig, Value
from engine.contract.figures import is_on_several
from engine.contract.marks import marks_of
from engine.contract.numbers import fixed
from engine.contract.records import Outcome, Phase, RunRecord
from engine.contract.script_flags import all_turned, own_names, told
from engine.knobs.texts import KNOB_TEXTS, text_of

__all__ = ["KNOB_TEXTS", "evidence", "largest_that_fitted", "out_of_memory", "text_of", "too_much", "ways_to_fit"]

_IGNORED = KEEPING | {"seed", "device", "command_flags", "command_values"}
"""Knobs that may differ beside the one in question; the device itself must be the same."""


def evidence(knob: str, runs: Sequence[RunRecord], baseline: RunRecord | None = None, *, limit: int = 4) -> list[str]:
    """What turning `knob` did in the user's own runs, a sentence for each other value, the newest run of each.

    Against the baseline where there is one; else among the newest runs that differ in this knob alone, against the
    oldest of them. Runs that were disturbed are no evidence.
    """
    groups: dict[object, list[RunRecord]] = {}
    for run in runs:
        if run.outcome is Outcome.COMPLETED and not marks_of(run) and _does_something(knob, run):
            groups.setdefault(_all_but(knob, run), []).append(run)
    if baseline is not None:
        group, base = groups.get(_all_but(knob, baseline), []), baseline
    else:
        varied = [group for group in groups.values() if len({told(run.config, knob) for run in group}) > 1]
        group = max(varied, key=lambda group: group[-1].run_id, default=[])
        if not group:
            return []
        base = group[0]
    newest = {told(run.config, knob): run for run in group if told(run.config, knob) != told(base.config, knob)}
    return [_told(run, base) for run in list(newest.values())[-limit:]]


def _does_something(knob: str, run: RunRecord) -> bool:
    """Whether a knob had a part in a run: how work is divided has none with one GPU."""
    return knob not in KNOBS or knob == "gpus" or KNOBS[knob].group != "parallel" or is_on_several(run)


def _all_but(knob: str, run: RunRecord) -> object:
    """What runs have in common that differ in this knob alone."""
    card = run.device.card if run.device is not None else None
    names = (name for name in (*KNOBS, *own_names(run.config)) if name != knob and name not in _IGNORED)
    return card, *(told(run.config, name) for name in names)


def _told(run: RunRecord, base: RunRecord) -> str:
    return f"run {run.run_id} against run {base.run_id}, {explain(compare(row_of([run]), row_of([base])))}"


_DIED: dict[Phase, str] = {
    Phase.DATA: "The batch itself did not fit beside what was there: weights, gradients and optimizer state.",
    Phase.LOAD: (
        "The weights alone did not fit: no batch size helps. It takes a smaller model, or a card with more memory."
    ),
    Phase.FORWARD: (
        "In forward every layer keeps what backward will need: these activations grow with the batch and the sequence "
        "length, and they were too many."
    ),
    Phase.BACKWARD: (
        "Forward still fitted. Backward frees the activations layer by layer, but needs the gradients and the "
        "temporaries of one layer at once."
    ),
    Phase.CLIP: "Forward and backward fitted; the norm over all gradients needed a last bit more.",
    Phase.OPTIMIZER: (
        "Forward and backward fitted. Some implementations of the optimizer copy the gradients in its step: a smaller "
        "batch alone may not help."
    ),
    Phase.EVALUATE: "Training fitted; scoring the held-out samples, in batches of the same size, did not.",
}


def out_of_memory(run: RunRecord) -> str:
    """In which phase a run ran out of memory and what that means."""
    if run.failed_phase is None:
        return "It is not known in which phase the memory ran out."
    when = _IN_FIRST_UPDATE if run.updates == 0 else _LATER
    more = when.get(run.failed_phase, "")
    where = run.failed_phase.noun + ("" if run.failed_rank is None else f" on rank {run.failed_rank}, and so all ended")
    if run.config.answers:
        why, more = answer_memory.DIED.get(run.failed_phase, ""), ""
    else:
        why = _DIED.get(run.failed_phase, "")
    return f"It ran out of memory in {where}. {why}{more}".rstrip()


_IN_FIRST_UPDATE = {
    Phase.BACKWARD: " It was in the first update, in which the gradients are new.",
    Phase.OPTIMIZER: " It was its first step, in which it makes its states (AdamW: 8 bytes per parameter).",
}
_STATES = " Since the first update the optimizer's states are there too (AdamW: 8 bytes per parameter)."
_LATER = {Phase.FORWARD: _STATES, Phase.BACKWARD: _STATES}

_MISSED = re.compile(
    r"Tried to allocate (?P<asked>[\d.]+) (?P<unit>[KM]iB)\..*? of which (?P<free>[\d.]+) (?P<of>[KM]iB) is free"
)
"""PyTorch's words; a size in GiB is rounded too far to be told how much it was too much."""
_IN_MIB = {"KiB": 1 / 1024, "MiB": 1.0}


def too_much(run: RunRecord) -> str:
    """The request that failed, and by how much; empty where the message does not say."""
    found = _MISSED.search(run.message or "")
    if found is None:
        return ""
    asked, free = float(found["asked"]) * _IN_MIB[found["unit"]], float(found["free"]) * _IN_MIB[found["of"]]
    if asked <= free:
        return ""
    return f"It asked for {fixed(asked)} MiB where {fixed(free)} were free: {fixed(asked - free)} MiB too much."


def largest_that_fitted(run: RunRecord, runs: Sequence[RunRecord]) -> RunRecord | None:
    """Of completed runs that differ in the batch size alone, on the same device, the one with the largest."""
    fitted = [
        other
        for other in runs
        if other.outcome is Outcome.COMPLETED
        and other.device == run.device
        and other.config.vram_limit == run.config.vram_limit
        and set(changed_knobs(other.config, run.config)) - {"seed", "samples", "eval_samples", "epochs"}
        == {"batch_size"}
    ]
    return max(fitted, key=lambda other: other.config.batch_size, default=None)


_WAYS: tuple[tuple[str, dict[str, Value], str], ...] = (
    ("checkpointing on", {"gradient_checkpointing": "on"}, "most of the activations for about a third more time"),
    ("cross-entropy chunked", {"cross_entropy": "chunked"}, "the logits of a language model and their gradient"),
    ("offloading", {"activation_offloading": True}, "what layers keep, for copies to the host and back"),
    ("precision", {"precision": ""}, "half of the activations"),
    ("attention sdpa", {"attention": "sdpa"}, "the matrix of scores of every layer"),
    ("implementation fused", {"optimizer_implementation": "fused"}, "the optimizer's temporary copies"),
    ("optimizer adamw-8bit", {"optimizer": "adamw-8bit"}, "6 of the 8 bytes of state per parameter"),
    ("parallel zero1", {"parallel": "zero1"}, "the optimizer's states that other GPUs hold"),
    (
        "parallel fsdp",
        {"parallel": "fsdp"},
        "all that other GPUs hold, but one layer at a time",
    ),
    ("LoRA rank 8", {"lora_rank": 8}, "nearly all gradients and optimizer state, but it trains another model"),
)
_FIRST = {
    Phase.FORWARD: ("attention", "gradient_checkpointing", "cross_entropy", "precision", "activation_offloading"),
    Phase.BACKWARD: ("attention", "cross_entropy", "gradient_checkpointing", "precision", "activation_offloading"),
    Phase.OPTIMIZER: ("optimizer_implementation", "parallel", "optimizer", "lora_rank"),
    Phase.CLIP: ("optimizer_implementation", "parallel", "optimizer", "lora_rank"),
}
_USELESS = {Phase.EVALUATE: ("gradient_checkpointing", "optimizer_implementation", "activation_offloading")}
"""Scoring keeps no activations and takes no steps."""


def ways_to_fit(run: RunRecord) -> list[str]:
    """Knobs that save memory where this run lacked it, what each saves, the most fitting first."""
    config = run.config
    if config.answers:
        return answer_memory.ways_to_answer(run)
    if run.failed_phase is Phase.LOAD:
        return []
    useless = _USELESS.get(run.failed_phase, ()) if run.failed_phase is not None else ()
    first = _FIRST.get(run.failed_phase, ()) if run.failed_phase is not None else ()
    ways = []
    for label, changes, saving in _WAYS:
        name = next(iter(changes))
        if name == "precision":  # not every card has bf16
            half = run.device.sixteen_bits if run.device is not None else "fp16"
            label, changes = f"precision {half}", {name: half}
        if name not in useless and _helps(config, name, changes[name]) and _possible(config, changes):
            rank = first.index(name) if name in first else len(first)
            ways.append((rank, f"{label}: saves {saving}."))
    ways.sort(key=lambda way: way[0])
    return [*_smaller_batch(run), *(text for _, text in ways)]


def _smaller_batch(run: RunRecord) -> list[str]:
    if run.failed_phase in (Phase.OPTIMIZER, Phase.CLIP):
        return []
    config, whole = run.config, run.config.batch_size
    if config.is_script and not config.says("batch_size"):
        return []
    pair = next(config.smaller_pairs(), None)
    if pair is not None and _possible(config, {"batch_size": pair[0], "gradient_accumulation_steps": pair[1]}):
        share, steps = round(100 * pair[0] / whole), pair[1]
        return [
            f"batch size {pair[0]} with accumulation {steps}: about {share} % of the activations, and the same updates."
        ]
    if config.is_script and whole > 1:
        return [f"batch size {whole // 2}: about half of the activations, and updates from fewer samples."]
    return []


def _helps(config: RunConfig, name: str, value: Value) -> bool:
    """Whether a knob does not already stand where it saves most."""
    if name == "parallel":
        return config.is_parallel and config.parallel not in (value, "fsdp")
    if name == "optimizer":
        return config.optimizer in ("adamw", "adam")
    if name == "optimizer_implementation":
        return config.optimizer in ("adamw", "adam") and config.optimizer_implementation == "foreach"
    if name == "precision":
        return config.computed_in in ("fp32", "tf32")
    if name == "attention":
        return config.attention == "eager"
    if name == "gradient_checkpointing":
        return config.gradient_checkpointing != "on"
    if name == "cross_entropy":
        return config.cross_entropy == "plain"
    if name == "activation_offloading":
        return not config.activation_offloading
    return not config.lora_rank


def _possible(config: RunConfig, changes: dict[str, Value]) -> bool:
    try:
        all_turned(config, changes) if config.is_script else config.with_values(**changes)
    except ConfigError:
        return False
    return True
