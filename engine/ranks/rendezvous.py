"""Where the ranks of one machine meet: PyTorch's own store, in the process that starts them."""

from __future__ import annotations

import os
import socket
import sys
from types import TracebackType

_LOOPBACK = "127.0.0.1"


class Rendezvous:
    """A store on a port that the system chooses, open to this machine only. Raises `OSError` where there is none.

    `environment` is what `env://` of `torch.distributed` reads, but for the rank's own number.
    """

    def __enter__(self) -> Rendezvous:
        from torch.distributed import TCPStore  # type: ignore[attr-defined]

        with socket.socket() as listener:
            listener.bind((_LOOPBACK, 0))
            listener.listen(128)
            port = listener.getsockname()[1]
            self._store: TCPStore | None = TCPStore(
                _LOOPBACK, port, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach()
            )
        self.environment = {
            "MASTER_ADDR": _LOOPBACK,
            "MASTER_PORT": str(port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",  # the first rank is not to open one too
        }
        if "GLOO_SOCKET_IFNAME" not in os.environ:  # gloo looks up the host's name, which may lead anywhere
            self.environment["GLOO_SOCKET_IFNAME"] = "lo" if sys.platform == "linux" else "lo0"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._store = None
