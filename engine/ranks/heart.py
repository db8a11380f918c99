"""A rank's heartbeat: once a second where its run stands and since when, also while all others stand still."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

from engine.contract.events import RankBeat
from engine.contract.records import Phase
from engine.ranks.wire import BEAT_S, Beat
from engine.training.run import Run

_LOOK_S = 0.1

_LONG = (("engine.training.saving", "saves"), ("torch._dynamo", "compiles"), ("torch._inductor", "compiles"))


class Heart:
    """Beats from a thread of its own, from `start` until the process ends. It only looks at numbers put down."""

    def __init__(self, rank: int, run: Run, tell: Callable[[Beat], object]) -> None:
        self._rank = rank
        self._run = run
        self._tell = tell
        self._main = threading.get_ident()

    def start(self) -> None:
        """Called in the thread that is to do the run."""
        threading.Thread(target=self._beat, name="heart", daemon=True).start()

    def _beat(self) -> None:
        stands, since, beat_at = self._stand(), time.monotonic(), -BEAT_S
        pause = threading.Event()
        while True:
            now, found = time.monotonic(), self._stand()
            if found != stands:
                stands, since = found, now
            if now - beat_at >= BEAT_S:
                self._tell(self._told(now - since))
                beat_at = now
            pause.wait(_LOOK_S)

    def _stand(self) -> tuple[object, ...]:
        """What changes as the run goes on."""
        job = self._run.job
        if job is None:
            return ()
        return job.clock.phase, job.update, job.micro_step, *job.whereabouts.progress

    def _told(self, since_s: float) -> Beat:
        job = self._run.job
        trains = job is not None and job.micro_step > 0
        beat = RankBeat(
            run_id=self._run.record.run_id,
            rank=self._rank,
            phase=job.clock.phase if job is not None and trains else Phase.LOAD,
            update=job.update + 1 if job is not None and trains else 0,
            since_s=since_s,
        )
        return Beat(
            beat=beat,
            doing=_doing(sys._current_frames().get(self._main)),
            waits=job is not None and job.clock.waits,
            layer=job.whereabouts.progress[1] if job is not None else 0,
            place=self._run.place(),
            memory=self._run.device.memory_if_known(),
        )


def _doing(frame: FrameType | None) -> str:
    """What takes as long as it takes, where a thread is in the midst of it, by the modules of its frames."""
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        for name, doing in _LONG:
            if module.startswith(name):
                return doing
        frame = frame.f_back
    return ""
