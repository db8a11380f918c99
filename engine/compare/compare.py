"""A run against a baseline: what changed, by how much, and whether that is more than noise. Standard library only."""

from __future__ import annotations

import math

from engine.compare import answers
from engine.compare.noise import accuracy_noise, memory_noise, repeat_noise, speed_noise, time_noise
from engine.compare.rows import Comparison, Delta, Figure, Quantity, Row, Verdict, figure_of, fold, row_of, says_seed
from engine.contract.answer_entries import AGREEMENT
from engine.contract.config import KEEPING, KNOBS, RunConfig, Value
from engine.contract.figures import CPU, WAITING, is_on_several, is_virtual
from engine.contract.knob import ANSWER, SCRIPT, TRAIN
from engine.contract.marks import why_no_verdict
from engine.contract.numbers import fixed, number, signed
from engine.contract.records import Outcome
from engine.contract.script_flags import label_of, own_names, shown_of, told
from engine.contract.throughput import ENOUGH_UPDATES
from engine.gpus.units import MIB

__all__ = [
    "Comparison",
    "Delta",
    "Figure",
    "Quantity",
    "Row",
    "Verdict",
    "changed_knobs",
    "compare",
    "explain",
    "figure_of",
    "fold",
    "row_of",
]


_MORE_IS_BETTER = (
    Quantity.SPEED,
    Quantity.CARD_SPEED,
    Quantity.ACCURACY,
    Quantity.GENERATION,
    Quantity.PROMPT,
    Quantity.AGREEMENT,
)


def changed_knobs(config: RunConfig, baseline: RunConfig) -> dict[str, tuple[Value, Value]]:
    """Knobs that differ, in the order of the fields: name -> (the baseline's value, this one's).

    Those that only a script knows come last, by their names there. What is kept on the disk makes no difference.
    """
    names = [name for name in KNOBS if name not in KEEPING and name not in _OF_COMMANDS]
    pairs = {name: (told(baseline, name), told(config, name)) for name in (*names, *own_names(baseline, config))}
    return {name: (old, new) for name, (old, new) in pairs.items() if old != new}


_OF_COMMANDS = ("command_flags", "command_values")
"""What they say shows in the command, and in the knobs that only the script knows."""


def compare(row: Row, baseline: Row, *, per_sample: bool | None = None) -> Comparison:
    """Every quantity of `row` against `baseline`. `per_sample` True compares time per sample in any case."""
    changed = changed_knobs(row.first.config, baseline.first.config)
    if per_sample is None:
        per_sample = _device_key(row) != _device_key(baseline) or any(n in _WORK or n not in KNOBS for n in changed)
    deltas = (
        _memory(row, baseline),
        _speed(row, baseline),
        _card_speed(row, baseline),
        _time(row, baseline, per_sample),
        _energy(row, baseline),
        _loss(row, baseline, changed),
        _accuracy(row, baseline, changed),
        _tokens(Quantity.GENERATION, row, baseline),
        _tokens(Quantity.PROMPT, row, baseline),
        _latency(Quantity.TTFT, row, baseline, Quantity.PROMPT),
        _latency(Quantity.TPOT, row, baseline, Quantity.GENERATION),
        _latency(Quantity.TOKEN_ENERGY, row, baseline, Quantity.GENERATION),
        _agreement(row, baseline),
    )
    return Comparison(
        row=row,
        baseline=baseline,
        changed=changed,
        per_sample=per_sample,
        deltas={delta.quantity: delta for delta in deltas},
    )


_DATA = {"workload", "data", "text_column", "label_column", "target_column", "completion_only_loss", "task"}
_WORK = _DATA | {"samples", "eval_samples", "epochs", "seq_len", "target_len", "command"}


def _device_key(row: Row) -> tuple[str, str] | None:
    device = row.first.device
    return None if device is None else (device.name, device.kind)


def _other_kind(row: Row, baseline: Row) -> str:
    """Why cost cannot be compared, of other jobs or on other kinds of devices; empty where it can."""
    if row.first.config.job != baseline.first.config.job:
        return f"run {row.first.run_id} is {_JOBS[_job(row)]}, run {baseline.first.run_id} {_JOBS[_job(baseline)]}"
    device, other = row.first.device, baseline.first.device
    if device is None or other is None:
        return "the device of a run is unknown"
    return "" if device.kind == other.kind else f"measured on {device.kind} and on {other.kind}"


_JOBS = {TRAIN: "to train", ANSWER: "to answer", SCRIPT: "a script's"}


def _job(row: Row) -> str:
    return row.first.config.job


_ENDED = {
    Outcome.RUNNING: "is still running",
    Outcome.OUT_OF_MEMORY: "ran out of memory",
    Outcome.STOPPED: "was stopped",
    Outcome.FAILED: "failed",
    Outcome.INTERRUPTED: "was interrupted",
}


