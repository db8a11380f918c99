"""The knobs of a run that answers: what it is asked, and the three ways to answer faster. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass

from engine.contract.knob import ANSWER
from engine.contract.knob import setting as _knob

DUMMY_PROMPTS, GENERATED_PROMPTS, HELD_OUT_PROMPTS = "dummy", "generated", "held-out"
REPEATING_PROMPTS = "repeating"
NO_FILES = (DUMMY_PROMPTS, GENERATED_PROMPTS, REPEATING_PROMPTS, HELD_OUT_PROMPTS)
"""Prompts that are no file; how many there are is always said."""
DEFAULT_REQUESTS = 8
"""Of prompts that are made up."""
LEAST_PREFIX = 16
"""Tokens of a prefix that are worth keeping: a block of vLLM's."""
DEFAULT_PROMPT_LEN = 256
"""Tokens of a dummy prompt."""
_ONLY = (ANSWER,)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweringKnobs:
    """Names follow `transformers.GenerationConfig` and vLLM's where they have the same setting."""

    prompts: str = _knob(
        DUMMY_PROMPTS,
        "prompts",
        "Random tokens, questions on made-up text, such text to say again, what a model was kept from, or a file.",
        hint="dummy, generated, repeating, held-out, or a file: text, CSV, JSON lines",
        group="prompts",
        jobs=_ONLY,
    )
    prompt: str | None = _knob(
        None,
        "prompt",
        "What is asked once, in place of the prompts.",
        optional=True,
        hint="the prompts are asked",
        group="prompts",
        jobs=_ONLY,
    )
    requests: int | None = _knob(
        None,
        "requests",
        "How many prompts are answered; one more before them warms up, and is left out of the figures.",
        minimum=1,
        maximum=1_000_000,
        steps=(1, 2, 4, 8, 16, 32, 64, 128, 256),
        optional=True,
        hint=f"all of a file, else {DEFAULT_REQUESTS}",
        group="prompts",
        jobs=_ONLY,
    )
    prompt_len: int | None = _knob(
        None,
        "prompt length",
        "Tokens of a dummy prompt, or the most of others: prompts keep their end, texts to be scored their beginning.",
        unit="tokens",
        minimum=1,
        maximum=1_048_576,
        steps=tuple(2**i for i in range(3, 18)),
        optional=True,
        hint=f"{DEFAULT_PROMPT_LEN} of dummy prompts, others as they are",
        group="prompts",
        jobs=_ONLY,
    )
    prefix_len: int = _knob(
        0,
        "shared prefix",
        "Tokens that all dummy prompts begin with, as a system prompt: what a prefix cache can keep.",
        unit="tokens",
        minimum=0,
        maximum=1_048_576,
        steps=(0, 64, 128, 256, 512, 1024, 2048, 4096),
        group="prompts",
        jobs=_ONLY,
    )
    repeats: float = _knob(
        0.0,
        "repeats",
        "Share of the requests that ask what was asked before: what a response cache can answer at once.",
        minimum=0.0,
        maximum=1.0,
        steps=(0.0, 0.1, 0.25, 0.5, 0.75, 0.9),
        group="prompts",
        jobs=_ONLY,
    )
    max_new_tokens: int = _knob(
        128,
        "new tokens",
        "The most that are written to a prompt: each costs a decode step, and its keys and values.",
        unit="tokens",
        minimum=1,
        maximum=1_048_576,
        steps=tuple(2**i for i in range(3, 14)),
        group="prompts",
        jobs=_ONLY,
    )
    ignore_eos: bool = _knob(
        True,
        "ignore end",
        "Write on after the token that ends an answer: all are equally long, so that times can be compared.",
        group="prompts",
        jobs=_ONLY,
    )
    chat_template: bool = _knob(
        True,
        "chat template",
        "Ask in the form that the model was taught conversations in, where its tokenizer has one.",
        group="prompts",
        jobs=_ONLY,
    )
    kv_cache: str = _knob(
        "dynamic",
        "KV cache",
        "Keep keys and values of all tokens: space for time; static takes its room at once; off computes all anew.",
        choices=("off", "dynamic", "static"),
        group="answering",
        jobs=_ONLY,
    )
    kv_dtype: str = _knob(
        "model",
        "KV type",
        "int8 keeps keys and values in a byte each, with scales: longer texts fit, and answers may change.",
        choices=("model", "int8"),
        group="answering",
        jobs=_ONLY,
    )
    prefix_cache: bool = _knob(
        False,
        "prefix cache",
        "Keep what prompts begin with in common: its keys and values are computed once, for a shorter first token.",
        group="answering",
        jobs=_ONLY,
    )
    response_cache: bool = _knob(
        False,
        "response cache",
        "Keep whole answers: a prompt that was asked before costs nothing.",
        group="answering",
        jobs=_ONLY,
    )
    speculate: str = _knob(
        "off",
        "speculate",
        "Guess tokens and check them in one forward: lookup from the text itself, draft by a smaller model.",
        choices=("off", "lookup", "draft"),
        group="answering",
        jobs=_ONLY,
    )
    speculate_tokens: int = _knob(
        4,
        "guessed tokens",
        "Tokens that are guessed at a time: more per forward where guesses are good, more wasted where they are not.",
        unit="tokens",
        minimum=1,
        maximum=256,
        steps=(1, 2, 3, 4, 5, 8, 10, 16),
        group="answering",
        jobs=_ONLY,
    )
    draft_model: str | None = _knob(
        None,
        "draft model",
        "The smaller model that guesses: it has to know the same tokens, and be much faster, 20 × or more.",
        optional=True,
        hint="preset, hub name, local folder or run:N",
        group="answering",
        jobs=_ONLY,
    )
    batching: str = _knob(
        "static",
        "batching",
        "static ends a batch with its longest answer; continuous lets the next prompt in as soon as one is done.",
        choices=("static", "continuous"),
        group="answering",
        jobs=_ONLY,
    )
    temperature: float = _knob(
        0.0,
        "temperature",
        "0 takes the likeliest token (greedy), more lets others win by chance; it costs next to nothing.",
        minimum=0.0,
        maximum=100.0,
        steps=(0.0, 0.2, 0.5, 0.7, 1.0, 1.5),
        group="answering",
        jobs=_ONLY,
    )
    top_k: int = _knob(
        0,
        "top k",
        "Only the k likeliest tokens can win; 0 lets all.",
        minimum=0,
        maximum=1_000_000,
        steps=(0, 1, 5, 10, 20, 50, 100),
        group="answering",
        jobs=_ONLY,
    )
    top_p: float = _knob(
        1.0,
        "top p",
        "Only the likeliest tokens that have this probability together can win; 1 lets all.",
        minimum=0.01,
        maximum=1.0,
        steps=(0.5, 0.8, 0.9, 0.95, 1.0),
        group="answering",
        jobs=_ONLY,
    )
    held_out_tokens: int = _knob(
        1024,
        "held-out tokens",
        "Of text that is read to measure what rounded weights or KV cost: perplexity, and agreement of the top token.",
        unit="tokens",
        minimum=0,
        maximum=10_000_000,
        steps=(0, 256, 1024, 4096, 16_384),
        group="answering",
        jobs=_ONLY,
    )

    @property
    def has_dummy_prompts(self) -> bool:
        """Whether random tokens are asked; else something that was typed, made up or read."""
        return self.prompts == DUMMY_PROMPTS and self.prompt is None

    @property
    def known_prompt_len(self) -> int | None:
        """Tokens of a prompt, or the most of them: not set, the usual of dummy prompts; None: as they are."""
        return self.prompt_len or (DEFAULT_PROMPT_LEN if self.has_dummy_prompts else None)
