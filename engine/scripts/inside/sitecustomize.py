"""Found by the Python processes of a command that traintop runs: gives the user's own its turn, then looks on.

Nothing here may fail: a script that is watched runs as one that is not.
"""


def _own():
    """Import the `sitecustomize` that this one stands before, as Python would have without it."""
    import os
    import sys

    here = os.path.dirname(os.path.abspath(__file__))
    paths, mine = list(sys.path), sys.modules.pop("sitecustomize", None)
    sys.path[:] = [path for path in paths if os.path.abspath(path or os.getcwd()) != here]
    try:
        import sitecustomize  # noqa: F401 (the user's)
    except ImportError as error:
        if error.name != "sitecustomize":
            raise
        sys.modules["sitecustomize"] = mine
    finally:
        # what the user's has added stays; this folder is nobody's to import from
        sys.path[:] = [path for path in sys.path if os.path.abspath(path or os.getcwd()) != here]
    return here


def _look_on(here):
    import os

    if not os.environ.get("TRAINTOP_WIRE"):
        return
    import importlib.util
    import sys

    name = "_traintop_inside"
    folder = os.path.join(here, name)
    spec = importlib.util.spec_from_file_location(
        name, os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
        module.begin()
    except Exception as error:
        sys.modules.pop(name, None)
        sys.stderr.write(f"traintop: this process is not watched: {type(error).__name__}: {error}\n")


_look_on(_own())
