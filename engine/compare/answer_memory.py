"""What an out-of-memory means for a run that answers, and which knobs help. Standard library only."""

from __future__ import annotations

from collections.abc import Iterator

from engine.contract.config import KNOBS, ConfigError, RunConfig, Value
from engine.contract.knob import shown
from engine.contract.records import Phase, RunRecord

DIED: dict[Phase, str] = {
    Phase.LOAD: (
        "The weights alone did not fit: no batch size helps. It takes weights in fewer bits, a smaller model, or a "
        "card with more memory."
    ),
    Phase.PREFILL: (
        "Prefill computes all tokens of the prompts at once: its activations, and the keys and values that it leaves, "
        "grow with the batch and the prompt's length, and they were too many."
    ),
    Phase.DECODE: (
        "The prompts still fitted. Every new token adds its keys and values for each sequence of the batch (without a "
        "cache: is computed with all those before it), and there were too many."
    ),
    Phase.DRAFT: (
        "The model that answers fitted; the smaller one that guesses, which has weights and a KV cache of its own, did "
        "not fit beside it."
    ),
    Phase.SAMPLE: (
        "The forward fitted. To choose tokens from it, scores of the whole vocabulary are copied for each sequence, in "
        "fp32."
    ),
    Phase.SCORE: (
        "A classifier keeps nothing for a backward: what one layer needs for the whole batch at once grows with the "
        "batch and its longest text, and it was too much."
    ),
}
"""By the phase it happened in."""

_WAYS: tuple[tuple[str, Value, str], ...] = (
    ("kv_cache", "dynamic", "the room of answers that stay short: a static cache takes that of the longest at once"),
    ("kv_dtype", "int8", "half of the keys and values of 16-bit weights, three quarters of fp32's"),
    ("attention", "sdpa", "the matrix of scores of every head"),
    ("weights", "", "half of the weights, and of the keys and values"),
    ("weights", "int8", "three quarters of the fp32 weights, at a measured agreement"),
    ("weights", "nf4", "seven eighths of the fp32 weights, at a measured agreement"),
    ("speculate", "off", "the smaller model's weights and its KV cache"),
    ("prefix_cache", False, "the keys and values that are kept between requests"),
    ("padding", "longest", "what is computed of padding"),
)
"""What to turn, and what that saves; of weights "" is the device's own 16 bits."""
_FIRST: dict[Phase, tuple[str, ...]] = {
    Phase.LOAD: ("weights",),
    Phase.PREFILL: ("attention", "prompt_len", "batch_size", "kv_cache", "kv_dtype"),
    Phase.DECODE: ("kv_cache", "kv_dtype", "batch_size", "max_new_tokens"),
    Phase.DRAFT: ("speculate", "kv_dtype"),
    Phase.SAMPLE: ("batch_size",),
    Phase.SCORE: ("attention", "batch_size", "padding", "seq_len"),
}


def ways_to_answer(run: RunRecord) -> list[str]:
    """Knobs that save memory where an answering run lacked it, what each saves, the most fitting first."""
    config, phase = run.config, run.failed_phase
    first = _FIRST.get(phase, ()) if phase is not None else ()
    sixteen = run.device.sixteen_bits if run.device is not None else "fp16"
    ways = [*(_smaller(config) if phase is not Phase.LOAD else ()), *_others(config, phase, sixteen)]
    ways.sort(key=lambda way: first.index(way[0]) if way[0] in first else len(first))
    return [text for _, text in ways]


def _smaller(config: RunConfig) -> Iterator[tuple[str, str]]:
    """Less at once: of the batch, the prompt, the answer."""
    if config.batch_size > 1:
        half = config.batch_size // 2
        yield "batch_size", f"batch size {half}: about {round(100 * half / config.batch_size)} % of what grows with it."
    if config.task == "classification":
        yield "seq_len", f"sequence length {config.seq_len // 2}: half of the tokens; longer texts are cut."
        return
    if config.prompt_len is not None and config.prompt_len > 1:
        half = config.prompt_len // 2
        yield "prompt_len", f"prompt length {half}: half of what prefill computes; only a longer prompt's end is kept."
    if config.max_new_tokens > 1 and config.kv_cache != "off":
        half = config.max_new_tokens // 2
        yield "max_new_tokens", f"new tokens {half}: half of the keys and values that an answer adds."


def _others(config: RunConfig, phase: Phase | None, sixteen: str) -> Iterator[tuple[str, str]]:
    for name, value, saving in _WAYS:
        value = value or sixteen if name == "weights" else value
        if phase is Phase.LOAD and name not in ("weights", "speculate"):
            continue
        if _helps(config, name, value) and _possible(config, name, value):
            yield name, f"{KNOBS[name].label} {shown(KNOBS[name], value)}: saves {saving}."


def _helps(config: RunConfig, name: str, value: Value) -> bool:
    """Whether a knob does not already stand where it saves most."""
    if name == "kv_cache":
        return config.kv_cache == "static"
    if name == "kv_dtype":
        return config.kv_cache != "off" and config.kv_dtype == "model" and config.task != "classification"
    if name == "attention":
        return config.attention == "eager"
    if name == "weights":
        return not config.is_quantised and (config.weights == "fp32" or value in ("int8", "nf4"))
    if name == "speculate":
        return config.speculate == "draft"
    if name == "prefix_cache":
        return config.prefix_cache
    return config.task == "classification" and config.padding == "max_length"


def _possible(config: RunConfig, name: str, value: Value) -> bool:
    try:
        config.with_values(**{name: value})
    except ConfigError:
        return False
    return True
