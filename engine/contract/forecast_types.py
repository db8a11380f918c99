"""What a forecast says. Standard library only: the screen imports these types before torch is there."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from engine.contract.config import RunConfig
from engine.gpus.units import to_mib

CONTEXT, LIBRARIES, WEIGHTS, GRADIENTS, OPTIMIZER = "context", "libraries", "weights", "gradients", "optimizer"
ACTIVATIONS, TEMPORARIES, INPUTS, CACHED = "activations", "temporaries", "inputs", "cached"
KV_CACHE = "kv_cache"
"""Of a run that answers: keys and values."""

TRACED = (LIBRARIES, WEIGHTS, GRADIENTS, OPTIMIZER, KV_CACHE, ACTIVATIONS, TEMPORARIES, INPUTS)
"""What a tensor in the allocator can be; `libraries` are cuBLAS's workspaces there."""
UNIFIED = "unified"
"""Memory that the driver moves between the card and the host, page by page: beside the allocator."""
BREAKDOWN = (CONTEXT, LIBRARIES, WEIGHTS, GRADIENTS, OPTIMIZER, KV_CACHE, ACTIVATIONS, TEMPORARIES, CACHED)
"""The parts of used memory, in the order of display; inputs count among the activations."""

FITS, OUT_OF_MEMORY = "fits", "out_of_memory"
NEAR_LIMIT = 0.05
"""Share of the limit within which a verdict is not sure: best-fit fragmentation moves some peaks by 4 %."""


