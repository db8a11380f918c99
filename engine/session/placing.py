"""Where a run takes place: on one device, in this process, or on several GPUs, each with a process of its own; or in
the processes of the user's own command."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from engine.contract.config import ConfigError, RunConfig
from engine.contract.records import DeviceInfo, Memory, Place, RunRecord
from engine.process.launched import Launched
from engine.telemetry.nvml import Nvml

if TYPE_CHECKING:
    from engine.ranks.group import RankGroup
    from engine.scripts.attaching import Attached
    from engine.training.saving.model_folder import Trained


class Readable(Protocol):
    """What the session reads of a device while nobody waits for it. Any thread may ask."""

    @property
    def info(self) -> DeviceInfo:
        """Which one it is."""

    def memory_if_known(self) -> Memory:
        """The memory numbers now; without figures where nobody knows them."""


class Placed(Protocol):
    """A run that has its place: of `engine.training`, `engine.answering`, `engine.ranks` or `engine.scripts`."""

    @property
    def kept(self) -> Trained | None:
        """The model that it left in the host's memory."""

    def execute(self) -> RunRecord:
        """Run to the end."""

    def place(self) -> Place | None:
        """Where it is within a long step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Found for a run: what is read of it, the knobs with what was left open in them, and how to make the run."""

    config: RunConfig
    device: Readable
    make: Callable[..., Placed]
    """Takes what `Run` takes, but for the device."""
    reset_peaks: Callable[[], None]
    """Peaks are per run: called once at its start."""
    note: str | None = None
    """A sentence that should be known about it."""


def find(
    config: RunConfig,
    nvml: Nvml,
    in_a_hurry: Callable[[], bool],
    launched: Launched | None = None,
    environ: Mapping[str, str] = os.environ,
    attached: Attached | None = None,
) -> Where:
    """Where `config` can run. Raises `ConfigError` where it cannot.

    `in_a_hurry`: the program is to end. `launched`: this process is the first of several that train one model.
    `environ`: the environment of whoever started it. `attached`: a process that runs it already.
    """
    if attached is not None:
        return _of_an_attached(config, nvml, environ, attached)
    if config.is_script:
        return _of_a_script(config, nvml, in_a_hurry, launched, environ)
    if launched is not None:
        return _among_others(config, launched, nvml)
    if config.is_parallel:
        from engine.devices.several import rank_devices

        names = rank_devices(config, nvml)
        config = config.with_values(gpus=len(names))
        if len(names) > 1:
            return _several(config, names, nvml, in_a_hurry)
    from engine.devices.open import open_device

    device = open_device(config, nvml)
    if config.answers:
        from engine.answering.run import AnswerRun, refuse_early

        refuse_early(config, device)
        return Where(
            config=config, device=device, make=partial(AnswerRun, device=device), reset_peaks=device.reset_peaks
        )
    from engine.training.attempt import refuse_early
    from engine.training.run import Run

    refuse_early(config, device)

    return Where(config=config, device=device, make=partial(Run, device=device), reset_peaks=device.reset_peaks)


def _of_a_script(
    config: RunConfig,
    nvml: Nvml,
    in_a_hurry: Callable[[], bool],
    launched: Launched | None,
    environ: Mapping[str, str],
) -> Where:
    if sys.platform == "win32":
        raise ConfigError(
            "command", "A script is watched over a Unix socket, which Windows lacks: run traintop in WSL."
        )
    from engine.scripts.child import check
    from engine.scripts.device import ScriptDevice, choose
    from engine.scripts.run import ScriptRun, words_of

    if launched is not None:
        message = f"{launched.by} starts traintop, which would start the command once for each: put it into the command"
        raise ConfigError("command", f"{message}, as in traintop run -- {launched.by} … train.py.")
    check(words_of(config), environ)
    info, changes = choose(config, nvml, environ)
    device = ScriptDevice(info, nvml)
    make = partial(ScriptRun, device=device, nvml=nvml, in_a_hurry=in_a_hurry, environ=environ, changes=changes)
    note = _own_context((info,), "script") if _uses_cuda() else None
    return Where(config=config, device=device, make=make, reset_peaks=lambda: None, note=note)


def _uses_cuda() -> bool:
    """Whether this process has begun to; PyTorch may be half imported by another thread."""
    begun = getattr(getattr(sys.modules.get("torch"), "cuda", None), "is_initialized", None)
    return begun is not None and bool(begun())


def _of_an_attached(config: RunConfig, nvml: Nvml, environ: Mapping[str, str], attached: Attached) -> Where:
    from engine.scripts.attaching import AttachedRun
    from engine.scripts.device import ScriptDevice, choose

    info, _ = choose(config, nvml, environ)
    device = ScriptDevice(info, nvml)
    device.began(attached.pid)
    make = partial(AttachedRun, attached=attached, device=device, nvml=nvml)
    return Where(config=config, device=device, make=make, reset_peaks=lambda: None)


def _several(config: RunConfig, names: tuple[str, ...], nvml: Nvml, in_a_hurry: Callable[[], bool]) -> Where:
    from engine.devices.several import describe, difference, open_rank
    from engine.training.attempt import refuse_early

    cards = describe(names, config, nvml)
    if cards[0].is_virtual:  # to open a real one would put a context on it; its rank refuses in the same words
        refuse_early(config, open_rank(names[0], config, nvml))
    fleet = _Fleet(cards)
    make = partial(fleet.make, names=names, in_a_hurry=in_a_hurry)
    # each rank's device is as new as its process
    note = " ".join(filter(None, (difference(cards), _own_context(cards, "rank")))) or None
    return Where(config=config, device=fleet, make=make, reset_peaks=lambda: None, note=note)


def _own_context(cards: Sequence[DeviceInfo], whose: str) -> str | None:
    """A sentence where this process, which starts those that compute, has left a context on one of their cards."""
    from engine.devices.visible import has_context

    taken = [card.numbers for card in cards if card.index is not None and has_context(card.index)]
    if not taken:
        return None
    return (
        f"What ran in this process before has left a CUDA context of some hundred MiB on {', '.join(taken)}, beside "
        f"the {whose}'s own: start traintop anew to have them for the run."
    )


def _among_others(config: RunConfig, launched: Launched, nvml: Nvml) -> Where:
    from engine.devices.launched import open_own
    from engine.ranks.joined import JoinedRun
    from engine.training.attempt import refuse_early
    from engine.training.run import Run

    device = open_own(config, launched, nvml)
    refuse_early(config, device)

    def make(**given: object) -> JoinedRun:
        return JoinedRun(here=launched, run=Run(device=device, **given))  # type: ignore[arg-type]

    return Where(config=config, device=device, make=make, reset_peaks=device.reset_peaks)


class _Fleet:
    """The cards of a run on several: read by what their ranks tell."""

    def __init__(self, cards: tuple[DeviceInfo, ...]) -> None:
        self._cards = cards
        self._group: RankGroup | None = None

    @property
    def info(self) -> DeviceInfo:
        return self._cards[0]

    def memory_if_known(self) -> Memory:
        return self._group.memory() if self._group is not None else Memory(total=self.info.memory_total)

    def make(self, **given: object) -> RankGroup:
        from engine.ranks.group import RankGroup

        self._group = RankGroup(cards=self._cards, **given)  # type: ignore[arg-type]
        return self._group
