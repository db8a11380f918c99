"""What looks on inside the user's script. It has no other imports than Python's own, until the script imports torch.

It changes nothing that the script computes: it draws no random number, waits for no device and holds no tensor but
copies of losses. A fault in it switches it off with one line, and the script goes on.

It is told two things by the environment: `TRAINTOP_WIRE`, the path of a Unix socket on which traintop listens, and
perhaps `TRAINTOP_MAX_UPDATES`. A process that has made so many updates tells them at once, and does no more until it is
interrupted, which traintop then sees to; after two seconds it goes on all the same.
Each process that imports torch connects by itself and writes lines of JSON there, one object each, with its `kind`; a
reader leaves alone a kind or a field that it does not know. What was not seen is null or left out. Bytes and seconds.

- `hello`, the first, when torch has been imported (in a fork's child: before its first update): `pid, parent, host,
  argv, python`, and as the environment has them, as text, `rank, local_rank, world_size, local_world_size,
  cuda_visible_devices`.
- `plan`, where a trainer says what it is going to do: `by` (`transformers` or `lightning`), `updates, epochs,
  batch_size, gradient_accumulation_steps`. Again with each training.
- `model`, after the first update of each optimizer that is followed: `optimizer`, `model` (their classes), `trained`,
  `parameters` (elements), `torch`, `device` (`name, total, uuid` with CUDA, else empty), `rank, world_size` (numbers)
  where the processes have formed a group of `torch.distributed`.
- `updates`, at most ten a second: `rows`, one for each update: `update` (from 1), `t` (seconds that training took
  so far, in this process), `micro_steps, loss, lr, grad_norm, loss_scale, skipped` (by a gradient scaler), `samples,
  tokens` (of this process), `seconds`, `shares` (seconds by phase: `data, forward, backward, optimizer, other`);
  `held` (bytes by category: `weights, gradients, optimizer, frozen`) and `memory` of the caching allocator
  (`allocated, reserved, peak_allocated, peak_reserved, alloc_retries`; empty without CUDA), both as they are now.
- `log`, a trainer's figures, those of an evaluation among them: `by, update, epoch, figures` (numbers by name).
- `off`: it is switched off, and says `why`. Nothing follows.
- `end`, where Python comes to its end: `updates, micro_steps` (of the update under way), `phase` (the one under way),
  `held, allocator` (as `memory`), and of an error that nobody caught `error, out_of_memory`. None comes of a process
  that a signal, `os._exit` or `exec` ends.

Any message may have `dropped`: how many were, as the reader was slow. Where Python ran with `-I`, `-E` or `-S` nothing
of this is loaded; each Python that did load it leaves an empty file beside the socket, `TRAINTOP_WIRE` and `.python`,
so that a command without torch can be told from one that is not watched.
"""

import os

_looking = None


def begin(path=None):
    """Look on in this process, and tell over the socket `path`, by default that of the environment.

    Where torch is not imported yet, all waits for it. After `end` it may be called again.
    """
    most = os.environ.get("TRAINTOP_MAX_UPDATES", "") if path is None else ""
    path = path or os.environ["TRAINTOP_WIRE"]
    from _traintop_inside.waiting import when_imported

    when_imported("torch", lambda torch: _look(torch, path, int(most) if most.isdecimal() else None))


def end():
    """Tell what is left, and look away."""
    if _looking is not None:
        _looking.end()


def _look(torch, path, most):
    global _looking
    from _traintop_inside.wire import Wire  # not before: a script without torch gets no module that it did not import

    wire = Wire(path)
    try:
        if _looking is None:
            from _traintop_inside import hooks
            from _traintop_inside.looking import Looking

            _looking = Looking(torch)
            hooks.begin(torch, _looking)
        _looking.begin(wire, most)
    except Exception as error:
        wire.switch_off(error)
