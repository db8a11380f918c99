"""To traintop: one line of JSON a message over a Unix socket, never waiting for the reader."""

import json
import os
import socket
import sys

_MOST_WAITING = 1 << 20
"""Bytes that wait for a reader that is slow; beyond that updates are dropped, and counted."""


class Wire:
    """Of this process alone: a fork's child is silent. Connects with the first message."""

    def __init__(self, path):
        self._path, self._pid = path, os.getpid()
        self._socket, self._waiting, self._dropped = None, b"", 0
        self.on = True

    @property
    def is_ours(self):
        """Whether this is the process that it was made in, and nothing went wrong."""
        return self.on and os.getpid() == self._pid

    def tell(self, kind, **values):
        """Send a message, or keep it until the reader has read; drops it where too much waits. Never raises."""
        if not self.is_ours:
            return
        try:
            if self._socket is None:
                self._connect()
            if len(self._waiting) > _MOST_WAITING:
                self._dropped += 1
            else:
                line = {"kind": kind, **values, **({"dropped": self._dropped} if self._dropped else {})}
                self._waiting += json.dumps(line, default=str).encode() + b"\n"
            self.push()
        except (OSError, ValueError):  # traintop is gone: the script goes on
            self.on = False

    def push(self):
        """Send what waits, as much as there is room for."""
        try:
            while self._waiting:
                sent = self._socket.send(self._waiting)
                self._waiting = self._waiting[sent:]
        except BlockingIOError:
            pass

    def push_if_any(self):
        """Send what waits, where there is a reader and something waits."""
        if self._waiting and self._socket is not None:
            try:
                self.push()
            except OSError:
                self.on = False

    def last(self, kind, **values):
        """The last message of the process: waits up to a second for the reader."""
        self.tell(kind, **values)
        if self._socket is not None and self.is_ours:
            self._socket.settimeout(1.0)
            try:
                self._socket.sendall(self._waiting)
                self._socket.close()
            except OSError:
                pass
            self.on = False

    def switch_off(self, error):
        """Tell what went wrong in here, and be silent from now on."""
        self.tell("off", why=f"{type(error).__name__}: {error}"[:300])
        self.on = False

    def _connect(self):
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.set_inheritable(False)
        self._socket.connect(self._path)
        self._socket.setblocking(False)
        environment = {
            name: os.environ.get(name) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "CUDA_VISIBLE_DEVICES")
        }
        hello = {
            "kind": "hello",
            "pid": self._pid,
            "parent": os.getppid(),
            "host": socket.gethostname(),
            "argv": [str(word) for word in getattr(sys, "argv", ())][:200],
            "python": ".".join(map(str, sys.version_info[:3])),
            **{name.lower(): value for name, value in environment.items() if value is not None},
        }
        self._waiting = json.dumps(hello).encode() + b"\n" + self._waiting
