"""After an out-of-memory: the nearest configurations that fit, chosen by where it died."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from engine.contract.config import ConfigError, RunConfig, Value
from engine.contract.forecast_types import Forecast, ForecastError, Proposal
from engine.contract.records import Phase
from engine.models.catalogue import smaller

MAX_PROPOSALS = 4


def propose(
    config: RunConfig,
    phase: Phase | None,
    forecast: Callable[[RunConfig], Forecast],
    on_more: Sequence[RunConfig] = (),
) -> list[Proposal]:
    """At most `MAX_PROPOSALS` configurations that `forecast` says fit, the smallest change first.

    `phase` is where `config` ran out of memory; None is taken for the forward. `on_more` is `config` on more of the
    GPUs that are there; the last of the proposals is left to them, or to another way of dividing it, where one fits.
    """
    divided = _first(_divided(config, on_more), forecast)
    found: list[Proposal] = []
    for label, candidate in _candidates(config, phase or Phase.FORWARD, forecast):
        if len(found) == MAX_PROPOSALS - (divided is not None):
            break
        made = _fitting(label, candidate, forecast)
        if made is not None and all(proposal.config != candidate for proposal in found):
            found.append(made)
    return found if divided is None else [*found, divided]


def _fitting(label: str, candidate: RunConfig, forecast: Callable[[RunConfig], Forecast]) -> Proposal | None:
    try:
        expected = forecast(candidate)
    except (ConfigError, ForecastError):
        return None
    return Proposal(label=label, config=candidate, forecast=expected) if expected.fits else None


def _first(candidates: Iterator[tuple[str, RunConfig]], forecast: Callable[[RunConfig], Forecast]) -> Proposal | None:
    return next((made for each in candidates if (made := _fitting(*each, forecast)) is not None), None)


def _divided(config: RunConfig, on_more: Sequence[RunConfig]) -> Iterator[tuple[str, RunConfig]]:
    """The same on the same GPUs with less on each, and then on more of them: what is simplest comes first.

    The effective batch stays what it is wherever it can be divided; then the gradients are the same.
    """
    for kind in ("zero1", "fsdp"):
        if config.is_parallel and kind != config.parallel and config.parallel != "fsdp":
            for changed in _with(config, parallel=kind):
                yield kind, changed
    for more in on_more:
        times = (more.gpus or 1) // (config.gpus or 1)
        batch, accumulation = config.batch_size, config.gradient_accumulation_steps
        if batch % times == 0:
            batch //= times
        elif accumulation % times == 0:
            accumulation //= times
        kept = {"batch_size": batch, "gradient_accumulation_steps": accumulation}
        for kind in ("ddp", "zero1", "fsdp") if batch < config.batch_size else ("zero1", "fsdp"):
            for changed in _with(more, parallel=kind, **kept):
                yield f"{more.gpus} GPUs, {kind}, batch {batch} on each", changed


def _candidates(
    config: RunConfig, phase: Phase, forecast: Callable[[RunConfig], Forecast]
) -> Iterator[tuple[str, RunConfig]]:
    """The first that would help where it died comes first; combinations come after the single changes.

    Pairs of batch and accumulation that keep the effective batch come before those that do not.
    """
    if config.answers:
        yield from _lighter_answers(config, phase, forecast)
        return
    if phase in (Phase.OPTIMIZER, Phase.CLIP):
        lighter = [*_lighter_step(config)]
        singles = [*lighter]
        for label, changed in lighter:
            singles += [(f"{label}, {more}", both) for more, both in (*_recompute(changed), *_smaller_batch(changed))]
        singles += [*_smaller_batch(config), *_recompute(config)]
    elif phase is Phase.LOAD:
        singles = []
    else:
        yield from _largest_batch(config, forecast)
        pairs = [*_smaller_batch(config)]
        singles = [*pairs[:1], *_recompute(config), *pairs[1:]]
        singles += [*_half_precision(config), *_lighter_step(config)]
    yield from singles
    for label, changed in _lighter_step(config):
        for more, both in (*_recompute(changed), *_smaller_batch(changed)):
            yield f"{label}, {more}", both
    for label, changed in _recompute(config):
        for more, both in _smaller_batch(changed):
            yield f"{label}, {more}", both
    yield from _smaller_model(config)


def _lighter_answers(
    config: RunConfig, phase: Phase, forecast: Callable[[RunConfig], Forecast]
) -> Iterator[tuple[str, RunConfig]]:
    """What has room for answers: fewer or shorter ones at once, or a rounded cache; a model that does not fit, smaller
    weights.
    """
    halves = [("bf16", "bf16"), ("fp16", "fp16")] if config.weights == "fp32" else []
    weights = [*halves, ("int8", "int8 weights"), ("nf4", "nf4 weights")]
    lighter = [
        (label, changed)
        for name, label in weights
        if name != config.weights
        for changed in _with(config, weights=name, precision="fp32" if name in ("bf16", "fp16") else config.precision)
    ]
    if phase is not Phase.LOAD:
        yield from _largest_batch(config, forecast)
        if config.speculate == "draft":
            for changed in _with(config, speculate="off", draft_model=None):
                yield "no draft model", changed
        for changed in _with(config, kv_dtype="int8", kv_cache="dynamic"):
            yield "KV cache in int8", changed
        yield from _shorter(config, forecast)
    yield from lighter
    for label, changed in lighter:
        for more, both in _largest_batch(changed, forecast):
            yield f"{label}, {more}", both
    yield from _smaller_model(config)


def _shorter(config: RunConfig, forecast: Callable[[RunConfig], Forecast]) -> Iterator[tuple[str, RunConfig]]:
    """The longest prompt that fits beside the answer, where its length is the user's to say."""
    try:
        told = forecast(config).answer
    except (ConfigError, ForecastError):
        return
    new = 0 if config.task == "classification" else config.max_new_tokens
    if told is not None and told.most_tokens is not None and told.most_tokens > new:
        length = told.most_tokens - new
        for changed in _with(config, prompt_len=length):
            yield f"prompts of {length:,} tokens", changed


