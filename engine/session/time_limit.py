"""Whether what is asked for ends before the batch job does: said before it starts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from engine.contract.answering_knobs import DEFAULT_REQUESTS, DUMMY_PROMPTS
from engine.contract.config import KEEPING, KNOBS, RunConfig
from engine.contract.job import BatchJob, time_left
from engine.contract.records import DeviceInfo, Outcome, RunRecord

_MAY_DIFFER = KEEPING | {
    "seed",
    "device",
    "samples",
    "eval_samples",
    "epochs",
    "metric_for_best_model",
    "early_stopping_patience",
    "early_stopping_threshold",
    "requests",
    "held_out_tokens",
}
"""Knobs that a run may have other values of to tell this one's speed."""

_FORECASTS = 32
"""Of a long plan so many are made: each takes a tenth of a second or more, and the plan waits for them."""

Rows = Callable[[], Sequence[RunRecord]]
Speed = Callable[[RunConfig], "float | None"]


class TimeLimit:
    """`rows` are the earlier runs, `speed` is the forecast's samples/s, or requests/s; each may be slow, so they are
    asked only in a job that has an end. The time for loading and scoring is not counted: nobody knows it before.
    """

    def __init__(self, rows: Rows, speed: Speed, clock: Callable[[], float] = time.time) -> None:
        self.job: BatchJob | None = None
        self._rows, self._speed, self._clock = rows, speed, clock

    def why_not(self, configs: Sequence[RunConfig], device: DeviceInfo | None, what: str) -> str | None:
        """A sentence where these runs will not all end in time; None where they will, or where it is not known."""
        left = self.job.left_s(self._clock()) if self.job is not None else None
        if self.job is None or left is None or not configs:
            return None
        speeds = self._speeds(configs, device)
        seconds = [
            amount / speeds[key][0]
            for each in configs
            if (key := _alike(each)) in speeds and (amount := _amount(each)) is not None
        ]
        if sum(seconds) <= left:
            return None
        by = " and ".join(sorted({source for _, source in speeds.values()}))
        least = "at least" if len(seconds) < len(configs) else "about"
        work = "the answering" if all(each.answers for each in configs) else "the training"
        return (
            f"{what} will not end in time: by {by} {work} takes {least} {time_left(sum(seconds))}, and "
            f"{self.job.words} ends in {time_left(left)} ({self.job.source})."
        )

    def _speeds(self, configs: Sequence[RunConfig], device: DeviceInfo | None) -> dict[object, tuple[float, str]]:
        """Samples/s, or requests/s, and where from, as far as they are known, by what decides them."""
        told, found = self._told(device), dict[object, tuple[float, str]]()
        unknown: dict[object, RunConfig] = {}
        for config in configs:
            key = _alike(config)
            if key in told:
                found[key] = told[key], "earlier runs"
            else:
                unknown.setdefault(key, config)
        for key, config in list(unknown.items())[:_FORECASTS]:
            if rate := self._speed(config):
                found[key] = rate, "the forecast"
        return found

    def _told(self, device: DeviceInfo | None) -> dict[object, float]:
        """Samples/s, or requests/s, of completed runs on such a device, the newest of each configuration."""
        told: dict[object, float] = {}
        for row in self._rows():
            same = device is not None and row.device is not None and row.device.card[:2] == device.card[:2]
            rate = row.answer.requests_per_s if row.answer is not None else row.samples_per_s
            if same and row.outcome is Outcome.COMPLETED and rate:
                told[_alike(row.config)] = rate
        return told


def _amount(config: RunConfig) -> int | None:
    """Samples, or requests; None where a file says how many, which is not known yet."""
    if not config.answers:
        return None if config.samples is None else config.samples * config.epochs
    if config.prompt is not None:
        return 1
    return config.requests or (DEFAULT_REQUESTS if config.prompts == DUMMY_PROMPTS else None)


def _alike(config: RunConfig) -> object:
    return tuple(getattr(config, name) for name in KNOBS if name not in _MAY_DIFFER)
