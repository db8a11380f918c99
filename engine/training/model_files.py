"""A model's files, before anything reads them: plain JSON of a sane size, and safetensors weights in its own folder.

What is not a regular file is refused, and so are weights that an index names elsewhere or in another format: nothing is
ever unpickled.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from engine.contract.config import ConfigError

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
MAX_CONFIG_BYTES = 16 * 2**20
"""The largest real ones, with the names of 20,000 classes, have 1 MiB."""
MAX_INDEX_BYTES = 64 * 2**20
_OF_RANKS = re.compile(r"shard-\d+-model-\d+-of-\d+\.safetensors")
MAX_DEPTH = 32
"""Objects and arrays inside one another; real ones have 4."""


def read_config(name: str, file: Path) -> dict[str, Any]:
    """The object in a config.json. Raises `ConfigError`, which calls the model `name`."""
    return _read_object(name, file, MAX_CONFIG_BYTES)


def refused(name: str, problem: str, fix: str = "use another model") -> ConfigError:
    """A refusal of the model `name`."""
    return ConfigError("model", f"--model {name!r}: {problem}: {fix}.")


def _read_object(name: str, file: Path, most: int) -> dict[str, Any]:
    again = "save it with transformers again"
    try:
        if not file.is_file():
            raise refused(name, f"its {file.name} is not a regular file", "copy the file itself there")
        size = file.stat().st_size
        if size > most:
            raise refused(name, f"its {file.name} has {size / 2**20:,.0f} MiB, which no configuration has", again)
        found = json.loads(file.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise refused(name, f"its {file.name} cannot be read ({error.strerror})", "check the file") from None
    except UnicodeDecodeError as error:
        raise refused(name, f"its {file.name} is not UTF-8 (byte {error.start:,})", again) from None
    except RecursionError:
        raise refused(name, f"its {file.name} is nested too deep", again) from None
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        reason = "it is empty" if not size else f"it is not JSON, {error}"
        raise refused(name, f"its {file.name} cannot be used, {reason}", again) from None
    if not isinstance(found, dict):
        raise refused(name, f"its {file.name} holds no JSON object", again)
    if _deeper_than(found, MAX_DEPTH):
        raise refused(name, f"its {file.name} is nested too deep", again)
    return found


def _deeper_than(value: Any, levels: int) -> bool:
    if not isinstance(value, (dict, list)):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_deeper_than(each, levels - 1) for each in inner)


def weights_folder(name: str, location: str, *, local_only: bool) -> Path:
    """The folder that holds a model's safetensors weights, checked; those of a hub name are fetched into its cache.

    Raises `ConfigError`, which calls the model `name`, and `OSError` where the hub does not hand them out.
    """
    folder = Path(location)
    if not folder.is_dir():
        folder = _fetched(name, location, local_only)
    _check(name, folder)
    return folder


def _fetched(name: str, repository: str, local_only: bool) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    for file_name in (WEIGHTS, INDEX):
        try:
            file = Path(hf_hub_download(repository, file_name, local_files_only=local_only))
        except EntryNotFoundError as error:
            if isinstance(error, LocalEntryNotFoundError) and not local_only:
                raise  # the hub did not answer
            continue
        for shard in _shards(name, file) if file_name == INDEX else ():
            hf_hub_download(repository, shard, local_files_only=local_only)
        return file.parent
    raise refused(name, f"{repository} has no safetensors weights, and pickled ones are not read")


def _check(name: str, folder: Path) -> None:
    """Raises `ConfigError` unless loading this folder reads safetensors files in it and nothing else."""
    if (folder / "adapter_config.json").exists():
        # transformers would load it, and whatever model it names
        raise refused(
            name,
            "it holds an adapter (adapter_config.json), not a whole model",
            "merge it with peft's merge_and_unload and save the result",
        )
    if any(_OF_RANKS.fullmatch(file.name) for file in folder.iterdir()):
        # transformers would prefer it, and reads it with torch.distributed.checkpoint
        raise refused(name, "it holds a distributed checkpoint", "gather it with save_pretrained")
    shards = [WEIGHTS] if (folder / WEIGHTS).exists() else _shards(name, folder / INDEX)
    for shard in shards:
        if not (folder / shard).is_file():
            raise refused(name, f"its weights {shard!r} are not there", "get its files again")
        if not _is_inside(folder, folder / shard):
            raise refused(name, f"its weights {shard!r} are a link out of its folder", "copy the file itself there")


def _shards(name: str, index: Path) -> list[str]:
    """The files that an index names."""
    named = _read_object(name, index, MAX_INDEX_BYTES).get("weight_map")
    if not isinstance(named, dict) or not named:
        raise refused(name, f"its {index.name} names no files", "get its files again")
    shards = sorted({str(shard) for shard in named.values()})
    for shard in shards:
        if not shard.endswith(".safetensors") or "/" in shard or "\\" in shard or shard.startswith("."):
            raise refused(name, f"its {index.name} names {shard[:100]!r}, which is no safetensors file of its folder")
    return shards


def _is_inside(folder: Path, file: Path) -> bool:
    """True where a file lies in the folder, or in the blobs that a snapshot of the hub's cache is made of."""
    folder, file = folder.resolve(), file.resolve()
    homes = [folder]
    if folder.parent.name == "snapshots":
        homes.append(folder.parent.parent / "blobs")
    return file.parent in homes