def _early_end(*rows: Row, but: Outcome = Outcome.COMPLETED) -> str:
    """Why a figure of a run that did not complete says little; empty where all did, or ended as `but`."""
    early = [row.first for row in rows if row.first.outcome not in (Outcome.COMPLETED, but)]
    return f"run {early[0].run_id} {_ENDED[early[0].outcome]}" if early else ""


def _disturbed(*rows: Row, memory: bool = False) -> str:
    """Why what a run took says little; empty where none was disturbed."""
    return why_no_verdict([record for row in rows for record in row.records], memory=memory)


def _judge(
    quantity: Quantity,
    values: tuple[float | None, float | None],
    noise: float | None,
    *,
    apart: str = "",
    early: str = "",
    disturbed: str = "",
    unknown: str = "",
) -> Delta:
    """The verdict on (value, baseline).

    None where `apart`, `early` or `disturbed` says why, or where the noise is `unknown`.
    """
    value, baseline = values
    verdict, why = Verdict.NOT_ENOUGH_DATA, ""
    if apart:
        verdict, why = Verdict.NOT_COMPARABLE, apart
    elif early or value is None or baseline is None:
        why = early or "not measured"
    elif not (math.isfinite(value) and math.isfinite(baseline)):
        verdict, why = _judge_diverged(value, baseline), "not a finite number"
    elif disturbed:
        verdict, why = Verdict.DISTURBED, disturbed
    elif noise is None:
        why = unknown
    elif abs(value - baseline) <= noise:
        verdict = Verdict.SAME
    else:
        verdict = Verdict.BETTER if (value > baseline) == (quantity in _MORE_IS_BETTER) else Verdict.WORSE
    return Delta(quantity=quantity, value=value, baseline=baseline, verdict=verdict, why=why, noise=noise)


def _judge_diverged(value: float, baseline: float) -> Verdict:
    """A training that ended in nan or infinity lost to one that did not, whatever the noise."""
    if math.isfinite(value):
        return Verdict.BETTER
    return Verdict.WORSE if math.isfinite(baseline) else Verdict.SAME


def _value(figure: Figure | None) -> float | None:
    return None if figure is None else figure.value


def _memory(row: Row, baseline: Row) -> Delta:
    return _judge(
        Quantity.MEMORY,
        (row.peak_used, baseline.peak_used),
        memory_noise(row, baseline),
        apart=_other_kind(row, baseline),
        early=_early_end(row, baseline),
        disturbed=_disturbed(row, baseline, memory=True),
    )


_TOO_FEW = f"fewer than {ENOUGH_UPDATES} updates after warm-up"


def _speed(row: Row, baseline: Row) -> Delta:
    steady = row.steady is not None and baseline.steady is not None
    one, other = (row.steady, baseline.steady) if steady else (row.samples_per_s, baseline.samples_per_s)
    return _judge(
        Quantity.SPEED,
        (_value(one), _value(other)),
        speed_noise(row, baseline) if steady else None,
        apart=_other_kind(row, baseline),
        early=_early_end(row, baseline, but=Outcome.STOPPED),
        disturbed=_disturbed(row, baseline),
        unknown=_TOO_FEW,
    )


def _card_speed(row: Row, baseline: Row) -> Delta:
    """A forecast has no noise, however rough it is."""
    values = (_value(row.card_speed), _value(baseline.card_speed))
    return _judge(Quantity.CARD_SPEED, values, 0.0, apart=_other_kind(row, baseline))


def _time(row: Row, baseline: Row, per_sample: bool) -> Delta:
    one, other = (side.seconds_per_sample if per_sample else side.train_runtime_s for side in (row, baseline))
    if row.first.config.answers:  # how long answers took together says how many were asked for
        one = other = None
    return _judge(
        Quantity.TIME,
        (_value(one), _value(other)),
        time_noise(one, other, row, baseline),
        apart=_other_kind(row, baseline),
        early=_early_end(row, baseline),
        disturbed=_disturbed(row, baseline),
        unknown=_TOO_FEW,
    )


def _energy(row: Row, baseline: Row) -> Delta:
    """Joules a sample. Its noise is taken to be as large a part as that of the speed: power varies less than time."""
    one, other = row.energy_per_sample, baseline.energy_per_sample
    return _judge(
        Quantity.ENERGY,
        (_value(one), _value(other)),
        time_noise(one, other, row, baseline),
        apart=_other_kind(row, baseline),
        early=_early_end(row, baseline),
        disturbed=_disturbed(row, baseline),
        unknown=_TOO_FEW,
    )


def _tokens(quantity: Quantity, row: Row, baseline: Row) -> Delta:
    """Tokens/s of answers."""
    noise = answers.batch_noise(figure_of(row, quantity.value), figure_of(baseline, quantity.value))
    return _of_answers(quantity, row, baseline, noise)


