"""The traced answers of one model and technique, at any batch size and length."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from engine.forecast.answering.record import AnswerPlan, AnswerWork, record_answer
from engine.forecast.answering.template import Layout, Template, layout, template
from engine.forecast.deep import Deep, Traced
from engine.forecast.layers import find_layers
from engine.forecast.recording import Recording
from engine.forecast.sizes import Point
from engine.forecast.traces import Family
from engine.forecast.work import Work, work_at
from engine.techniques import quantised
from engine.techniques.generation.settings import is_seq2seq
from engine.tracing.scratch import Groups
from engine.workloads.data_shape import BatchShape

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SHORTEST = 64
"""Tokens of the prompt that others are told from, or more."""
_CLOSE = 8
"""Tokens before a window's end from which on an answer may fill it."""
_KEPT = 64
"""Templates that are kept; each takes some 100 KB."""


class AnswerTraces:
    """Recordings made when they are asked for, and kept. `longest`: tokens of the prompt and answer asked for first."""

    def __init__(self, plan: AnswerPlan, longest: tuple[int, int]) -> None:
        self.plan = plan
        layers = find_layers(plan.model, plan.model.config.get_text_config())
        self._deep = Deep(partial(_traced, plan), layers)
        width, new = longest
        self._window = window_of(plan.model)
        least = max(width, SHORTEST)
        below = least if self._window is None else min(least, self._window - _CLOSE)
        above = least if self._window is None else max(least, 4 * (self._window + _CLOSE))
        longest_of = {False: below, True: above}
        self._families = {where: Family(self._record, (each, self._room(new))) for where, each in longest_of.items()}
        """By whether prompts fill the window of a model that has one: then keys and values grow no more."""
        self._works: dict[Point, AnswerWork] = {}
        self._groups: dict[int, int] = {}
        """By slot, tokens of a group where a size is of whole groups: the same in all recordings that are alike."""
        self._layouts: list[Layout] = []
        self._templates: dict[BatchShape, Template] = {}
        self.n_parameters = quantised.n_parameters(plan.model)

    @property
    def is_seq2seq(self) -> bool:
        """Whether prompt and answer are texts of their own."""
        return is_seq2seq(self.plan.model)

    def template(self, samples: int, width: int, new: int) -> Template:
        """What a batch of prompts of `width` tokens allocates, whatever its answers of up to `new`.

        Raises `ForecastError`.
        """
        hides = self.plan.config.task == "classification" and samples > 1  # its texts have lengths of their own
        shape = BatchShape(samples, width, hides, self._room(new))
        if shape not in self._templates:
            if len(self._templates) >= _KEPT:
                self._templates.clear()
            # two lengths, so that any other can be told
            family = self._families[self._window is not None and width > self._window - _CLOSE]
            family.expect([shape, shape._replace(width=2 * width)])
            recording = family.at(shape, alone=samples == 1)
            order = next((each for each in self._layouts if each.events is recording.events), None)
            if order is None:
                order = layout(recording)
                self._layouts.append(order)
            self._templates[shape] = template(recording, order, self._groups, width=width, alike=self.plan.alike)
        return self._templates[shape]

    def work(self, samples: int, width: float, new: int, of: str) -> Work:
        """One of `AnswerWork` for prompts of `width` tokens; `template` first."""
        works = {point: getattr(work, of) for point, work in self._works.items()}
        if self._window is not None:
            is_above = width > self._window - _CLOSE
            works = {p: work for p, work in works.items() if (p[1] > self._window - _CLOSE) is is_above} or works
        return work_at(works, samples, (width, self._room(new)))

    def _room(self, new: int) -> int:
        """Of an answer, where its tokens have a place from the begin."""
        return new if self.plan.config.kv_cache == "static" else 0

    def _record(self, shape: BatchShape) -> Recording:
        traced = self._deep(shape)
        self._works.setdefault((shape.samples, shape.width, shape.target), traced.work)
        self._groups = {slot: rule.size for slot, rule in traced.recording.rules.items() if isinstance(rule, Groups)}
        return traced.recording


def window_of(model: PreTrainedModel) -> int | None:
    """Tokens that the layers look back at which look back the least; None where all see all."""
    settings: Any = model.config.get_text_config(decoder=True)
    kinds = getattr(settings, "layer_types", None)
    window = getattr(settings, "sliding_window", None)
    if not isinstance(window, int) or (kinds is not None and "sliding_attention" not in kinds):
        return None
    return window if window > _CLOSE + SHORTEST else None


def _traced(plan: AnswerPlan, shape: BatchShape) -> Traced:
    work = AnswerWork()
    return Traced(record_answer(plan, shape, work), work)
