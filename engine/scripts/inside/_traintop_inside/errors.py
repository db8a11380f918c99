"""The error that ends a script."""

import sys

_OVER = "_traintop_over"
"""Marks one after which the training went on, so that nothing of it is held."""


def go_on():
    """The training goes on: what a cell of a notebook has failed with until now did not end it."""
    error = _last()
    if error is not None:
        vars(error)[_OVER] = True


def _last():
    return getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)


def uncaught(torch):
    """What Python has printed at its end, and whether it is, or comes of, one for want of memory; empty without."""
    error = _last()
    if error is None or _OVER in vars(error):
        return {}
    kind = getattr(torch, "OutOfMemoryError", None) or torch.cuda.OutOfMemoryError
    causes = list(_causes(error))
    memory = next((each for each in causes if isinstance(each, kind) or _is_of_worker(each)), None)
    told = error if memory is None else memory
    return {"error": f"{type(told).__name__}: {told}"[:2000], "out_of_memory": memory is not None}


def _causes(error):
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _is_of_worker(error):
    """Whether it brings the text of one in a process that torch.multiprocessing has spawned."""
    return type(error).__name__ == "ProcessRaisedException" and "OutOfMemoryError: " in str(error)
