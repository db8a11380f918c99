"""What a model's config.json says, of a local folder or in the hub's cache; no network is asked. Standard library."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path


def setting_of(model: str, *names: str) -> str | None:
    """A field of a model's config.json, of a local folder or in the hub's cache; None where there is none."""
    for path in _config_files(model):
        try:
            read = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        for name in names:
            if isinstance(read, Mapping) and read.get(name) is not None:
                return str(read[name])
    return None


def _config_files(model: str) -> Iterator[Path]:
    yield Path(model).expanduser() / "config.json"
    home = os.environ.get("HF_HOME") or "~/.cache/huggingface"
    cache = Path(os.environ.get("HF_HUB_CACHE") or f"{home}/hub").expanduser()
    yield from sorted(cache.glob(f"models--{model.replace('/', '--')}/snapshots/*/config.json"))
