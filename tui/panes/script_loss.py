"""The loss of a user's own script: as its updates tell it, or as its trainer logs it; what else that logs."""

from __future__ import annotations

from engine.contract.numbers import loss, rate
from tui.drawing.cells import Line, first_that_fits, join
from tui.drawing.text import clean
from tui.state.run_view import RunView
from tui.state.script_view import EVAL_LOSS, ScriptView

_SHOWN_ELSEWHERE = ("_runtime", "_per_second", "_time", "_samples", "_steps")
"""Endings of what trainers log of an evaluation that is no score."""


def numbers(run: RunView, script: ScriptView, width: int) -> Line:
    """The newest loss, what the last evaluation came to, learning rate, gradient norm, epoch: as many as fit."""
    last = run.last
    parts: list[Line] = [[(loss(script.last_loss), "loss")]]
    scores = {name: value for name, value in script.logged.items() if _is_score(name)}
    for name in (EVAL_LOSS, *(each for each in scores if each != EVAL_LOSS)):
        if name in scores:
            called = clean(name, 24).replace("_", " ").replace("accuracy", "acc")
            parts.append([(f"{called} ", "muted"), (loss(scores[name]), "value")])
    if last is not None and last.learning_rate is not None:
        parts.append([("lr ", "muted"), (f"{last.learning_rate:.3g}", "value")])
    if last is not None and last.grad_norm is not None:
        parts.append([("grad ", "muted"), (rate(last.grad_norm), "value")])
    epoch = last.epoch if last is not None and last.epoch is not None else script.logged.get("epoch")
    if epoch is not None:
        parts.append([("epoch ", "muted"), (f"{epoch:.2f}", "value")])
    return first_that_fits([join(parts[:n], gap) for n in range(len(parts), 0, -1) for gap in ("   ", "  ")], width)


def _is_score(name: str) -> bool:
    return name.startswith(("eval_", "val_", "test_")) and not name.endswith(_SHOWN_ELSEWHERE)