def _latency(quantity: Quantity, row: Row, baseline: Row, speed: Quantity) -> Delta:
    """What of answers varies as `speed` does."""
    return _of_answers(quantity, row, baseline, answers.latency_noise(row, baseline, quantity.value, speed.value))


def _of_answers(quantity: Quantity, row: Row, baseline: Row, noise: float | None) -> Delta:
    return _judge(
        quantity,
        (_value(figure_of(row, quantity.value)), _value(figure_of(baseline, quantity.value))),
        noise,
        apart=_other_kind(row, baseline),
        early=_early_end(row, baseline, but=Outcome.STOPPED),
        disturbed=_disturbed(row, baseline),
        unknown=answers.TOO_FEW,
    )


def _agreement(row: Row, baseline: Row) -> Delta:
    """A share of the same held-out tokens, which has no noise."""
    values = (_value(figure_of(row, AGREEMENT)), _value(figure_of(baseline, AGREEMENT)))
    return _judge(Quantity.AGREEMENT, values, 0.0, apart=_other_kind(row, baseline))


def _other_data(changed: dict[str, tuple[Value, Value]]) -> str:
    """Why what was learned cannot be compared; empty where it can."""
    names = [KNOBS[name].label for name in changed if name in _DATA or name == "command"]
    return f"other {' and '.join(names)}" if names else ""


_NO_REPEATS = "its noise shows only in repeats with other seeds"
_NO_SCRIPT_REPEATS = "its noise shows only in repeats with other seeds: {seed} is not in the command"


def _loss(row: Row, baseline: Row, changed: dict[str, tuple[Value, Value]]) -> Delta:
    return _judge(
        Quantity.LOSS,
        (_value(row.train_loss), _value(baseline.train_loss)),
        repeat_noise(row.train_loss, baseline.train_loss),
        apart=_other_data(changed),
        early=_early_end(row, baseline),
        unknown=_NO_REPEATS if says_seed(row.first) else _NO_SCRIPT_REPEATS,
    )


def _accuracy(row: Row, baseline: Row, changed: dict[str, tuple[Value, Value]]) -> Delta:
    return _judge(
        Quantity.ACCURACY,
        (_value(row.eval_accuracy), _value(baseline.eval_accuracy)),
        accuracy_noise(row, baseline),
        apart=_other_data(changed),
        early=_early_end(row, baseline),
        unknown="how many samples were scored is unknown",
    )


_SENTENCE_KNOBS = 3
"""More changed knobs than this are counted, not named."""


def explain(comparison: Comparison) -> str:
    """One line: "checkpointing on: −3,450 MiB (−49 %), +40 % time per sample, loss within noise".

    On a virtual GPU the time is the CPU's, and the card's follows: "+143 % CPU time per sample, +38 % card time by
    forecast". Quantities that neither side has are left out. "(no verdict)" marks a difference whose noise is unknown.
    """
    if _job(comparison.row) != _job(comparison.baseline):
        return f"not comparable: {_other_kind(comparison.row, comparison.baseline)}"
    deltas = comparison.deltas
    cost = [deltas[Quantity.MEMORY], deltas[Quantity.SPEED]]
    whose = f"{CPU} " if is_virtual((*comparison.row.records, *comparison.baseline.records)) else ""
    together = any(is_on_several(record) for record in (*comparison.row.records, *comparison.baseline.records))
    told = (
        _batch_part(comparison),
        _memory_part(cost[0], each=together),
        _speed_part(cost[1], whose),
        _card_part(deltas[Quantity.CARD_SPEED]),
        _wait_part(comparison),
        _energy_part(deltas[Quantity.ENERGY]),
        _times_part(deltas[Quantity.GENERATION], whose),
        _latency_part(deltas[Quantity.TTFT], whose),
        _latency_part(deltas[Quantity.TPOT], whose),
        _token_energy_part(deltas[Quantity.TOKEN_ENERGY]),
        *answers.prices(comparison.row, comparison.baseline, comparison.changed),
    )
    parts = [part for part in told if part]
    disturbed = _disturbed(comparison.row, comparison.baseline)
    if all(delta.verdict is Verdict.NOT_COMPARABLE for delta in cost):
        parts = [f"memory and speed not comparable ({cost[0].why})"]
    elif not parts:
        parts = [cost[1].why]
    parts += [part for part in (_loss_part(deltas[Quantity.LOSS]), _accuracy_part(deltas[Quantity.ACCURACY])) if part]
    because = f"; {disturbed}" if disturbed else ""
    return f"{_changes(comparison)}: {', '.join(parts)}{because}"