def _with(config: RunConfig, **changes: Value) -> Iterator[RunConfig]:
    try:
        changed = config.with_values(**changes)
    except ConfigError:
        return
    if changed != config:
        yield changed


def _largest_batch(config: RunConfig, forecast: Callable[[RunConfig], Forecast]) -> Iterator[tuple[str, RunConfig]]:
    """The largest batch below this one that fits, found by bisection; none where one sample is too much."""
    fits, fails = 0, config.batch_size
    while fails - fits > 1:
        size = (fits + fails) // 2 if fits else 1
        try:
            expected = forecast(config.with_values(batch_size=size))
        except (ConfigError, ForecastError):
            return
        if not expected.fits and not fits:
            return
        fits, fails = (size, fails) if expected.fits else (fits, size)
    if fits:
        yield f"batch {fits}", config.with_values(batch_size=fits)


def _smaller_batch(config: RunConfig) -> Iterator[tuple[str, RunConfig]]:
    """The same effective batch in smaller micro-steps: of those sizes that divide it, the largest below each half.

    Then halves that do not divide it: 5 × 2 for 9.
    """
    pairs, uneven = [], []
    limit = config.batch_size
    for batch, accumulation in config.smaller_pairs():
        if batch <= limit:
            pairs.append((batch, accumulation))
            limit = batch // 2
    batch, accumulation = config.batch_size, config.gradient_accumulation_steps
    while batch > 1 and not config.optimizer_in_backward:  # which cannot accumulate
        accumulation, batch = accumulation * 2, -(-batch // 2)
        uneven.append((batch, accumulation))
    for batch, accumulation in dict.fromkeys((*pairs, *uneven)):
        for changed in _with(config, batch_size=batch, gradient_accumulation_steps=accumulation):
            yield f"batch {batch} × accumulation {accumulation}", changed


def _recompute(config: RunConfig) -> Iterator[tuple[str, RunConfig]]:
    if config.gradient_checkpointing != "on":
        for changed in _with(config, gradient_checkpointing="on"):
            yield "checkpointing", changed


def _half_precision(config: RunConfig) -> Iterator[tuple[str, RunConfig]]:
    if config.precision in ("fp32", "tf32"):
        for name in ("bf16", "fp16"):
            for changed in _with(config, precision=name):
                yield name, changed


def _lighter_step(config: RunConfig) -> Iterator[tuple[str, RunConfig]]:
    """Fused AdamW before anything else: it changes no figure but the memory."""
    if config.optimizer in ("adamw", "adam") and config.optimizer_implementation != "fused":
        for changed in _with(config, optimizer_implementation="fused"):
            yield f"fused {'AdamW' if config.optimizer == 'adamw' else 'Adam'}", changed
    if config.gradient_accumulation_steps == 1 and config.precision != "fp16":
        for changed in _with(config, optimizer_in_backward=True, max_grad_norm=0.0):
            yield "optimizer in backward (no clipping)", changed


def _smaller_model(config: RunConfig) -> Iterator[tuple[str, RunConfig]]:
    for name in smaller(config.model):
        for changed in _with(config, model=name):
            yield name, changed
