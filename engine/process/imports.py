"""Imports of libraries that would bring others along, for nothing, in seconds."""

from __future__ import annotations

import importlib
import sys

from engine.process import gate

_UNUSED = ("torchao",)
"""What transformers imports with its models wherever it is installed: for quantized checkpoints. Techniques that want
one of them import it themselves. (accelerate takes 30 ms, and saving a model wants it.)"""

_COMMON = ("transformers.modeling_utils", "transformers.modeling_layers", "transformers.generation.utils")
"""What every model's own module imports."""


@gate.building()
def import_transformers() -> None:
    """Import what transformers' models have in common, as if `_UNUSED` were not installed. Takes seconds, once.

    Afterwards transformers knows of them again: a module that is imported later finds them.
    """
    if all(module in sys.modules for module in _COMMON):
        return
    from transformers.utils import import_utils

    answers = [getattr(import_utils, f"is_{name}_available", None) for name in _UNUSED]
    hidden = [name for name in _UNUSED if name not in sys.modules]
    for answer in answers:
        getattr(answer, "cache_clear", bool)()
    try:
        for name in hidden:
            sys.modules[name] = None  # type: ignore[assignment]  # both `import` and `find_spec` find nothing then
        for module in _COMMON:
            importlib.import_module(module)
    finally:
        for name in hidden:
            del sys.modules[name]
        for answer in answers:
            getattr(answer, "cache_clear", bool)()
