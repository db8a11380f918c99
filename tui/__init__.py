"""The screen, and the command line."""

import sys
from pathlib import Path

# `python -m tui.cli` is being found. Python looks in the working directory first, for all that follows as well: a file
# `engine.py` or `config.py` there would be taken for ours, or for a library's
_is_found_there = sys.argv[:1] == ["-m"] and not getattr(sys.flags, "safe_path", False)  # -P: Python 3.11
if _is_found_there and Path(sys.path[0]) != Path(__file__).parents[1]:
    del sys.path[0]
