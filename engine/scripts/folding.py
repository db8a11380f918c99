"""From what the processes of a script tell to the events of a run.

Those that train together, as under torchrun, are joined update by update. A process that steps no optimizer, such as a
launcher or a data worker, is none of them. Where a command trains twice, one after the other, the updates go on
counting; where processes train beside each other without ranks, the first is followed.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

from engine.contract.events import Event, FigureLogged, Logged, MemoryMoment, RanksStarted, ScriptKnown, UpdateDone
from engine.contract.records import DeviceInfo, Memory, RankInfo, RankShare, Shares
from engine.contract.throughput import warmup_updates
from engine.scripts.device import ScriptDevice, card_of, cpu
from engine.scripts.messages import (
    End,
    Figures,
    Hello,
    Model,
    Off,
    Planned,
    Row,
    Told,
    Updates,
)
from engine.telemetry.nvml import Nvml

log = logging.getLogger("traintop")

_MOST_PENDING = 2_000
"""Updates that wait for a rank before they are told without it."""
_WAIT_S = 30.0
"""That the first update waits for ranks of which nothing was heard."""
_EACH = 20_000
"""Updates that are told one by one. After them those that come in one message, a tenth of a second's, are one event."""
_FIGURES_S = 0.1
"""Between two events of what a trainer logged."""
_MOST_ERRORS = 512
_MOST_SIZES = 64
"""Different batch sizes that are counted."""
_NOBODY = Hello(pid=None, rank=None, local_rank=None, world_size=1, local_size=1)


@dataclass(slots=True)
class Process:
    """One that has told something."""

    number: int
    """Of its connection."""
    pid: int | None
    hello: Hello = _NOBODY
    planned: Planned | None = None
    model: Model | None = None
    device: DeviceInfo | None = None
    last_update: int = 0
    end: End | None = None
    is_gone: bool = False

    @property
    def rank(self) -> int:
        """Its rank; of one that trains alone 0."""
        return self.hello.rank or 0


@dataclass(slots=True)
class _Together:
    """Processes that train one model: as a rule one."""

    size: int
    """How many of them are on this machine."""
    updates_before: int
    """That were told of others before them."""
    t_before: float
    members: dict[int, Process] = field(default_factory=dict)
    """By rank."""
    pending: dict[int, dict[int, tuple[Row, Memory]]] = field(default_factory=dict)
    """By update and rank."""
    is_told: bool = False
    """Whether its ranks were."""
    told: int = 0
    """Its last update that was."""
    waits_since: float | None = None
    """Of the clock: for a rank that has told nothing yet."""

    @property
    def first(self) -> Process:
        """The one with the lowest rank."""
        return self.members[min(self.members)]

    @property
    def is_over(self) -> bool:
        """Whether nobody of them is left."""
        return all(each.is_gone for each in self.members.values())

    def wants(self, process: Process) -> bool:
        """Whether it is a rank that was not heard yet: all that another one said may be read before it."""
        is_missing = process.hello.rank is not None and process.rank not in self.members
        return is_missing and len(self.members) < self.size


