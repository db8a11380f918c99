"""What is known of a run of the user's own script, in lines: how it ended, what it held, and what was not seen."""

from __future__ import annotations

from collections.abc import Iterator

from engine.contract import figures
from engine.contract import script_entries as entries
from engine.contract.figures import Entry
from engine.contract.numbers import UNKNOWN, mib, n_of, number
from engine.contract.records import Outcome, RunRecord
from engine.contract.script_figures import ScriptFigures
from engine.contract.script_flags import numbered
from tui.state.knob_list import every_row, label_of
from tui.state.knobs import is_said, said_row

_CATEGORIES = ("weights", "frozen", "gradients", "optimizer")
FIGURES: tuple[tuple[Entry, ...], ...] = (
    (figures.STATUS, entries.EXIT),
    (figures.UPDATES, figures.PLANNED),
    (figures.TIME, entries.UPDATE_SPEED),
    (figures.SPEED, figures.MEAN_SPEED),
    (figures.TOKENS,),
    (figures.LOSS, figures.LAST_LOSS),
    (figures.PARAMETERS,),
    (figures.MEMORY, figures.SHARE, figures.TOTAL),
    (figures.RESERVED, figures.ALLOCATED),
    (figures.THREADS, figures.HOST_BUSY),
)
"""Those that belong together stand in one line."""


def script_lines(row: RunRecord, label: int) -> list[str]:
    """What was seen of the script itself, each line with its name in `label` cells."""
    script = row.script or ScriptFigures()
    steps = script.gradient_accumulation_steps
    told = {
        "log": script.log_path or UNKNOWN,
        "model": script.model or UNKNOWN,
        "optimizer": script.optimizer or UNKNOWN,
        "trainer": script.told_by or ("none seen: a plain loop" if row.updates else UNKNOWN),
        "a micro-step": _batch(script),
        "an update": UNKNOWN if steps is None else n_of(steps, "micro-step"),
        "held at most": _held(script),
    }
    if (script.n_processes or 1) > 1:
        told["processes"] = f"{script.n_processes} that trained together"
    lines = [f"{name:<{label}}{text}" for name, text in told.items()]
    if script.figures:
        logged = (f"{name} {value:g}" for name, value in script.figures.items())
        lines.append(f"{'logged last':<{label}}{', '.join(logged)}")
    if unseen := ", ".join(_unseen(row, script)):
        lines.append(f"{'not seen':<{label}}{unseen}")
    if script.switched_off is not None:
        lines.append(f"{'watched no more':<{label}}{script.switched_off}")
    return lines


def knob_lines(row: RunRecord, label: int) -> list[str]:
    """The knobs that its command carries, and those of its own."""
    config = numbered(row.config, row.run_id)
    shown = [each for each in every_row(config) if each.own or (is_said(config, each.knob) and each.knob != "command")]
    return [f"{label_of(each):<{label}}{said_row(config, each)}" for each in shown]


def _batch(script: ScriptFigures) -> str:
    if script.batch_size is None:
        return UNKNOWN
    tokens = "" if script.seq_len is None else f" of at most {number(script.seq_len)} tokens"
    return n_of(script.batch_size, "sample") + tokens


def _held(script: ScriptFigures) -> str:
    held = [f"{name} {mib(script.held[name])}" for name in _CATEGORIES if script.held.get(name)]
    return f"{'   '.join(held)} MiB" if held else UNKNOWN


def _unseen(row: RunRecord, script: ScriptFigures) -> Iterator[str]:
    """What its tables and panes show as –."""
    if not row.updates:
        yield "updates so far" if row.outcome is Outcome.RUNNING else "updates"
        return
    if row.train_loss is None and row.last_loss is None:
        yield "losses"
    if row.samples_per_s is None:
        yield "samples"
    if row.tokens_per_s is None:
        yield "tokens"
    if row.planned_updates is None:
        yield "how many updates it was to do"
    if row.n_parameters is None:
        yield "the model's parameters"
    if not script.held:
        yield "what the memory was made of"
