"""A rank's process: its card, the group, and the same run that one GPU has, told to the process that started it."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import NoReturn

from engine.contract.config import ConfigError
from engine.contract.events import Event, MemoryMoment
from engine.contract.records import Outcome
from engine.contract.stop_reason import BY_USER
from engine.ranks.logs import write_to
from engine.ranks.wire import Asked, Assignment, Ended, Leave, Outbox, Refused, Stop

log = logging.getLogger("traintop")

_FLUSH_S = 5.0


def main(assigned: Assignment, connection: Connection) -> None:
    """Do a rank's part of a run, tell how it ended, and wait to be let go: until then the others find it there."""
    write_to(assigned.log_path)
    os.environ.clear()  # the fork server's is as old as the server
    os.environ.update(assigned.environment)
    outbox, orders = Outbox(connection), Orders(connection)
    group = ExitStack()  # never closed: who leaves it, as an error does, makes the others fail before the cause is told
    try:
        outbox.put(_run(assigned, outbox, orders, group))
    except ConfigError as error:
        outbox.put(Refused(knob=error.knob, message=error.message))
    except Exception as error:
        from engine.training.failures import sentence

        log.exception("rank %s could not do run %s", assigned.rank, assigned.record.run_id)
        outbox.put(Ended(record=replace(assigned.record, outcome=Outcome.FAILED, message=sentence(error))))
    outbox.finish(_FLUSH_S)
    orders.may_leave.wait()
    leave(0)


class Orders:
    """What the process that started this one wants of it, read in a thread. Where that one is gone, so is this one."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.stop = threading.Event()
        self.why = BY_USER
        self.may_leave = threading.Event()
        threading.Thread(target=self._read, name="orders", daemon=True).start()

    def _read(self) -> None:
        while True:
            try:
                asked: Asked = self._connection.recv()
            except (OSError, EOFError):
                leave(1)
            if isinstance(asked, Stop):
                self.why = asked.why
                self.stop.set()
            elif isinstance(asked, Leave):
                self.may_leave.set()
                return


def leave(code: int) -> NoReturn:
    """End this process now, and the data loader's with it. PyTorch's own end takes seconds."""
    from engine.techniques.workers import leave_nothing

    leave_nothing()
    os._exit(code)


def _run(assigned: Assignment, outbox: Outbox, orders: Orders, group: ExitStack) -> Ended:
    """Raises `ConfigError` where it cannot be done."""
    import torch

    from engine.devices.several import open_rank
    from engine.ranks.heart import Heart
    from engine.techniques.parallel import link_speed
    from engine.techniques.parallel.group import opened
    from engine.techniques.parallel.several import several
    from engine.techniques.workers import share_forkserver
    from engine.telemetry.nvml import door
    from engine.training.attempt import refuse_early
    from engine.training.hub import Hub
    from engine.training.run import Run

    share_forkserver()
    if assigned.threads is not None:
        torch.set_num_threads(assigned.threads)
    hub = Hub(assigned.hub_answers)
    if assigned.hub_answers is None:
        threading.Thread(target=hub.probe, name="hub", daemon=True).start()
    config = assigned.record.config
    if assigned.name.startswith("cuda:"):  # before anything else could make a context on another card
        torch.cuda.set_device(assigned.name)
    device = open_rank(assigned.name, config, door())
    refuse_early(config, device)
    group.enter_context(opened(device.torch_device))
    if device.torch_device.type == "cuda":
        link_speed.know(device.torch_device, device.info.uuid)
    device.reset_peaks()
    run = Run(
        record=assigned.record,
        device=device,
        hub=hub,
        emit=outbox.put if assigned.rank == 0 else _moments_of(outbox),
        should_stop=orders.stop.is_set,
        why_stopped=lambda: orders.why,
        host=assigned.host,
        goes_on=assigned.goes_on,
        together=several(config, device.torch_device),
    )
    Heart(assigned.rank, run, outbox.put).start()
    return Ended(record=run.execute())


def _moments_of(outbox: Outbox) -> Callable[[Event], None]:
    """Of a rank that is not the first, its memory is told; the rest all ranks have in common."""

    def emit(event: Event) -> None:
        if isinstance(event, MemoryMoment):
            outbox.put(event)

    return emit