class Folding:
    """Of one run. Takes what was heard, in its order; for one thread."""

    def __init__(
        self,
        *,
        run_id: int,
        device: ScriptDevice,
        nvml: Nvml,
        host: str,
        log_path: str | None = None,
        most: int | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`most`: the updates that the command is run for; what it makes beyond them is not told."""
        self._device, self._nvml, self._host, self._clock = device, nvml, host, clock
        self._most = most
        self._processes: dict[int, Process] = {}
        self._together: _Together | None = None
        self._known = ScriptKnown(run_id=run_id, log_path=log_path)
        self._told: ScriptKnown | None = None
        self._began: float | None = None  # of the clock, when t was 0
        self._t = 0.0
        self._has_begun = False
        self._figures: FigureLogged | None = None
        self._figures_at = float("-inf")
        self._batches: Counter[int] = Counter()
        self._micro_steps: Counter[int] = Counter()
        self._beside: set[int] = set()
        self.update = 0
        """The last one that was told."""
        self.n_heard = 0
        """Processes that imported torch, and told of it."""
        self.n_backward = 0
        """Times that `backward` was called, and no optimizer stepped before the process ended."""
        self.errors: list[Process] = []
        """Those that an error ended which nobody caught, in the order in which they told so."""
        self.lost: Process | None = None
        """The first of several ranks that was gone without a word; it takes the others along."""

    @property
    def run_id(self) -> int:
        """Of the run."""
        return self._known.run_id

    @property
    def trains(self) -> bool:
        """Whether an optimizer has stepped."""
        return self.update > 0

    @property
    def has_enough(self) -> bool:
        """Whether all the updates that it is run for were told."""
        return self._most is not None and self.update >= self._most

    @property
    def known(self) -> ScriptKnown:
        """What is known of the training."""
        return self._known

    def take(self, number: int, pid: int | None, told: Told | None) -> Iterator[Event]:
        """What a message brings; `told` None: the process of this number is heard no more."""
        yield from self._take(number, pid, told)
        if self._figures is not None and self._clock() - self._figures_at >= _FIGURES_S:
            yield from self._tell_figures()

    def _take(self, number: int, pid: int | None, told: Told | None) -> Iterator[Event]:
        process = self._processes.get(number)
        if process is None:
            if told is None:
                return
            process = self._processes[number] = Process(number, pid)
        if told is None:
            process.is_gone = True
            self._device.gone(process.pid)
            self._note_lost(process)
            yield from self._tell_updates()
            if not self._is_followed(process):  # a data worker of many
                del self._processes[number]
        elif isinstance(told, Hello):
            process.hello = told
            self.n_heard += 1
            process.pid = process.pid if process.pid is not None else told.pid
        elif isinstance(told, Off):
            yield from self._switched_off(process, told)
        elif isinstance(told, End):
            process.end = told
            self.n_backward += told.micro_steps
            if told.error is not None and len(self.errors) < _MOST_ERRORS:
                self.errors.append(process)
            if self._is_followed(process) and process.device is not None:
                self._device.take(process.pid, process.device, told.allocator, told.held)
        else:
            yield from self._of_training(process, told)

    def _note_lost(self, process: Process) -> None:
        together = self._together
        if together is None or process.hello.rank is None or not self._is_followed(process):
            return
        if self.lost is None and all(each.end is None for each in together.members.values()):
            self.lost = process

    def rest(self) -> Iterator[Event]:
        """The updates that waited for a rank which tells no more."""
        for process in self._processes.values():
            process.is_gone = True
        yield from self._tell_updates()
        yield from self._tell_figures()

    def _of_training(self, process: Process, told: Model | Planned | Updates | Figures) -> Iterator[Event]:
        if isinstance(told, Model) and told.rank is not None and told.world_size > 1 and process.hello.rank is None:
            self._find_rank(process, told)
        if not self._joins(process):
            if process.number not in self._beside:
                self._beside.add(process.number)
                text = f"Process {process.pid} trains too, by itself: it is not in the figures."
                yield Logged(source="engine", text=text, level="warning")
            return
        together = self._together
        assert together is not None
        is_first = process is together.first
        if isinstance(told, Model):
            process.model = told
            self._place(process)
            if is_first:
                self._learn_model(told, together)
        elif isinstance(told, Planned):
            process.planned = told
            if is_first:
                yield from self._plan(told)
        elif isinstance(told, Figures):
            if is_first and told.figures:
                self._learn(told_by=told.told_by or self._known.told_by)
                before = self._figures.figures if self._figures is not None else {}
                self._figures = FigureLogged(
                    run_id=self.run_id,
                    update=told.update + together.updates_before,
                    figures={**before, **told.figures},
                    t=self._now(),
                )
        else:
            yield from self._updates(process, together, told)

    # who trains together ----------------------------------------------------------------------------------------

    def _is_followed(self, process: Process) -> bool:
        return self._together is not None and self._together.members.get(process.rank) is process

    def _joins(self, process: Process) -> bool:
        """Whether it is one of those that are followed; it may be the first."""
        together = self._together
        if together is None or (together.is_over and not together.wants(process)):
            size = process.hello.local_size if process.hello.rank is not None else 1
            self._together = _Together(size, self.update, self._now() if self.update else 0.0, {process.rank: process})
            self._learn(n_processes=max(size, self._known.n_processes or 0))
            return True
        if together.members.get(process.rank) is process:
            return True
        before = together.members.get(process.rank)
        if process.hello.rank is None or together.size == 1 or (before is not None and not before.is_gone):
            return False
        together.members[process.rank] = process
        return True

    def _find_rank(self, process: Process, model: Model) -> None:
        """It is one of several that nobody launched as such: they have started each other."""
        alone = self._is_followed(process)
        process.hello = replace(
            process.hello, rank=model.rank, world_size=model.world_size, local_size=model.world_size
        )
        if alone and self._together is not None:
            self._together.size, self._together.members = model.world_size, {process.rank: process}
            self._learn(n_processes=model.world_size)

    def _place(self, process: Process) -> None:
        """Where it trains is known now."""
        model = process.model
        assert model is not None
        if model.card is None:
            process.device = cpu()
        else:
            index = process.hello.local_rank if process.hello.rank is not None else None
            process.device = card_of(model.card, model.torch_version, index, self._nvml)
        if self._together is not None and process is self._together.first:
            self._device.found(process.device)

    def _tell_ranks(self, together: _Together) -> Iterator[Event]:
        members = [together.members[rank] for rank in sorted(together.members)]
        if together.is_told or together.size == 1 or any(each.device is None for each in members):
            return
        if len(members) < together.size and not any(each.is_gone for each in members):
            return
        together.is_told = True
        ranks = tuple(
            RankInfo(rank=each.rank, device=each.device, host=self._host, pid=each.pid or 0)
            for each in members
            if each.device is not None
        )
        yield RanksStarted(run_id=self.run_id, ranks=ranks)

    # what is known ----------------------------------------------------------------------------------------------

    def _learn(self, **values: object) -> None:
        self._known = replace(self._known, **values)  # type: ignore[arg-type]

    def _learn_model(self, model: Model, together: _Together) -> None:
        if together.updates_before:  # of a second training in the same command: the first is what was told
            return
        self._learn(
            n_parameters=model.n_parameters,
            n_trained=model.n_trained,
            model=model.model,
            optimizer=model.optimizer,
            torch_version=model.torch_version,
        )

    def _plan(self, planned: Planned) -> Iterator[Event]:
        before = self._together.updates_before if self._together is not None else 0
        self._learn(
            told_by=planned.told_by,
            planned_updates=before + planned.updates if planned.updates is not None else None,
            planned_epochs=planned.epochs,
            gradient_accumulation_steps=planned.gradient_accumulation_steps,
            batch_size=planned.batch_size,
        )
        if self._began is None:
            self._began = self._clock()
        yield from self._tell_known()

    def _tell_figures(self) -> Iterator[Event]:
        figures, self._figures, self._figures_at = self._figures, None, self._clock()
        if figures is not None:
            yield figures

    def _tell_known(self) -> Iterator[Event]:
        known = replace(self._known, t=0.0)
        if known != self._told:
            self._told = known
            yield replace(known, t=self._now())

    def _now(self) -> float:
        """Seconds since training started, not before the last that were told."""
        return max(self._t, self._clock() - self._began) if self._began is not None else self._t

    def _switched_off(self, process: Process, told: Off) -> Iterator[Event]:
        text = f"Process {process.pid} is watched no more ({told.why}); the script goes on."
        log.error("the instrument was switched off: %s", told.why)
        if self._is_followed(process) or self._together is None:
            self._learn(switched_off=told.why)
            if self._told is not None:
                yield from self._tell_known()
        yield Logged(source="engine", text=text, level="warning")

    # updates ----------------------------------------------------------------------------------------------------

    def _updates(self, process: Process, together: _Together, told: Updates) -> Iterator[Event]:
        device = process.device or self._device.info
        memory = self._device.take(process.pid, device, told.allocator, told.held)
        if process is together.first and "frozen" in told.held and not together.updates_before:
            self._learn(frozen=told.held["frozen"])
        for row in told.rows:
            if row.update <= process.last_update:
                continue
            process.last_update = row.update
            if row.update <= together.told:  # it comes too late
                continue
            together.pending.setdefault(row.update, {})[process.rank] = (row, memory)
        yield from self._tell_updates()

    def _tell_updates(self) -> Iterator[Event]:
        together = self._together
        if together is None or not together.pending:
            return
        told: list[UpdateDone] = []
        for update in sorted(together.pending):
            if self.has_enough:
                together.pending.clear()
                break
            if not self._is_whole(together, update) and len(together.pending) <= _MOST_PENDING:
                break
            told.append(self._joined(together, update, together.pending.pop(update)))
        if not told:
            return
        if not self._has_begun:
            self._has_begun = True
            yield MemoryMoment(run_id=self.run_id, moment="model", memory=told[0].memory)
        yield from self._tell_ranks(together)
        yield from self._tell_known()
        yield from told if self.update <= _EACH else [merged(told)]

    def _is_whole(self, together: _Together, update: int) -> bool:
        """Whether no rank will tell more of this update."""
        members = together.members.values()
        if len(members) < together.size and not any(each.is_gone for each in members):
            together.waits_since = together.waits_since if together.waits_since is not None else self._clock()
            if self._clock() - together.waits_since < _WAIT_S:
                return False
            together.size = len(members)  # the others are on other machines
        return all(each.is_gone or each.last_update >= update for each in members)

    def _joined(self, together: _Together, update: int, told: Mapping[int, tuple[Row, Memory]]) -> UpdateDone:
        rows = [told[rank][0] for rank in sorted(told)]
        t = max(row.t for row in rows) + together.t_before
        if self._began is None:
            self._began = self._clock() - t
        took = [row.seconds for row in rows if row.seconds is not None]
        update_s = max(took) if took else max(0.0, t - self._t)
        self._t, self.update = max(t, self._t), update + together.updates_before
        together.told = update
        self._count(rows, len(together.members))
        planned = self._known.planned_updates
        memories = [told[rank][1] for rank in sorted(told)]
        return UpdateDone(
            run_id=self.run_id,
            update=self.update,
            epoch=None,
            loss=_mean([row.loss for row in rows]),
            learning_rate=rows[0].learning_rate,
            grad_norm=rows[0].grad_norm,
            loss_scale=rows[0].loss_scale,
            skipped=rows[0].skipped,
            n_samples=_sum([row.n_samples for row in rows]),
            n_tokens=_sum([row.n_tokens for row in rows]),
            update_s=update_s,
            warmup=update <= warmup_updates(planned or 10 * update),
            t=self._t,
            shares=_summed([row.shares for row in rows], len(rows)),
            memory=max(memories, key=lambda memory: memory.used or memory.reserved or 0),
            ranks=_ranks(told) if together.size > 1 else (),
        )

    def _count(self, rows: Sequence[Row], n_processes: int) -> None:
        """The usual batch and accumulation."""
        for row in rows:
            if not row.micro_steps:
                continue
            _note(self._micro_steps, row.micro_steps)
            if row.n_samples and row.n_samples % row.micro_steps == 0:
                _note(self._batches, row.n_samples // row.micro_steps)
        if self._micro_steps:
            self._learn(gradient_accumulation_steps=self._micro_steps.most_common(1)[0][0])
        if self._batches:
            self._learn(batch_size=self._batches.most_common(1)[0][0])
        if n_processes > (self._known.n_processes or 0):
            self._learn(n_processes=n_processes)


def merged(updates: Sequence[UpdateDone]) -> UpdateDone:
    """Updates that follow each other as one."""
    last = updates[-1]
    if len(updates) == 1:
        return last
    losses = [each.loss for each in updates]
    return replace(
        last,
        loss=_mean(losses) if None not in losses else last.loss,
        n_samples=_sum([each.n_samples for each in updates]),
        n_tokens=_sum([each.n_tokens for each in updates]),
        update_s=sum(each.update_s for each in updates),
        shares=_summed([each.shares for each in updates]),
        ranks=tuple(_merged_rank([each.ranks[at] for each in updates]) for at in range(len(last.ranks)))
        if len({tuple(share.rank for share in each.ranks) for each in updates}) == 1
        else (),
        n_updates=sum(each.n_updates for each in updates),
    )


def _merged_rank(shares: Sequence[RankShare]) -> RankShare:
    return replace(
        shares[-1],
        n_samples=_sum([each.n_samples for each in shares]),
        n_tokens=_sum([each.n_tokens for each in shares]),
        update_s=sum(each.update_s for each in shares),
        shares=_summed([each.shares for each in shares]),
    )


def _note(counts: Counter[int], value: int) -> None:
    if value in counts or len(counts) < _MOST_SIZES:
        counts[value] += 1


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _sum(values: Sequence[int | None]) -> int | None:
    """None where one of them is."""
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _summed(shares: Sequence[Shares], divided_by: int = 1) -> Shares:
    names = [f.name for f in fields(Shares)]
    return Shares(**{name: sum(getattr(each, name) for each in shares) / divided_by for name in names})


def _ranks(told: Mapping[int, tuple[Row, Memory]]) -> tuple[RankShare, ...]:
    return tuple(
        RankShare(
            rank=rank,
            n_samples=row.n_samples,
            n_tokens=row.n_tokens,
            update_s=row.seconds or 0.0,
            shares=row.shares,
            memory=memory,
        )
        for rank, (row, memory) in sorted(told.items())
    )
