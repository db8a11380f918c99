"""Where an update's time goes: marks between its phases, on the device's own clock where there is one.

No mark waits for the device: what they measured is read once it has passed them.
"""

import time

DATA, FORWARD, BACKWARD, OPTIMIZER, OTHER = "data", "forward", "backward", "optimizer", "other"


class Clock:
    """Marks of one thread."""

    def __init__(self, torch):
        self._torch = torch
        self._began = time.perf_counter()
        self._marks = [(OTHER, *self._now())]

    @property
    def phase(self):
        """The one under way."""
        return self._marks[-1][0]

    def enter(self, phase):
        """Go over to another phase."""
        if phase != self._marks[-1][0]:
            self._marks.append((phase, *self._now()))

    def cut(self):
        """End an update here: its marks, to be read with `seconds` once they are passed."""
        now = self._now()
        marks, self._marks = [*self._marks, (OTHER, *now)], [(OTHER, *now)]
        return Span(marks, now[0] - self._began)

    def _now(self):
        cuda, event = self._torch.cuda, None
        if cuda.is_initialized() and not cuda.is_current_stream_capturing():
            event = cuda.Event(enable_timing=True)
            event.record()
        return time.perf_counter(), event


class Span:
    """An update's marks; `t`: seconds since the clock began, by the host, when it ended."""

    def __init__(self, marks, t):
        self._marks, self.t = marks, t
        self._on_device = all(event is not None for _, _, event in marks)

    @property
    def is_passed(self):
        """Whether the device has done all that was before the last mark."""
        return not self._on_device or self._marks[-1][2].query()

    def seconds(self):
        """By phase, and their sum."""
        by_phase = {}
        for (phase, at, event), (_, next_at, next_event) in zip(self._marks, self._marks[1:]):
            took = event.elapsed_time(next_event) / 1e3 if self._on_device else next_at - at
            by_phase[phase] = by_phase.get(phase, 0.0) + took
        return by_phase, sum(by_phase.values())
