"""How fast answers come: the roofline of training's forecast, for a prefill and for a decode step.

Decoding reads all weights and all keys and values for a token of each sequence, so its time is those bytes by the
bandwidth, unless the host takes longer to launch the step (Pope et al. 2022, Efficiently Scaling Transformer Inference,
section 2); prefill is products. The constants are training's: nothing is fitted to answers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from engine.contract.config import RunConfig
from engine.forecast.answering.traces import AnswerTraces
from engine.forecast.speed import MODULE_S, OPERATOR_S, Rates, seconds
from engine.forecast.work import Work
from engine.gpus.catalogue import Gpu

BANDWIDTH, COMPUTE, HOST = "bandwidth", "compute", "host"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds of a batch; None where they are not known."""

    prefill_s: float | None = None
    step_s: float | None = None
    """Of a decode step, at the middle of the answer."""
    bound: str | None = None
    """What decoding takes its time for."""


def pace(config: RunConfig, gpu: Gpu, traces: AnswerTraces, width: int, new: int) -> Pace:
    """Of batches of `config` whose prompts have `width` tokens; `AnswerTraces.template` first."""
    rates = Rates.of(gpu, config)
    if rates is None or config.is_quantised:
        return Pace()
    prefill_s = seconds(traces.work(config.batch_size, width, new, "prefill"), 1, rates)
    if new == 1:
        return Pace(prefill_s=prefill_s)
    step = _step(config, traces, width, new)
    return Pace(prefill_s=prefill_s, step_s=seconds(step, 1, rates), bound=_bound(step, rates))


def _step(config: RunConfig, traces: AnswerTraces, width: int, new: int) -> Work:
    """A decode step at the middle of an answer."""
    # the step recorded is the last of a few; of a seq2seq model the width is the prompt's, in all steps
    middle = width if traces.is_seq2seq else max(1.0, width + new / 2 - traces.plan.steps)
    step = traces.work(config.batch_size, middle, new, "decode")
    if not config.torch_compile:
        return step
    return _compiled(step, traces.work(config.batch_size, middle, new, "forward"))


def _compiled(step: Work, forward: Work) -> Work:
    """With the forward as one CUDA graph, in whose kernels all but products and attention stays on the chip."""
    around = step.n_bytes - forward.n_bytes
    return replace(
        step,
        n_bytes=around + forward.attention_bytes,
        operators=step.operators - forward.operators + 1,
        modules=step.modules - forward.modules,
    )


def _bound(step: Work, rates: Rates) -> str:
    """The largest of what a step is made of."""
    host = OPERATOR_S * step.operators + MODULE_S * step.modules
    traffic = (step.product_bytes + step.n_bytes) / rates.bytes
    products = step.flops / (rates.tensor_flops or rates.flops)
    return max(((traffic, BANDWIDTH), (products, COMPUTE), (host, HOST)))[1]
