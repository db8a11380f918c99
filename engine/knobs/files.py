"""Knobs in a TOML file: one `name = value` per line, with the names of `RunConfig`.

Both TOML libraries are imported where a file is read or written: most starts of the program do neither.
"""

from __future__ import annotations

import difflib
import os
import sys
from pathlib import Path
from typing import Any

from engine.contract.config import KNOBS, ConfigError, RunConfig, Value

MAX_BYTES = 1_000_000
"""A larger file is not a list of knobs."""

_HEADER = "# The knobs of a traintop run. To use them: traintop run --config FILE\n\n"


def save_knobs(config: RunConfig, path: Path) -> None:
    """Write every knob that is set to `path`; TOML has no null, so a knob that is not set has no line, or a word.

    Raises `ConfigError` when the file cannot be written; what was there before is then unchanged.
    """
    import tomli_w

    text = _HEADER + tomli_w.dumps(_written(config))
    # beside the file, so that the rename stays on one file system and a full disk costs nothing
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        why = error.strerror or str(error)
        raise ConfigError("", f"The knobs cannot be saved to {path} ({why}): give another file.") from None


def _written(config: RunConfig) -> dict[str, Value]:
    """What a file can hold: the knobs of the job, of a script those that its command carries. One that is not set has
    no line where that is the default, else the word for it.
    """
    default = RunConfig()
    words = {
        name: KNOBS[name].none if value is None and getattr(default, name) is not None else value
        for name, value in config.to_dict().items()
        if config.says(name)
    }
    return {name: value for name, value in words.items() if value is not None}


def load_knobs(path: Path) -> dict[str, Any]:
    """The values in a file by knob name, as the file has them: `RunConfig.from_dict` checks them.

    Raises `ConfigError` when the file cannot be read, is not TOML, or names something that is not a knob.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError("", f"The knobs cannot be read from {path}: {error.strerror or error}.") from None
    if len(content) > MAX_BYTES:
        raise ConfigError("", f"{path} is no file of knobs: it is larger than {MAX_BYTES:,} bytes.")
    values = _parse(content, path)
    for name in values:
        if name not in KNOBS:
            near = difflib.get_close_matches(name, KNOBS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the knobs are {', '.join(KNOBS)}."
            raise ConfigError(name, f"{path}: {name!r} is not a knob; {hint}")
    return values


def _parse(content: bytes, path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    try:
        return tomllib.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and TOMLDecodeError are ValueErrors
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ConfigError("", f"{path} cannot be read as TOML: {reason}.") from None
