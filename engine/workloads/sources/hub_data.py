"""A data set of the Hugging Face hub, or its copy in the local cache -> a training table and, where it has one, a test
table. No code from a repository is ever run: `datasets` reads files only."""

from __future__ import annotations

import re
from typing import Protocol

import datasets

from engine.contract.config import ConfigError
from engine.contract.text import first_line
from engine.process import gate
from engine.workloads.files.plain_files import printable, quoted

_HELD_OUT = ("test", "validation", "valid", "dev")
_OTHER_NAMES = {"yelp_review_full": "Yelp/yelp_review_full", "Yelp/yelp_review_full": "yelp_review_full"}
"""The lecture's data set moved: a cache has it under the name that it was asked for."""


class HubLike(Protocol):
    """What is needed of `engine.training.hub.Hub`."""

    @property
    def problem(self) -> str:
        """Why only local files are used, as a clause."""

    def reachable(self) -> bool:
        """True when the hub answered."""


def open_hub(name: str, hub: HubLike | None) -> datasets.DatasetDict:
    """The splits of a data set, from the cache if it is there, else from the hub if that answers.

    Raises `ConfigError` when it is in neither, or holds no table.
    """
    path, _, config = name.partition(":")
    with gate.quiet_datasets():
        for known in (path, _OTHER_NAMES.get(path)):
            if known and (found := _cached(known, config or None)):
                return found
        if hub is None or not hub.reachable():
            raise ConfigError("data", _nowhere(name, hub))
        failure: Exception
        try:
            return _splits(datasets.load_dataset(path, config or None))
        except Exception as error:  # the hub, pyarrow and datasets raise a dozen unrelated kinds
            failure = error
    raise _explain(name, failure) from None


def _cached(path: str, config: str | None) -> datasets.DatasetDict | None:
    """What `load_dataset` falls back on when the hub is switched off, without the switch, which is the process's."""
    from datasets.packaged_modules.cache.cache import Cache

    try:
        builder = Cache(repo_id=path, dataset_name=path.split("/")[-1], config_name=config, version="auto", hash="auto")
        return _splits(builder.as_dataset())
    except Exception:  # not there, or damaged: the hub is asked instead
        return None


def _splits(found: object) -> datasets.DatasetDict:
    if not isinstance(found, datasets.DatasetDict):
        raise TypeError("it is no set of tables")
    return found


def _nowhere(name: str, hub: HubLike | None) -> str:
    problem = hub.problem if hub is not None else "the hub was not asked"
    return (
        f"--data {quoted(name)} is no file here and no data set in the hub's cache, and {problem}: give a file, "
        "or take --data generated."
    )


def _explain(name: str, error: Exception) -> ConfigError:
    reason, fix = printable(first_line(error))[:200].rstrip(" .:"), "check it on the hub, or use --data generated"
    if isinstance(error, datasets.exceptions.DatasetNotFoundError):
        reason = "is no file here, and the hub has no data set of that name that you may read"
        return ConfigError("data", f"--data {quoted(name)} {reason}: check the name, or log in with `hf auth login`.")
    if "Config name is missing" in str(error) or "BuilderConfig" in str(error):
        listed = re.search(r"\[(.*?)\]", str(error), re.DOTALL)
        reason = "has several configurations" + (f", {printable(listed[1])[:150]}" if listed else "")
        return ConfigError(
            "data", f"--data {quoted(name)} {reason}: name one, as in {quoted(name.split(':')[0])}:NAME."
        )
    if isinstance(error, OSError) and error.errno is not None:
        reason, fix = f"its files could not be saved ({error.strerror})", "free space, or set HF_HOME"
    return ConfigError("data", f"--data {quoted(name)} could not be loaded from the hub: {reason}; {fix}.")


def pick_splits(
    found: datasets.DatasetDict, name: str, label: str | None
) -> tuple[datasets.Dataset, datasets.Dataset | None]:
    """The training table, and the first split held out for scoring whose labels are known.

    `label` names the label column to look at, None when there is none. Raises `ConfigError` without a training split.
    """
    if "train" not in found and len(found) != 1:
        listed = ", ".join(quoted(split) for split in list(found)[:8])
        raise ConfigError("data", f"--data {quoted(name)} has no split 'train', only {listed}: use another data set.")
    train = found["train"] if "train" in found else next(iter(found.values()))
    for split in _HELD_OUT:
        table = found.get(split)
        if table is None or table is train or table.column_names != train.column_names or not len(table):
            continue
        # competitions publish their test part with the label -1 or none
        if label is None or label not in table.column_names or set(table.unique(label)) - {-1, None}:
            return train, table
    return train, None
