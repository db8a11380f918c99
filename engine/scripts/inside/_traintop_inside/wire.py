"""To traintop: one line of JSON a message over a Unix socket, never waiting for the reader."""

import json
import os
import socket
import sys
import threading

_MOST_WAITING = 1 << 20
"""Bytes that wait for a reader that is slow; beyond that messages are dropped, and counted."""
_TOLD = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "CUDA_VISIBLE_DEVICES")


class Wire:
    """Of one process: a fork's child has its own, which connects when it has something to tell."""

    def __init__(self, path):
        self._path = path
        self.on = True
        """Whether there is somebody who listens, and nothing went wrong."""
        self.renew()

    def renew(self):
        """In a fork's child: leave the parent's connection alone, and be ready for one of its own."""
        self._lock = threading.Lock()
        self._socket, self._waiting, self._dropped = None, None, 0

    def tell(self, kind, rows=None, **values):
        """Send a message, or keep it until the reader has read; drops it where too much waits. Never raises.

        `rows`: some that are JSON already.
        """
        if self.on:
            self._send({"kind": kind, **values}, rows)

    def greet(self):
        """Connect, and say who this is."""
        if self.on:
            self._send(None)

    def push(self):
        """Send what waits, as much as there is room for."""
        if self._waiting and self.on:
            self._send(None)

    def close(self):
        """Send what waits, for up to a second, and be silent from now on."""
        with self._lock:
            if self.on and self._waiting:
                try:
                    if self._socket is None:
                        self._connect()
                    self._socket.settimeout(1.0)
                    self._socket.sendall(self._waiting)
                except OSError:
                    pass
            self.on = False
            if self._socket is not None:
                self._socket.close()

    def switch_off(self, error):
        """Tell what went wrong in here, and be silent from now on."""
        self.tell("off", why=f"{type(error).__name__}: {error}"[:300])
        self.close()

    def _send(self, message, rows=None):
        with self._lock:
            try:
                if self._waiting is None:
                    self._waiting = _line(_hello())
                if message is not None:
                    self._add(message, rows)
                if self._socket is None:
                    self._connect()
                while self._waiting:
                    self._waiting = self._waiting[self._socket.send(self._waiting) :]
            except BlockingIOError:  # the reader is slow
                pass
            except (OSError, ValueError):  # traintop is gone: the script goes on
                self.on = False

    def _add(self, message, rows):
        if len(self._waiting) > _MOST_WAITING:
            self._dropped += 1
            return
        if self._dropped:
            message["dropped"] = self._dropped
        self._waiting += _line(message, rows)

    def _connect(self):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.setblocking(False)  # even to connect: a reader that is stopped would be waited for
        try:
            connection.connect(self._path)
        except OSError:
            connection.close()
            raise
        self._socket = connection


def _hello():
    environment = {name.lower(): os.environ[name] for name in _TOLD if name in os.environ}
    return {
        "kind": "hello",
        "pid": os.getpid(),
        "parent": os.getppid(),
        "host": socket.gethostname(),
        "argv": [str(word) for word in sys.argv[:200]],
        "python": ".".join(map(str, sys.version_info[:3])),
        **environment,
    }


def _line(message, rows=None):
    text = json.dumps(message, default=str)
    if rows is not None:
        text = f'{text[:-1]}, "rows": [{", ".join(rows)}]}}'
    return text.encode() + b"\n"
