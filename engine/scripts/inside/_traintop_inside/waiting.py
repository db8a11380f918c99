"""Calls back when a module has been imported, and leaves no trace in it."""

import sys


def when_imported(name, done):
    """Call `done(module)` once: now, or right after the module `name` has been executed by whoever imports it."""
    if name in sys.modules:
        done(sys.modules[name])
    else:
        sys.meta_path.insert(0, _Finder(name, done))


class _Finder:
    def __init__(self, name, done):
        self._name, self._done = name, done

    def find_spec(self, fullname, path=None, target=None):
        if fullname != self._name:
            return None
        for finder in [each for each in sys.meta_path if each is not self]:
            find = getattr(finder, "find_spec", None)
            spec = find(fullname, path, target) if find is not None else None
            if spec is not None:
                break
        else:
            return None
        if hasattr(spec.loader, "exec_module"):
            spec.loader = _Loader(spec.loader, self, self._done)
        return spec


class _Loader:
    """The module's own loader, with a word after it."""

    def __init__(self, own, finder, done):
        self._own, self._finder, self._done = own, finder, done

    def __getattr__(self, name):
        return getattr(self._own, name)

    def create_module(self, spec):
        return self._own.create_module(spec)

    def exec_module(self, module):
        module.__loader__ = module.__spec__.loader = self._own
        self._own.exec_module(module)
        if self._finder in sys.meta_path:  # only the first time: a module that failed is imported again
            sys.meta_path.remove(self._finder)
            self._done(module)
