"""Where an update's time goes: marks between its phases, on the device's own clock where there is one.

No mark waits for the device: what they measured is read once it has passed them.
"""

from time import perf_counter

DATA, FORWARD, BACKWARD, OPTIMIZER, OTHER = "data", "forward", "backward", "optimizer", "other"

_MOST_EVENTS = 4096
"""Marks of one update on the device's clock; of an update with more the phases are not known."""


class Clock:
    """Marks of one thread. Time counts from the first phase that is entered."""

    def __init__(self, torch):
        self._cuda = torch.cuda
        self._free = []  # events to be used again
        self._t = 0.0  # of all updates that ended
        self.stop()

    def stop(self):
        """Forget what was of the update under way; time goes on counting from the next phase."""
        self.pause()
        self.phase = OTHER
        """The one under way."""

    def pause(self):
        """As `stop`, and the phase under way is still told of."""
        self._zero, self._since = None, 0.0
        self._took, self._events = {}, []

    def enter(self, phase):
        """Go over to another phase."""
        if phase != self.phase or self._zero is None:
            self._mark(phase)

    def cut(self, phase=OTHER):
        """End an update here, and go on in a phase: its times, to be read once the device has passed its marks."""
        self._mark(phase)
        took, events = self._took, self._events
        self._t += self._since - self._zero
        self._zero, self._took, self._events = self._since, {}, events[-1:]
        return Span(took, events, self._t, self._free)

    def _mark(self, phase):
        now = perf_counter()
        if self._zero is None:
            self._zero = self._since = now
        self._took[self.phase] = self._took.get(self.phase, 0.0) + now - self._since
        self.phase, self._since = phase, now
        if self._cuda.is_initialized() and len(self._events) < _MOST_EVENTS:
            self._events.append((phase, self._event()))

    def _event(self):
        if self._cuda.is_current_stream_capturing():
            return None
        device = self._cuda.current_device()  # an event belongs to the one on which it was recorded first
        event = self._free.pop()[1] if self._free and self._free[-1][0] == device else None
        if event is None:
            event = self._cuda.Event(enable_timing=True)
        event.record()
        return device, event


class Span:
    """An update's times. `t`: seconds of all updates until it ended, by the host."""

    def __init__(self, took, events, t, free):
        self._took, self._events, self.t, self._free = took, events, t, free

    @property
    def is_passed(self):
        """Whether the device has done all that was before the last mark."""
        last = self._events[-1][1] if self._events else None
        return last is None or last[1].query()

    def read(self):
        """By phase, and their sum. Call it once, when it is passed."""
        if not self._events:
            return self._took, sum(self._took.values())
        total = sum(self._took.values())
        if len(self._events) >= _MOST_EVENTS or not self._is_of_one_device():
            return {}, total
        took = {}
        for (phase, (_, at)), (_, (_, next_at)) in zip(self._events, self._events[1:]):
            took[phase] = took.get(phase, 0.0) + at.elapsed_time(next_at) / 1e3
        self._free += [event for _, event in self._events[:-1]]  # the last is the next update's first
        return took, sum(took.values())

    def _is_of_one_device(self):
        return len({event and event[0] for _, event in self._events}) == 1 and self._events[0][1] is not None
