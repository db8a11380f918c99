"""What answering fast gains and costs, on this machine's CPU.

First our answers against plain `generate` of transformers: the same model, prompts and settings, turn by turn, each in
a process of its own. Then the three ideas of the lecture, each against the run without it, with a small model that is
trained for it on generated text: all of them runs as `traintop answer` does them, told by their own events.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NoReturn

from engine.answering.requests import Request
from engine.compare.answers import in_circles
from engine.contract.answers import AnswerFigures
from engine.contract.by_job import defaults_of
from engine.contract.config import RunConfig
from engine.contract.events import Event, RequestDone
from engine.contract.knob import ANSWER
from engine.contract.records import RunRecord
from engine.export.hand_over import flags_of
from engine.history.history import History
from tests.benchmarks.app_bench import ran_in_app
from tests.benchmarks.figures import Figure, alternate, ratio
from tests.benchmarks.session_runs import follow
from tests.end_to_end.programs import COMMAND, environment, traintop

GOAL = 0.98
PATIENCE_S = 300.0
TRAINING = RunConfig(
    model="llama-mini",
    task="causal-lm",
    workload="instructions",
    device="cpu",
    batch_size=8,
    samples=28_000,
    seq_len=128,
    padding="bucketed",
    learning_rate=8e-3,
    warmup_steps=0.05,
)
"""Of the small model, as the README has it: some minutes. A shorter one writes text that says nothing, and whether that
goes round in circles, and so is easily guessed, is another accident each time.
"""
LAYERS = 48
"""Of the model that a draft is worth its time for, on a CPU: each takes about as long as any other, be it small."""
PLAIN = defaults_of(ANSWER).with_values(device="cpu", requests=4, prompt_len=128, max_new_tokens=64)


def measure(*, full: bool, rounds: int | None = None) -> Iterator[Figure]:
    """Ratios of tokens/s as a rule; what says otherwise is named so."""
    spawn = get_context("spawn")
    os.environ["OMP_NUM_THREADS"] = "1"  # as many for both: ours takes fewer where the machine is busy
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(1, spawn) as our_process,
        ProcessPoolExecutor(1, spawn) as their_process,
    ):
        home = Path(folder)
        n = rounds or (7 if full else 3)
        mine = partial(_result, our_process, answered, home)
        yield from _against_plain(mine, partial(_result, their_process, plainly, home), n)
        yield _virtual_against_cpu(mine, n)
        yield _app_against_headless(home, n)
        trained = str(home / "trained")
        our_process.submit(train, TRAINING.with_values(output_dir=trained), home).result()
        our_process.submit(deepen, home / "trained", home / "deep").result()
        small = PLAIN.with_values(model=trained)
        yield from ideas(mine, small, n)
        yield from in_depth(mine, small, small.with_values(model=str(home / "deep")), n)


def _result(process: ProcessPoolExecutor, work: Callable[..., Any], home: Path, config: RunConfig) -> Any:
    return process.submit(work, config, home).result()


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a run came to, without its warm-up."""

    tokens_per_s: float
    """Of the whole run: prompts are read in that time too."""
    cpu_s: float
    """Processor time of the process over the same answers."""
    answer: AnswerFigures = field(default_factory=AnswerFigures)

    @property
    def ttft_s(self) -> float:
        """The median."""
        assert self.answer.ttft is not None
        return self.answer.ttft.p50

    @property
    def guesses(self) -> str:
        """In words."""
        if not self.answer.proposed:
            return "nothing guessed"
        told = f"{self.answer.acceptance:.0%} accepted, {self.answer.tokens_per_forward:.2f} tokens per forward"
        circles = in_circles(self.answer)
        return f"{told}; {circles}" if circles else told


Answered = Callable[[RunConfig], Told]
Against = Callable[[RunConfig, RunConfig], tuple[list[Told], list[Told]]]


def _against_plain(mine: Answered, theirs: Callable[[RunConfig], Told], rounds: int) -> Iterator[Figure]:
    for config, name in (
        (PLAIN.with_values(requests=16), "batch 1"),
        (PLAIN.with_values(batch_size=8, requests=32), "batch 8"),
    ):
        ours, plain = alternate(partial(mine, config), partial(theirs, config), rounds)
        cpu = statistics.median(b.cpu_s / a.cpu_s for a, b in zip(ours, plain, strict=True))
        yield _speeds(
            f"answering ÷ plain generate, gpt2-tiny {name}", ours, plain, GOAL, f"by processor time {cpu:.3f}"
        )


