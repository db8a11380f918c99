"""`python -m traintop`: the command, whatever the working directory and the search path have of the same names."""

import os
import sys
from importlib.util import module_from_spec, spec_from_file_location

_HERE = os.path.dirname(os.path.abspath(__file__))
_UP = (1, 4)
"""Folders above this one that hold the packages: as installed, and in the sources."""


def _root() -> str:
    above = [_HERE]
    for _ in range(max(_UP)):
        above.append(os.path.dirname(above[-1]))
    places = [above[up] for up in _UP]
    return next((each for each in places if os.path.isfile(os.path.join(each, "tui", "cli.py"))), places[0])


def _bring(name: str) -> None:
    """Import a package of ours from where it is, not from where Python would look first."""
    folder = os.path.join(_root(), name)
    spec = spec_from_file_location(name, os.path.join(folder, "__init__.py"), submodule_search_locations=[folder])
    if spec is None or spec.loader is None:
        raise ImportError(f"{folder} is not there: install traintop anew")
    module = sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(module)


def main() -> int:
    """Obey the command line."""
    sys.path[:1] = []  # the working directory, or this folder
    for name in ("engine", "tui"):
        _bring(name)
    from tui.cli import main as obey

    return obey()


if __name__ == "__main__":
    sys.exit(main())
