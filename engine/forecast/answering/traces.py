"""The traced answers of one model and technique, at any batch size and length."""

from __future__ import annotations

from functools import partial

from engine.forecast.answering.record import AnswerPlan, AnswerWork, record_answer
from engine.forecast.answering.template import Template, template
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

SHORTEST = 64
"""Tokens of the prompt that others are told from, or more."""
_KEPT = 64
"""Templates that are kept; each takes some 100 KB."""


class AnswerTraces:
    """Recordings made when they are asked for, and kept. `longest`: tokens of the prompt and answer asked for first."""

    def __init__(self, plan: AnswerPlan, longest: tuple[int, int]) -> None:
        self.plan = plan
        layers = find_layers(plan.model, plan.model.config.get_text_config())
        self._deep = Deep(partial(_traced, plan), layers)
        width, new = longest
        self._family = Family(self._record, (max(width, SHORTEST), self._room(new)))
        self._works: dict[Point, AnswerWork] = {}
        self._groups: dict[int, int] = {}
        """By slot, tokens of a group where a size is of whole groups: the same in all recordings that are alike."""
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
            self._family.expect([shape, shape._replace(width=2 * width)])
            recording = self._family.at(shape, alone=samples == 1)
            self._templates[shape] = template(recording, self._groups, width)
        return self._templates[shape]

    def work(self, samples: int, width: float, new: int, of: str) -> Work:
        """One of `AnswerWork` for prompts of `width` tokens; `template` first."""
        works = {point: getattr(work, of) for point, work in self._works.items()}
        return work_at(works, samples, (width, self._room(new)))

    def _room(self, new: int) -> int:
        """Of an answer, where its tokens have a place from the begin."""
        return new if self.plan.config.kv_cache == "static" else 0

    def _record(self, shape: BatchShape) -> Recording:
        traced = self._deep(shape)
        self._works.setdefault((shape.samples, shape.width, shape.target), traced.work)
        self._groups = {slot: rule.size for slot, rule in traced.recording.rules.items() if isinstance(rule, Groups)}
        return traced.recording


def _traced(plan: AnswerPlan, shape: BatchShape) -> Traced:
    work = AnswerWork()
    return Traced(record_answer(plan, shape, work), work)