def _virtual_against_cpu(mine: Answered, rounds: int) -> Figure:
    """Prompts of one length, of which the first is traced; of each other length one is traced too."""
    config = PLAIN.with_values(requests=16)
    virtual, plain = alternate(
        partial(mine, config.with_values(device="virtual:tesla-p4")), partial(mine, config), rounds
    )
    return ratio(
        "answering on a virtual card ÷ on the CPU, processor time",
        [1 / told.cpu_s for told in virtual],
        [1 / told.cpu_s for told in plain],
        0.95,
    )


def ideas(mine: Answered, config: RunConfig, rounds: int) -> Iterator[Figure]:
    """More space, the common case, and speculation, each against the same without it."""

    def against(a: RunConfig, b: RunConfig) -> tuple[list[Told], list[Told]]:
        return alternate(partial(mine, a), partial(mine, b), rounds)

    few = config.with_values(requests=3)
    longer = few.with_values(prompt_len=1024)
    with_cache, without = against(longer, longer.with_values(kv_cache="off"))
    yield _speeds("KV cache ÷ none, prompt 1,024", with_cache, without, 5)
    static, dynamic = against(longer.with_values(kv_cache="static"), longer)
    yield _speeds("static KV cache ÷ dynamic", static, dynamic, None)
    prefix = config.with_values(prompt_len=1024, prefix_len=960, max_new_tokens=8)
    cached, cold = against(prefix.with_values(prefix_cache=True), prefix)
    yield ratio(
        "TTFT without a prefix cache ÷ with, prefix 960", [t.ttft_s for t in cold], [t.ttft_s for t in cached], 3
    )
    batch = config.with_values(requests=16, prompt_len=64)
    many, one = against(batch.with_values(batch_size=16), batch)
    yield _speeds("batch 16 ÷ batch 1", many, one, 4)

    lookup = {"speculate": "lookup", "speculate_tokens": 10}
    for prompts, goal in (("repeating", 1.3), ("generated", None)):
        asked = config.with_values(prompts=prompts, prompt_len=None, ignore_eos=False, requests=16)
        guessing, each_token = against(asked.with_values(**lookup), asked)
        yield _speeds(f"lookup ÷ none, {prompts} text", guessing, each_token, goal, guessing[0].guesses)
    drawn = few.with_values(temperature=5.0)
    guessing, each_token = against(drawn.with_values(**lookup), drawn)
    yield _speeds("lookup ÷ none, random text", guessing, each_token, None, guessing[0].guesses)


def in_depth(mine: Answered, small: RunConfig, deep: RunConfig, rounds: int) -> Iterator[Figure]:
    """What pays where layers are what takes time and room: a draft, and weights in int8."""
    asked = {"prompts": "generated", "prompt_len": None, "requests": 3, "ignore_eos": True}
    for config, who in (
        (deep, f"the small model guesses for {LAYERS} layers that say the same"),
        (small, "the small model guesses for itself"),
    ):
        alone = config.with_values(**asked)
        drafted = alone.with_values(speculate="draft", draft_model=small.model, speculate_tokens=8)
        guessing, each_token = alternate(partial(mine, drafted), partial(mine, alone), rounds)
        goal = 1 if config is deep else None
        yield _speeds(f"draft ÷ none, {who}", guessing, each_token, goal, guessing[0].guesses)
    for config, name in ((deep, f"{LAYERS} layers"), (small, TRAINING.model)):
        whole = config.with_values(**asked)
        rounded = mine(whole.with_values(weights="int8")).answer
        assert rounded.weights is not None
        yield Figure(
            name=f"int8 weights' bytes ÷ fp32's, {name}",
            value=rounded.weights / (mine(whole).answer.weights or 0),
            goal=0.35,
            at_most=True,
            note=f"top token the same: {rounded.agreement:.1%}; "
            f"perplexity {rounded.perplexity:.3g} against {rounded.own_perplexity:.3g}",
        )


