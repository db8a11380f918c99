"""Parts of FSDP2 that are PyTorch's own business, touched here and nowhere else in a run: where it waits for others.

With PyTorch that names them otherwise nothing is touched, and waiting counts in the phase that it lies in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from engine.techniques.parallel.together import Waits

UNKNOWN = (
    f"PyTorch {torch.__version__} does not let fsdp's waits be told: what is waited for others counts in forward and "
    "backward."
)


def tell_waits(model: torch.nn.Module, waits: Waits, device: torch.device) -> bool:
    """Have `waits` told where a model that was divided waits; False where that is not known of this PyTorch.

    On CUDA that is where the stream that computes waits for another one; on the host where a collective blocks.
    """
    groups = list(_groups(model))
    needed = _COLLECTIVES if device.type == "cpu" else (*_WAITING, "device_handle", "comm_ctx", "_all_gather_result")
    if not groups or not all(hasattr(group, name) for group in groups for name in needed):
        return False
    for group in groups:
        if device.type == "cpu":
            for name in _COLLECTIVES:
                setattr(group, name, _Blocking(getattr(group, name), waits))
        else:
            _tell_of_streams(group, waits)
    root = groups[0]  # what ends backward is waited for there
    if device.type != "cpu":
        root.finalize_backward = _between(root.finalize_backward, waits)
    return True


_COLLECTIVES = ("_all_gather_comm", "_reduce_scatter_comm")
_WAITING = ("wait_for_unshard", "post_backward", "finalize_backward")


def _groups(model: torch.nn.Module) -> Iterator[Any]:
    """The groups of parameters that are gathered at once, the root's first."""
    for module in model.modules():
        state = getattr(module, "_get_fsdp_state", lambda: None)()
        found = getattr(state, "_fsdp_param_groups", None) or [getattr(state, "_fsdp_param_group", None)]
        yield from (group for group in found if group is not None)


class _Blocking:
    """A collective whose caller goes on once it is done."""

    def __init__(self, collective: Any, waits: Waits) -> None:
        self._collective, self._waits = collective, waits
        self.allocate = collective.allocate

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._waits(True)
        try:
            return self._collective(*args, **kwargs)
        finally:
            self._waits(False)


def _tell_of_streams(group: Any, waits: Waits) -> None:
    """The group's own methods wait for an event before they compute: here it is waited for just before them."""
    gathered, reduces = group.wait_for_unshard, group.post_backward

    def wait_for_unshard() -> None:
        result = group._all_gather_result
        event = getattr(result, "all_gather_event", None)
        if event is not None:
            waits(True)
            group.device_handle.current_stream().wait_event(event)
            waits(False)
        gathered()

    def post_backward(*unused: Any) -> None:
        before = getattr(group.comm_ctx, "reduce_scatter_states", None) or [
            getattr(group.comm_ctx, "reduce_scatter_state", None)  # its name before PyTorch 2.12
        ]
        event = getattr(before[0], "event", None)
        if group.reduce_grads and event is not None:
            waits(True)
            group.device_handle.current_stream().wait_event(event)
            waits(False)
        reduces(*unused)

    group.wait_for_unshard, group.post_backward = wait_for_unshard, post_backward


def _between(call: Callable[[], None], waits: Waits) -> Callable[[], None]:
    def called() -> None:
        waits(True)
        call()
        waits(False)

    return called
