"""Which optimizer's steps are the updates."""

import weakref

_MOST_BESIDE = 128
"""Steps of others after which one that steps no more is not waited for, as where another training follows."""


class Optimizers:
    """All that were made or have stepped. The updates are the steps of the one with the most parameters.

    So a GAN's count once each, whichever of its networks steps first.
    """

    def __init__(self):
        self._made = weakref.WeakSet()
        self._size = weakref.WeakKeyDictionary()  # of those that have stepped
        self._counted, self._beside = None, 0

    def made(self, optimizer):
        """One is there, which may step."""
        self._made.add(optimizer)

    @property
    def counted(self):
        """The one whose steps are the updates, if there is one already."""
        return None if self._counted is None else self._counted()

    @property
    def stepped(self):
        """Those that have."""
        return list(self._size)

    def counts(self, optimizer):
        """Whether a step of this one is an update. Asked once a step."""
        counted = self.counted
        if optimizer is counted:
            self._beside = 0
            return True
        is_first = optimizer not in self._size
        size = self._size[optimizer] = self._size.get(optimizer) or _elements(optimizer)
        if counted is None:
            if is_first and any(_elements(other) > size for other in self._made):
                return False  # its turn comes, unless this one comes again first
        else:
            self._beside += 1
            if size <= self._size[counted] and self._beside <= _MOST_BESIDE:
                return False
        self._counted, self._beside = weakref.ref(optimizer), 0
        return True


def parameters_of(optimizer):
    """All, of all its groups."""
    return [each for group in getattr(optimizer, "param_groups", ()) for each in group["params"]]


def _elements(optimizer):
    return sum(each.numel() for each in parameters_of(optimizer))