class ForecastError(Exception):
    """A forecast that cannot be made; one sentence with the reason and what to do instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelinePoint:
    """One moment of an update; sizes in bytes."""

    phase: str
    allocated: int
    reserved: int
    by_category: dict[str, int]
    """Allocated bytes by category: `LIBRARIES` are cuBLAS's workspaces here, and `INPUTS` stand apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerForecast:
    """What a forecast says of a run that answers, beside memory. Of a classifier only what has no token in it."""

    kv_per_token: int
    """Bytes of one token of one sequence; 0 without a cache."""
    kv_cache: int
    """Bytes at the end of the longest answers, of the whole batch."""
    most_tokens: int | None
    """The longest prompt and answer together that fit at this batch size, within the positions; None: not known."""
    largest_batch: int | None
    """The largest batch that fits at this length; None: not known."""
    ttft_s: float | None
    tpot_s: float | None
    """Without speculation."""
    prompt_tokens_per_s: float | None
    generation_tokens_per_s: float | None
    """With what speculation is expected to gain, where an acceptance is known."""
    bound: str | None
    """What decoding is bound by: `bandwidth`, `compute` or `host`."""
    acceptance: float | None = None
    """That was learned from earlier runs; None: not known."""
    speedups: tuple[tuple[float, float], ...] = ()
    """Of speculation: an acceptance, and generation's speed with it ÷ without; empty without speculation."""

    def to_json(self) -> dict[str, Any]:
        """The fields that other programs rely on."""
        return {
            "kv_cache_mib": to_mib(self.kv_cache),
            "kv_per_token_bytes": self.kv_per_token,
            "most_tokens": self.most_tokens,
            "largest_batch": self.largest_batch,
            "ttft_s": self.ttft_s,
            "tpot_s": self.tpot_s,
            "prompt_tokens_per_s": self.prompt_tokens_per_s,
            "generation_tokens_per_s": self.generation_tokens_per_s,
            "bound": self.bound,
            "acceptance": self.acceptance,
            "speedups": [list(each) for each in self.speedups],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """VRAM and speed of one configuration on one GPU. Sizes in bytes; peaks are what it would need with no limit."""

    gpu: str
    """The GPU's name as NVML says it."""
    total: int
    limit: int
    """What the verdict is judged by: the GPU's usable memory or a smaller limit."""
    verdict: str
    """`fits` or `out_of_memory`."""
    near_limit: bool
    """The verdict is not sure: the peak is within 5 % of the limit, or an end of `used_range` gives the other one."""
    peak_used: int
    peak_reserved: int
    peak_allocated: int
    loaded_used: int
    """Used memory once the model is on the GPU."""
    breakdown: dict[str, int]
    """By `BREAKDOWN`, when most is allocated; `cached` is the rest, so that the parts sum to `peak_used`."""
    failing_phase: str | None
    failing_request: int | None
    """Bytes that could not be had, in that phase."""
    failing_segment: int | None = None
    """Bytes that the GPU was asked for, to have them: PyTorch's "Tried to allocate"."""
    failing_free: int | None = None
    """Bytes that were free then, after all that was cached had been given back."""
    timeline: tuple[TimelinePoint, ...]
    """One update in the steady state; of what does not fit, the update in which it dies, up to the failing request."""
    samples_per_s: float | None
    flops_per_sample: int
    """Forward and backward of one sample, recomputation included."""
    model_flops_per_sample: int
    """The same without recomputation: what MFU counts."""
    n_parameters: int
    forecast_s: float
    notes: tuple[str, ...]
    """What it was made from and what it assumes, one sentence each."""
    tokens_per_sample: float | None = None
    """With padding, on average: what the speed and the FLOPs are for. None: not told."""
    gpus: int = 1
    parallel: str | None = None
    """One of `RunConfig.parallel`; None with one GPU."""
    peak_used_by_rank: tuple[int, ...] = ()
    """In the order of the ranks; empty with one GPU. All other sizes are those of the fullest rank; `samples_per_s` and
    its like are those of all together."""
    wait_share: float | None = None
    """Of an update's time, what is waited for others, 0 to 1; None with one GPU, or where it is not known."""
    speedup: float | None = None
    """`samples_per_s` ÷ that of one GPU with the same batch; None likewise."""
    answer: AnswerForecast | None = None
    """Of a run that answers; then `samples_per_s` are requests per second."""
    used_range: tuple[int, int] | None = None
    """`peak_used` at the least and at the most, in bytes, where context and libraries were not measured; else None."""

    @property
    def outside(self) -> int:
        """Bytes beside the allocator: the context, the images of libraries, and states in unified memory."""
        return self.peak_used - self.peak_reserved

    @property
    def gain(self) -> str | None:
        """What several GPUs are beside one: "6.9 × faster", "1.2 × slower"; None where it is not known."""
        if self.speedup is None:
            return None
        return f"{self.speedup:.1f} × faster" if self.speedup >= 1 else f"{1 / self.speedup:.1f} × slower"

    @property
    def together(self) -> str | None:
        """What several GPUs come to, in one line: "8 × fsdp: 3,006 MiB/GPU, 6.9 × faster, 12 % waiting"."""
        if self.gpus == 1:
            return None
        parts = [f"{to_mib(self.peak_used):,.0f} MiB/GPU"]
        if self.gain is not None:
            parts.append(self.gain)
        if self.wait_share is not None:
            parts.append(f"{100 * self.wait_share:.0f} % waiting")
        return f"{self.gpus} × {self.parallel}: {', '.join(parts)}"

    @property
    def short(self) -> int | None:
        """Bytes by which the failing request was too much; None where it fits."""
        if self.failing_segment is None or self.failing_free is None:
            return None
        return self.failing_segment - self.failing_free

    @property
    def fits(self) -> bool:
        return self.verdict == FITS

    def to_json(self) -> dict[str, Any]:
        """The fields that other programs rely on; sizes in MiB."""
        return {
            "gpu": self.gpu,
            "vram_total_mib": to_mib(self.total),
            "verdict": self.verdict,
            "near_limit": self.near_limit,
            "peak_used_mib": to_mib(self.peak_used),
            "peak_reserved_mib": to_mib(self.peak_reserved),
            "peak_allocated_mib": to_mib(self.peak_allocated),
            "breakdown_mib": {name: to_mib(size) for name, size in self.breakdown.items()},
            "failing_phase": self.failing_phase,
            "samples_per_s": self.samples_per_s,
            "flops_per_sample": self.flops_per_sample,
            "forecast_s": self.forecast_s,
            "failing_request_mib": to_mib(self.failing_segment),
            "failing_free_mib": to_mib(self.failing_free),
            "limit_mib": to_mib(self.limit),
            "used_range_mib": None if self.used_range is None else [to_mib(size) for size in self.used_range],
            "n_parameters": self.n_parameters,
            "gpus": self.gpus,
            "parallel": self.parallel,
            "peak_used_mib_by_gpu": [to_mib(size) for size in self.peak_used_by_rank] or None,
            "wait_share": self.wait_share,
            "speedup": self.speedup,
            "notes": list(self.notes),
            **({} if self.answer is None else self.answer.to_json()),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Foretold:
    """What a plan keeps of a row's forecast. Sizes in bytes; the peak is what it would need with no limit."""

    gpu: str
    """The GPU's name as NVML says it."""
    limit: int
    peak_used: int
    fits: bool
    near_limit: bool
    failing_phase: str | None
    samples_per_s: float | None

    @classmethod
    def of(cls, made: Forecast) -> Foretold:
        """The part of a forecast that is kept."""
        return cls(**{f.name: getattr(made, f.name) for f in fields(cls)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A configuration near one that ran out of memory, and the forecast that says it fits."""

    label: str
    """What changes, in a few words."""
    config: RunConfig
    forecast: Forecast
