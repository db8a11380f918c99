"""Found by the Python processes of a command that traintop runs: gives the user's own its turn, then looks on.

Nothing here may fail: a script that is watched runs as one that is not.
"""


def _own(here):
    """Import the `sitecustomize` that this one stands before, as Python would have without it."""
    import os
    import sys

    def is_here(path):
        return os.path.abspath(path or os.getcwd()) == here

    mine = sys.modules.pop("sitecustomize", None)
    sys.path[:] = [path for path in sys.path if not is_here(path)]  # this folder is nobody's to import from
    try:
        import sitecustomize  # noqa: F401 (the user's)
    except ImportError as error:
        if error.name != "sitecustomize":
            raise
        sys.modules["sitecustomize"] = mine


def _look_on(here):
    import os
    import sys

    wire = os.environ.get("TRAINTOP_WIRE")
    if not wire:
        return
    name = "_traintop_inside"
    folder = os.path.join(here, name)
    try:
        open(wire + ".python", "ab").close()
        from importlib.util import module_from_spec, spec_from_file_location

        spec = spec_from_file_location(name, os.path.join(folder, "__init__.py"), submodule_search_locations=[folder])
        module = sys.modules[name] = module_from_spec(spec)
        spec.loader.exec_module(module)
        module.begin()
    except Exception as error:
        sys.modules.pop(name, None)
        sys.stderr.write("traintop: this process is not watched: %s: %s\n" % (type(error).__name__, error))  # noqa: UP031


def _both():
    import os

    here = os.path.dirname(os.path.abspath(__file__))
    try:
        _own(here)
    finally:  # where the user's fails, Python says so, and goes on
        _look_on(here)


_both()
