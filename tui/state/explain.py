"""What `e` tells of a knob or of a run. Pure: no Textual."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from engine.compare.compare import changed_knobs, compare, explain, row_of
from engine.compare.explain import evidence, largest_that_fitted, out_of_memory, text_of, too_much, ways_to_fit
from engine.compare.worth import worth
from engine.contract.config import KNOBS, RunConfig, Value
from engine.contract.figures import ACCURACY, CARD_SPEED, SPEED, heading_of
from engine.contract.forecast_types import Forecast
from engine.contract.marks import sentences
from engine.contract.numbers import mib, percent, rate, signed, signed_percent
from engine.contract.records import Outcome, RunRecord
from engine.contract.script_combinations import script_values
from engine.contract.script_flags import label_of
from engine.contract.script_flags import shown_of as value_shown
from engine.contract.text import capitalised
from engine.export.hand_over import command_line
from engine.plans.lecture import TABLES
from tui.drawing.timeline import most_held
from tui.state.knob_list import Row, about, in_groups
from tui.state.knob_list import label_of as row_label
from tui.state.knobs import bounds, describe, is_said, said, shown, why
from tui.state.ranks import fullest_of
from tui.state.script_knobs import may_turn, own_choices

_BULLET = "· "


def knob_text(
    row: Row, runs: Sequence[RunRecord], baseline: RunRecord | None, following: RunConfig
) -> tuple[str, list[str]]:
    """Heading and lines: what a knob does and why, what it did in the user's own runs, and the next run's command."""
    name, knob = row.own or row.knob, KNOBS[row.knob]
    may = f"{name}: {', '.join(own_choices(following)[name])}" if row.own else f"{knob.flag}: {bounds(knob)}"
    lines = [
        text_of(row.knob, following.job),
        "",
        may,
        *_of_command(row, following),
        f"Next run: {command_line(following)}",
        "",
    ]
    runs = [run for run in runs if run.config.job == following.job]
    found = evidence(name, runs, baseline) or evidence(name, runs)
    if found:
        lines += ["In your own runs:", *(_BULLET + sentence for sentence in found)]
    elif baseline is not None:
        lines.append(f"No finished run differs from run {baseline.run_id} in this knob alone: turn it, and press r.")
    else:
        lines.append("No two finished runs differ in this knob alone: run, turn it, and run again.")
    saw = lecture_saw(name) if following.trains else ""  # the lecture measured its own training alone
    return row_label(row), [*lines, saw] if saw else lines


def _of_command(row: Row, config: RunConfig) -> list[str]:
    """What a script gets for the knob: the words that stand for it, or how it would."""
    if config.script is None:
        return []
    if not row.own and not is_said(config, row.knob):
        if not may_turn(config, row.knob):
            return [why(config, row)]
        return ["The command leaves it to the script: turned, it becomes one of its flags."]
    return [f"Your script is run as: {shlex.join(config.script.filled(script_values(config)))}"]


def group_text(group: str, config: RunConfig) -> tuple[str, list[str]]:
    """Heading and lines: what is in a group of knobs, and what each of them does."""
    lines = [f"{capitalised(about(group, config))}."]
    for name in in_groups(config).get(group, ()):
        knob = KNOBS[name]
        lines += ["", f"{knob.label} {said(config, name)}: {knob.why_in(config.job)}"]
    return f"The group {group}", lines


_LECTURE: dict[str, tuple[str, Value, Value]] = {
    "batch_size": ("batch-size", 1, 8),
    "gradient_accumulation_steps": ("accumulation", 1, 32),
    "gradient_checkpointing": ("checkpointing", "off", "on"),
}
"""Table of the lecture and the two values whose rows tell most of a knob."""


def lecture_saw(name: str) -> str:
    """What the lecture measured when it turned this knob; empty where it did not."""
    if name not in _LECTURE:
        return ""
    table, *values = _LECTURE[name]
    before, after = (next(row for row in TABLES[table].rows if row.knobs[name] == value) for value in values)
    shown_values = " → ".join(shown(KNOBS[name], value) for value in values)
    if before.memory_mib is None or after.memory_mib is None:
        return ""
    saved = signed(after.memory_mib - before.memory_mib, unit="MiB")
    text = f"The lecture saw, {shown_values} (bert-base, Tesla P4): {saved}, "
    text += f"{signed_percent(after.time_s, before.time_s)} time"
    learnt = [row.eval_accuracy for row in TABLES["accuracy"].rows if row.knobs.get(name) in values]
    return f"{text}, accuracy {' → '.join(map(ACCURACY.write, learnt))}." if len(learnt) == 2 else f"{text}."


def run_text(run: RunRecord, runs: Sequence[RunRecord], baseline: RunRecord | None) -> tuple[str, list[str]]:
    """Heading and lines: what became of a run, and against what."""
    heading = f"Run {run.run_id}: {run.outcome.words}"
    lines = [describe(run.config, run.run_id), ""]
    if run.outcome is Outcome.OUT_OF_MEMORY:
        return f"{heading}   h: what fits instead", [*lines, *_no_memory(run, runs)]
    if run.message:
        lines += [run.message, ""]
    told = [*sentences(run), *filter(None, [worth(run, runs)])]
    lines += [line for sentence in told for line in (sentence, "")]
    if baseline is None or baseline.run_id == run.run_id:
        lines.append("Press space on another run to pin it as the baseline; this one is then compared with it.")
        return heading, lines
    return heading, [*lines, *_against(run, baseline)]


def held_text(made: Forecast) -> str:
    """What the timeline shows, in a sentence."""
    held = most_held(made)
    if held is None:
        return ""
    name, size, whole = held
    step = "update" if made.answer is None else "answer"
    what, where = f"One {step} as forecast", "at the peak"
    if not made.fits:
        what, where = f"The {step} that it dies in, as forecast, up to the request that fails", "then"
    if made.gpus > 1:
        rank = fullest_of(made.peak_used_by_rank)
        what += f", on {'each GPU' if rank is None else f'the fullest GPU, rank {rank}'}"
    share = percent(100 * size / max(whole, 1))
    return f"{what}: {name} have {mib(size)} of the {mib(whole)} MiB allocated {where} ({share})"


def _no_memory(run: RunRecord, runs: Sequence[RunRecord]) -> list[str]:
    limit = run.config.vram_limit
    total = f"{limit} MiB, the limit that was set" if limit is not None else f"{mib(run.memory_total)} MiB"
    short = too_much(run)
    lines = [*([short, ""] if short else []), out_of_memory(run)]
    if run.message:
        lines += ["", run.message]
    peak = _peak_of(run)
    used = f"; at most {mib(peak)} MiB of them were used" if peak is not None else ""
    whose = "Each card" if run.config.is_parallel else "The card"
    if run.failed_rank is not None:
        whose = f"The card of rank {run.failed_rank}"
    lines += ["", f"{whose} has {total}{used}."]
    fitted = largest_that_fitted(run, runs)
    if fitted is not None:
        size, used = fitted.config.batch_size, mib(fitted.peak_used)
        lines += ["", f"What fitted: run {fitted.run_id}, equal but for batch size {size}, took {used} MiB."]
    ways = ways_to_fit(run)
    if ways:
        lines += ["", "What would save memory here:", *(_BULLET + way for way in ways)]
    return lines


def _peak_of(run: RunRecord) -> int | None:
    """Bytes on the card that was full: of several that of the rank that died."""
    each, rank = run.peak_used_by_rank, run.failed_rank
    return each[rank] if rank is not None and rank < len(each) else run.peak_used


def _against(run: RunRecord, baseline: RunRecord) -> list[str]:
    if run.outcome is not Outcome.COMPLETED:
        return [f"It did not complete, so nothing is compared with run {baseline.run_id}."]
    lines = [f"Against run {baseline.run_id}: {explain(compare(row_of([run]), row_of([baseline])))}."]
    speeds = (run.steady_samples_per_s, baseline.steady_samples_per_s)
    if None not in speeds:
        lines.append(f"{rate(speeds[0])} {heading_of(SPEED, [run, baseline])} steady, against {rate(speeds[1])}.")
    if run.forecast_samples_per_s and baseline.forecast_samples_per_s:
        card, before = CARD_SPEED.of(run), CARD_SPEED.of(baseline)
        lines.append(f"{card} {CARD_SPEED.heading} by forecast, against {before}.")
    changed = changed_knobs(run.config, baseline.config)
    for name, (old, new) in list(changed.items())[:4]:
        about = f": {text_of(name, run.config.job)}" if name in KNOBS else "."
        before, after = value_shown(baseline.config, name, old), value_shown(run.config, name, new)
        lines += ["", f"{label_of(name)}, {before} → {after}{about}"]
    if not changed:
        lines += ["", "All knobs are equal: the differences show how much two runs of one configuration differ."]
    return lines