def _changes(comparison: Comparison) -> str:
    changed, config = comparison.changed, comparison.row.first.config
    if "command" in changed:
        return "another command"
    named = {name: new for name, (_, new) in changed.items() if name not in ("seed", "device")}
    if len(named) > _SENTENCE_KNOBS:
        return f"{len(named)} knobs changed"
    words = [f"{label_of(name)} {shown_of(config, name, value)}" for name, value in named.items()]
    return ", ".join(words) or "same knobs"


def _batch_part(comparison: Comparison) -> str:
    """Other GPUs make another effective batch, and so other updates: what was learned is not the same."""
    one, other = comparison.baseline.first.config, comparison.row.first.config
    if "gpus" not in comparison.changed or one.effective_batch_size == other.effective_batch_size:
        return ""
    return f"effective batch {number(one.effective_batch_size)} → {number(other.effective_batch_size)}"


def _memory_part(delta: Delta, *, each: bool) -> str:
    """`each`: of each GPU, where there are several; that of the fullest."""
    per = " per GPU" if each else ""
    if delta.difference is None or delta.verdict is Verdict.NOT_ENOUGH_DATA:
        return ""
    if delta.verdict is Verdict.SAME:
        return f"memory{per} the same"
    return f"{signed(delta.difference / MIB)} MiB{per} ({signed(delta.percent)} %){_doubt(delta)}"


def _wait_part(comparison: Comparison) -> str:
    """What the GPUs waited for each other, of an update's time, and before where that was on several too."""
    now, before = (_value(figure_of(row, WAITING)) for row in (comparison.row, comparison.baseline))
    if now is None:
        return ""
    return f"waiting {'' if before is None else f'{WAITING.write(before)} → '}{WAITING.write(now)} of the time"


def _speed_part(delta: Delta, whose: str) -> str:
    """Speed as the time of a sample, which is what a trade for memory costs."""
    if delta.verdict is Verdict.SAME:
        return f"{whose}speed within noise"
    more = _more_time(delta)
    return f"{more} % {whose}time per sample{_doubt(delta)}" if more else ""


def _card_part(delta: Delta) -> str:
    more = _more_time(delta)
    return f"{more} % card time by forecast" if more else ""


def _more_time(delta: Delta) -> str:
    """Percent more time for a sample; empty where it is unknown."""
    if delta.difference is None or not delta.value or not delta.baseline:
        return ""
    return signed(100 * (delta.baseline / delta.value - 1))


def _energy_part(delta: Delta) -> str:
    if delta.verdict is Verdict.SAME:
        return "energy within noise"
    return "" if delta.percent is None else f"{signed(delta.percent)} % energy per sample{_doubt(delta)}"


def _times_part(delta: Delta, whose: str) -> str:
    """`1.70 × the tokens/s (259 against 152)`, `1.70 × slower (152 against 259 tokens/s)`."""
    if delta.difference is None or not delta.value or not delta.baseline:
        return ""
    if delta.verdict is Verdict.SAME:
        return f"{whose}tokens/s within noise"
    entry = delta.quantity.value
    both = f"{entry.write(delta.value)} against {entry.write(delta.baseline)}"
    if delta.value < delta.baseline:
        return f"{fixed(delta.baseline / delta.value, 2)} × slower ({both} {whose}tokens/s){_doubt(delta)}"
    return f"{fixed(delta.value / delta.baseline, 2)} × the {whose}tokens/s ({both}){_doubt(delta)}"


def _latency_part(delta: Delta, whose: str) -> str:
    """`TTFT 48.7 → 46.4 ms`."""
    if delta.value is None or delta.difference is None or delta.baseline is None:
        return ""
    name = f"{whose}{delta.quantity.name}"
    if delta.verdict is Verdict.SAME:
        return f"{name} within noise"
    write = delta.quantity.value.write
    return f"{name} {write(delta.baseline)} → {write(delta.value)} ms{_doubt(delta)}"


def _token_energy_part(delta: Delta) -> str:
    if delta.verdict is Verdict.SAME:
        return "energy per token within noise"
    return "" if delta.percent is None else f"{signed(delta.percent)} % energy per token{_doubt(delta)}"


def _doubt(delta: Delta) -> str:
    return " (no verdict)" if delta.verdict in (Verdict.NOT_ENOUGH_DATA, Verdict.DISTURBED) else ""


def _loss_part(delta: Delta) -> str:
    if delta.difference is None:
        return ""
    within = delta.verdict is Verdict.SAME
    return "loss within noise" if within else f"loss {signed(delta.difference, 3)}{_doubt(delta)}"


def _accuracy_part(delta: Delta) -> str:
    if delta.difference is None:
        return ""
    points = f"accuracy {signed(100 * delta.difference, 1)} points{_doubt(delta)}"
    return "accuracy within noise" if delta.verdict is Verdict.SAME else points
