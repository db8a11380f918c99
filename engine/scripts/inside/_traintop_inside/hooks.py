"""Where it looks: public or stable points of PyTorch, each wrapped so that a fault in here never reaches the script."""

import atexit
import functools
import os
import sys
import types
from multiprocessing import util

from _traintop_inside import frameworks
from _traintop_inside.waiting import when_imported


def begin(torch, looking):
    """Hook them all; once in a process. What `looking` does with them changes, the hooks stay."""
    from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook, register_optimizer_step_pre_hook

    safely = looking.safely
    register_optimizer_step_pre_hook(safely(looking.before_step))
    register_optimizer_step_post_hook(safely(looking.after_step))
    compiler = getattr(torch, "compiler", None)
    is_compiling = getattr(compiler, "is_compiling", None) or (lambda: False)  # then what is wrapped is left alone

    def around(owner, name, before=None, after=None):
        """Look before and after a function: at its arguments, and at what it returned."""
        original = getattr(owner, name)

        @functools.wraps(original)
        def wrapped(*args, **kwargs):
            if is_compiling():
                return original(*args, **kwargs)
            if before is not None:
                before(*args, *kwargs.values())
            result = original(*args, **kwargs)
            if after is not None:
                after(result, *args, *kwargs.values())
            return result

        setattr(owner, name, wrapped)

    around(Optimizer, "__init__", after=safely(lambda none, optimizer, *args: looking.made(optimizer)))
    around(torch, "compile", before=safely(lambda *args: looking.calls.leave()))
    clipped = safely(lambda norm, *args: looking.clipped(norm))
    for owner in (torch.nn.utils, torch.nn.utils.clip_grad):
        around(owner, "clip_grad_norm_", after=clipped)
    if hasattr(torch.nn.utils, "get_total_norm"):  # for loops that clip in two steps
        around(torch.nn.utils, "get_total_norm", after=clipped)
    for scaler in {getattr(torch.amp, "GradScaler", None), torch.cuda.amp.GradScaler}:
        if scaler is not None and "scale" in vars(scaler):
            around(scaler, "scale", after=safely(lambda scaled, scaler, loss: looking.scaled(scaled, loss)))
            around(scaler, "step", safely(looking.before_scaler), safely(looking.after_scaler))
    _wrap_loader(torch.utils.data.dataloader._BaseDataLoaderIter, looking)
    _wrap_backward(torch, looking, is_compiling)
    frameworks.begin(looking)
    _wait_for_cells(looking)
    when_imported("torch._dynamo.decorators", _leave_alone)
    atexit.register(looking.end)
    os.register_at_fork(after_in_child=looking.forked)
    # processes of multiprocessing end without atexit; what is to be done at their end is asked for in them
    util.register_after_fork(looking, lambda looking: util.Finalize(None, looking.end, exitpriority=0))


def _wait_for_cells(looking):
    """In a notebook the time between two cells is none of the training."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is not None:
        begun = looking.safely(lambda *info: looking.pause())
        shell.events.register("pre_run_cell", lambda *info: begun(*info))


def _wrap_loader(kind, looking):
    original = kind.__next__
    before, after, failed = map(looking.safely, (looking.before_data, looking.after_data, looking.no_data))

    @functools.wraps(original)
    def wrapped(iterator):
        before(iterator)
        try:
            batch = original(iterator)
        except StopIteration:
            failed()
            raise
        after(batch)
        return batch

    kind.__next__ = wrapped


def _wrap_backward(torch, looking, is_compiling):
    """`Tensor.backward` comes here, too."""
    original = torch.autograd.backward
    before, after = looking.safely(looking.before_backward), looking.safely(looking.after_backward)
    task = getattr(torch._C, "_current_graph_task_id", None) or (lambda: -1)

    @functools.wraps(original)
    def wrapped(tensors, *args, **kwargs):
        if is_compiling() or task() != -1:  # within another one, as that of a checkpointed part is
            return original(tensors, *args, **kwargs)
        before(tensors)
        result = original(tensors, *args, **kwargs)
        after()
        return result

    torch.autograd.backward = wrapped


def _leave_alone(dynamo):
    """What is in here is not compiled where it is called beside what is."""
    skip = getattr(dynamo, "skip_code", None) or (lambda code: None)

    def leave(code):
        skip(code)
        for each in code.co_consts:
            if isinstance(each, types.CodeType):
                leave(each)

    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == __package__:
            for each in vars(module).values():
                members = vars(each).values() if isinstance(each, type) else [each]
                for member in members:
                    function = getattr(member, "fget", member)
                    if isinstance(function, types.FunctionType) and function.__module__ == name:
                        leave(function.__code__)
