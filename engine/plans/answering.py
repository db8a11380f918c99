"""The experiments with answers: the lecture's three ideas, throughput against latency, and how long a prompt may be.

Standard library only.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from engine.contract.answering_knobs import DEFAULT_REQUESTS, DUMMY_PROMPTS, REPEATING_PROMPTS
from engine.contract.by_job import defaults_of
from engine.contract.config import RunConfig, Value
from engine.contract.knob import ANSWER
from engine.contract.numbers import n_of
from engine.contract.own_models import knows_text
from engine.contract.presets import model_name
from engine.plans.experiment import NamedPlan, Sized, each, table
from engine.plans.search import PROMPT_LEN
from engine.plans.types import PlannedRun

_LARGE = defaults_of(ANSWER).with_values(model="llama-3.2-1b", weights="fp16", requests=8)
"""Random weights in 16 bits, which every card of the catalogue stores: time and memory are those of trained ones."""

NO_CACHE, CACHE, STATIC = "no KV cache", "KV cache", "static KV cache"
PREFIX, RESPONSE, INT8 = "prefix cache", "response cache", "int8 weights"
REPEATING, LOOKUP, DRAFT = "repeating", "lookup", "draft model"
DRAWN, DRAWN_LOOKUP = "drawn", "drawn, lookup"
_IDEAS: dict[str, dict[str, Value]] = {
    NO_CACHE: {"kv_cache": "off"},
    CACHE: {},
    STATIC: {"kv_cache": "static"},
    PREFIX: {"prefix_cache": True},
    RESPONSE: {"response_cache": True},
    INT8: {"weights": "int8"},
}
"""Each turns one knob of the row with the KV cache alone, and is asked the same."""
_GUESSES: dict[str, dict[str, Value]] = {
    REPEATING: {},
    LOOKUP: {"speculate": "lookup"},
    DRAFT: {"speculate": "draft"},
}
"""Each turns one knob of the first, which is the row with the KV cache alone where the model knows no text."""
_BY_CHANCE: dict[str, dict[str, Value]] = {
    DRAWN: {"temperature": 5.0},
    DRAWN_LOOKUP: {"temperature": 5.0, "speculate": "lookup"},
}
"""Hot enough that what is drawn is random text, whatever the model knows: little comes again, guesses are wrong."""
_TEXT: dict[str, Value] = {
    "prompts": REPEATING_PROMPTS,
    "prompt_len": None,
    "prefix_len": 0,
    "repeats": 0.0,
    "ignore_eos": False,
    "requests": 32,
}
"""What a trained model is asked, which knows text: guesses are for answers that say again what was asked, and end
there. What is written after an end goes round in circles or not, as the training happened to go."""


def _three_ideas(sized: Sized, scale: str) -> tuple[PlannedRun, ...]:
    """A draft model is never chosen here: one that knows other tokens is worth nothing."""
    asked = partial(sized, sizes=_TEXT)
    if not (knows_text(sized().model) and asked().prompts == REPEATING_PROMPTS):
        asked = partial(sized)
    ideas = table(sized, *_IDEAS.values(), labels=tuple(_IDEAS))
    guesses = table(asked, *_GUESSES.values(), labels=tuple(_GUESSES))
    by_chance = table(sized, *_BY_CHANCE.values(), labels=tuple(_BY_CHANCE))
    if asked().draft_model is None:
        guesses = tuple(replace(run, skip=_NO_DRAFT) if run.label == DRAFT else run for run in guesses)
    known = {run.config for run in ideas if not run.skip}
    return (*ideas, *(run for run in guesses if run.skip or run.config not in known), *by_chance)


_NO_DRAFT = (
    "there is no model to guess with: --draft-model names one that knows the same tokens and takes a twentieth of the "
    "time"
)


def _throughput_latency(sized: Sized, scale: str) -> tuple[PlannedRun, ...]:
    sizes = (1, 4, 16, 64) if scale == "short" else (1, 2, 4, 8, 16, 32, 64)
    turns: list[dict[str, Value]] = [{"batch_size": size, "requests": max(size, DEFAULT_REQUESTS)} for size in sizes]
    return table(sized, *turns, labels=tuple(f"batch {size}" for size in sizes))


def _prompt_length(sized: Sized, scale: str) -> tuple[PlannedRun, ...]:
    """The search for the longest; on a CPU, which has no VRAM to run out of, some lengths."""
    first = sized()
    if first.device == "cpu":
        return each(sized, PROMPT_LEN, tuple(256 * 2**i for i in range(5)))
    return (PlannedRun(config=first, label="", search=PROMPT_LEN),)


def sizes_of(config: RunConfig, runs: tuple[PlannedRun, ...]) -> str:
    """What was sized how: `llama-mini, 8 prompts of 1,024 random tokens, 64 new tokens; guesses: 32 of text to …`."""
    possible = [run.config for run in runs if run.is_possible]
    alike = [each for each in possible if each.prompts == config.prompts]
    others = next((each for each in possible if each.prompts != config.prompts), None)
    requests = sorted({each.requests or 0 for each in alike})
    what = f"{requests[0]:,} to " * (len(requests) > 1) + n_of(requests[-1], "prompt")
    lengths = {each.prompt_len for each in alike}
    length = next(iter(lengths)) if len(lengths) == 1 else None
    grows = any(run.search for run in runs) or len(lengths) > 1
    if config.prompts == DUMMY_PROMPTS:
        what += " of growing length" if grows else f" of {length:,} random tokens" if length else " of random tokens"
    more = f"; guesses: {others.requests:,} of text to repeat" if others is not None else ""
    return f"{model_name(config.model)}, {what}, {n_of(config.max_new_tokens, 'new token')}{more}"


_SHORT: dict[str, Value] = {"requests": 1, "max_new_tokens": 4}

ANSWERING: tuple[NamedPlan, ...] = (
    NamedPlan(
        name="three-ideas",
        title="Three ideas for a fast model",
        description="Space for computation, the common case, speculation: each turned alone, and what it costs.",
        build=_three_ideas,
        lecture=_LARGE.with_values(prompt_len=1024, prefix_len=768, max_new_tokens=128, repeats=0.25),
        small={
            "model": "llama-mini",
            "weights": "fp32",
            "prompt_len": 1024,  # long enough that reading it anew outweighs what a step costs in any case
            "prefix_len": 960,
            "max_new_tokens": 64,
        },
        short=_SHORT,
        virtual={"device": "virtual:tesla-t4"},
        why_virtual="on a virtual T4, for the lecture's P4 cannot compute with int8 weights",
    ),
    NamedPlan(
        name="throughput-latency",
        title="Throughput against latency",
        description="A larger batch answers more people at once, and each of them later: batch 1 to 64.",
        build=_throughput_latency,
        lecture=_LARGE.with_values(prompt_len=512, max_new_tokens=64),
        small={"model": "gpt2-tiny", "weights": "fp32", "prompt_len": 128, "max_new_tokens": 32},
        short=_SHORT,
    ),
    NamedPlan(
        name="prompt-length",
        title="Prompt length",
        description="Prefill's time and the KV cache grow with the prompt: doubled until out of memory.",
        build=_prompt_length,
        lecture=_LARGE.with_values(prompt_len=1024, max_new_tokens=32, requests=1),
        small={"model": "llama-tiny", "weights": "fp32", "prompt_len": 512, "max_new_tokens": 8},
        short={"max_new_tokens": 4},
        virtual={"vram_limit": 800},
        why_virtual="so that a prompt of a small model fills it",
    ),
)