def _speeds(name: str, ours: list[Told], theirs: list[Told], goal: float | None, note: str = "") -> Figure:
    return ratio(name, [each.tokens_per_s for each in ours], [each.tokens_per_s for each in theirs], goal, note)


def answered(config: RunConfig, home: Path) -> Told:
    """A run of ours."""
    cpu = {"begin": 0.0, "end": 0.0}

    def hear(event: Event) -> None:
        if isinstance(event, RequestDone):
            cpu["begin" if event.warmup else "end"] = time.process_time()

    record = _follow(config, home, hear)
    assert record.answer is not None
    assert record.train_runtime_s is not None
    return Told(
        tokens_per_s=record.answer.new_tokens / record.train_runtime_s,
        cpu_s=cpu["end"] - cpu["begin"],
        answer=record.answer,
    )


def train(config: RunConfig, home: Path) -> None:
    """The small model."""
    _follow(config, home, lambda event: None)


def deepen(small: Path, deep: Path) -> None:
    """The same model with more layers, which add nothing: it writes the same, and takes what a large one takes.

    A large model that has learned as much takes longer to train than a benchmark may.
    """
    import torch
    from transformers import LlamaForCausalLM

    shutil.copytree(small, deep)
    model = LlamaForCausalLM.from_pretrained(small)
    more = copy.deepcopy(model.config)
    more.num_hidden_layers = LAYERS
    deeper = LlamaForCausalLM(more)
    with torch.no_grad():
        for layer in deeper.model.layers[model.config.num_hidden_layers :]:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
    deeper.load_state_dict(model.state_dict(), strict=False)
    deeper.save_pretrained(deep)


def _follow(config: RunConfig, home: Path, hear: Callable[[Event], None]) -> RunRecord:
    logging.getLogger("traintop").addHandler(logging.NullHandler())
    with History(home / "history.sqlite3") as history:
        return follow(config, history, hear)


def plainly(config: RunConfig, home: Path) -> Told:
    """The same prompts by `generate` alone."""
    import torch
    from transformers import GenerationConfig

    from engine.answering import loading
    from engine.answering.generation import collate
    from engine.answering.prompts import prepare_prompts
    from engine.training.hub import Hub

    logging.getLogger("traintop").addHandler(logging.NullHandler())
    found = loading.find(config, Hub(), _none)
    prompts = prepare_prompts(config, found, Hub(), lambda what: None)
    torch.manual_seed(config.seed)
    model = loading.build(found, config)
    model.generation_config = GenerationConfig()

    def answer(requests: Sequence[Request], n: int) -> int:
        settings = GenerationConfig(max_new_tokens=n, do_sample=False, use_cache=True, pad_token_id=0)
        rows = model.generate(**collate(requests, 0, 0), generation_config=settings)
        return len(requests) * (rows.shape[1] - len(requests[0].input_ids))

    size = config.batch_size
    answer([prompts.warmup] * size, 8)
    began, cpu = time.perf_counter(), time.process_time()
    tokens = sum(
        answer(prompts.requests[start : start + size], config.max_new_tokens)
        for start in range(0, len(prompts.requests), size)
    )
    return Told(tokens_per_s=tokens / (time.perf_counter() - began), cpu_s=time.process_time() - cpu)


def _none(name: str) -> NoReturn:
    raise LookupError(f"{name} is the model of an earlier run")


def _app_against_headless(home: Path, rounds: int) -> Figure:
    """Tokens/s of runs in the app, in a terminal of 120×40, ÷ those of `traintop answer --json`."""
    config = PLAIN.with_values(requests=12)
    app, headless = alternate(lambda: _in_app(home, config), lambda: _headless(home, config), rounds)
    return ratio("answering, app on ÷ headless", app, headless, GOAL, f"{rounds} × {config.requests} requests")


def _in_app(home: Path, config: RunConfig) -> float:
    command = [*COMMAND, "--job", ANSWER, *flags_of(config).split()]
    record = ran_in_app(home, *command)
    assert record.answer is not None
    assert record.answer.generation_tokens_per_s is not None
    return record.answer.generation_tokens_per_s


def _headless(home: Path, config: RunConfig) -> float:
    words = flags_of(config).split()
    done = traintop("answer", "--json", *words, env=environment(home), timeout_s=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    return float(json.loads(done.stdout.splitlines()[-1])["generation_tokens_per_s"])
