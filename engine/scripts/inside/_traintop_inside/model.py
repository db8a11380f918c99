"""The model that holds what is trained, and when it is called."""

import functools
import gc
import sys
import weakref

_OUTSIDE = ("OptimizedModule", "DistributedDataParallel")
"""Modules around a compiled one, which are not compiled themselves."""


def root_of(torch, trained):
    """The outermost module that has all of these parameters; None where there is none, or several."""
    wanted = {id(each) for each in trained}
    having = []
    for each in gc.get_objects():
        if issubclass(type(each), torch.nn.Module):
            try:
                own = {id(parameter) for parameter in each.parameters()}
            except Exception:  # one that is not whole yet, or a proxy
                continue
            if wanted <= own:
                having.append(each)
    inner = {id(part) for each in having for part in each.modules() if part is not each}
    outer = [each for each in having if id(each) not in inner]
    return outer[0] if len(outer) == 1 else None


class Calls:
    """Looks at each call of one module. Its class gets another `__call__`; the module itself stays as it is.

    (A hook would be part of the module: it could not be pickled, or would be compiled with it.)
    """

    def __init__(self, looking):
        self._looking, self._root = looking, None
        self._kinds = {}

    @property
    def root(self):
        """The module that is looked at, as long as it lives."""
        return None if self._root is None else self._root()

    def follow(self, root):
        """Look at this one from now on, if that changes nothing for a compiler."""
        self._root, kind = weakref.ref(root), type(root)
        own = vars(kind).get("__call__")
        if isinstance(own, _Call) or (own is not None and kind.__module__ == "__main__") or not _is_outside(kind):
            return
        self._kinds[kind] = own
        kind.__call__ = _Call(kind, own, self)

    def leave(self):
        """Put all back: what follows is compiled."""
        self._root = None
        for kind, own in self._kinds.items():
            if own is None:
                del kind.__call__
            else:
                kind.__call__ = own
        self._kinds = {}

    def look(self, module, args, kwargs):
        """A module of such a class is called."""
        looking = self._looking
        if looking.is_on and self._root is not None and module is self._root():
            try:
                looking.called(module, args, kwargs)
            except Exception as error:
                looking.fail(error)


class _Call:
    """A class's `__call__`. Where the class is pickled by its value, the pickle has what was there before."""

    def __init__(self, kind, own, calls):
        self._kind, self._own, self._calls = kind, own, calls

    def __get__(self, module, kind=None):
        if module is None:
            return self._own or self._kind.__mro__[1].__call__
        return functools.partial(self._call, module)

    def _call(self, module, *args, **kwargs):
        self._calls.look(module, args, kwargs)
        if self._own is not None:
            return self._own(module, *args, **kwargs)
        return super(self._kind, module).__call__(*args, **kwargs)

    def __reduce__(self):
        return getattr, (self._kind.__mro__[1], "__call__")


def _is_outside(kind):
    """Whether nothing is compiled yet that may have the call of such a module in it."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    return dynamo is None or kind.__name__ in _OUTSIDE or not dynamo.counters["frames"]["total"]
