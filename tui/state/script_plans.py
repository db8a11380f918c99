"""Plans for a user's own command: a sweep over each knob that it carries or has of its own, the search for the largest
batch that fits, repeats. Pure: no Textual.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from engine.contract.config import KNOBS, ConfigError, RunConfig, Value
from engine.contract.records import DeviceInfo
from engine.plans.course import Plan, sweep, until_oom
from tui.state.knobs import choices_of, stepped
from tui.state.script_choices import why_not
from tui.state.script_knobs import carried, may_turn, own_choices

_STEPS = 2
"""Values of a number above and below the one that it has."""
REPEATS = 3
_NOT_SWEPT = ("output_dir", "save_steps", "save_total_limit", "seed", "device", "gpus")
_ALWAYS = ("batch_size", "gradient_accumulation_steps", "learning_rate", "gradient_checkpointing", "precision")
"""Offered of a script that takes transformers' flags, where nothing was turned yet."""


def script_plans(config: RunConfig, device: DeviceInfo) -> list[Plan]:
    """What can be swept of a command, as it is now. Empty without one. A CPU has no limit to search."""
    if config.script is None:
        return []
    plans = [_made(config, own, choices) for own, choices in own_choices(config).items()]
    names = dict.fromkeys((*carried(config), *(name for name in _ALWAYS if may_turn(config, name))))
    plans += [_made(config, name, values_of(config, name, device)) for name in names if name not in _NOT_SWEPT]
    if may_turn(config, "batch_size") and device.kind == "cuda":
        plans.append(_or_none(lambda: until_oom(config)))
    plans.append(_or_none(lambda: sweep(config, {}, repeat=REPEATS)))
    return [plan for plan in plans if plan is not None]


def values_of(config: RunConfig, name: str, device: DeviceInfo) -> list[Value]:
    """The values that a sweep over a knob takes: all choices that the script can be given; of a number those around
    the one that it has.
    """
    knob, now = KNOBS[name], getattr(config, name)
    if choices := choices_of(knob):
        return [value for value in choices if not why_not(config, name, value, device)]
    below = list(islice(_walk(config, name, now, -1, device), _STEPS))
    above = list(islice(_walk(config, name, now, 1, device), _STEPS))
    return [*reversed(below), now, *above]


def _walk(config: RunConfig, name: str, value: Value, direction: int, device: DeviceInfo) -> Iterator[Value]:
    """The knob's values from this one on, in one direction, as far as the script has words for them."""
    while (following := stepped(KNOBS[name], value, direction)) is not None and following != value:
        if why_not(config, name, following, device):
            return
        value = following
        yield value


def _made(config: RunConfig, name: str, values: Sequence[Value]) -> Plan | None:
    """The sweep over a knob; None where it has one value."""
    return _or_none(lambda: sweep(config, {name: values})) if len(values) > 1 else None


def _or_none(make: Callable[[], Plan]) -> Plan | None:
    """The plan; None where nothing of it can be run, as a search on a CPU, which has no end."""
    try:
        return make()
    except ConfigError:
        return None
