"""Tokenised data kept between runs, by the content it was made from and the settings that matter.

One file for each: a zip of arrays with checksums, moved into place whole. A cache that is damaged or cannot be written
costs time and a note, never a run.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from engine.contract.paths import cache_dir
from engine.workloads.collate import Samples, Targets
from engine.workloads.files.unpacked import make_room

FORMAT = 3
"""Raise it when what is made from the same settings changes."""
LIMIT = 2**31
"""Bytes of all entries together; the ones not used for longest go first."""
_LOCKS: dict[Path, threading.Lock] = {}
"""By entry: held while its tokens are read or made."""
_LOCKS_LOCK = threading.Lock()
_SPECIAL = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token", "bos_token", "eos_token")
Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokenised:
    """Everything of a run's data that takes time to make."""

    train: Samples
    evaluation: Samples
    label_names: tuple[str, ...]
    """Empty for language models."""
    tokenizer: PreTrainedTokenizerFast | None
    """The one trained on this text; None where the model's own was used."""
    notes: tuple[str, ...]


class NotKeptError(Exception):
    """The tokens are not there, and were not to be made."""


def remembered(settings: dict[str, Any], make: Callable[[], Tokenised], *, makes: bool = True) -> Tokenised:
    """What `make` returned for these settings before, or what it returns now; its notes say which.

    `settings` are JSON values: the content's fingerprint and all that changes the tokens. A run and a forecast that
    need the same tokens at once make them once. Raises what `make` raises; without `makes`, `NotKeptError`.
    """
    file = entry_file(settings)
    with _LOCKS_LOCK:
        lock = _LOCKS.setdefault(file, threading.Lock())
    with lock:
        return _remembered(file, make, makes)


def _remembered(file: Path, make: Callable[[], Tokenised], makes: bool) -> Tokenised:
    notes: list[str] = []
    try:
        if file.is_file():
            found = _read(file)
            with suppress(OSError):
                os.utime(file)  # what is used stays longest
            return replace(found, notes=(*found.notes, "The tokens were made before, and are from the cache."))
    except Exception:  # zipfile, numpy, json and tokenizers each raise their own on damaged bytes
        notes.append("The tokens kept in the cache were damaged, and were made again.")
    if not makes:
        raise NotKeptError
    made = make()
    try:
        _write(file, made)
    except OSError as error:
        why = error.strerror or str(error)
        notes.append(f"The tokens could not be kept for the next run in {file.parent} ({why}).")
    return replace(made, notes=(*made.notes, *notes))


def entry_file(settings: dict[str, Any]) -> Path:
    """Where the tokens for these settings are kept."""
    libraries = {name: version(name) for name in ("tokenizers", "transformers")}
    words = json.dumps({"format": FORMAT, **libraries, **settings}, sort_keys=True)
    return cache_dir() / "tokens" / f"{hashlib.sha256(words.encode()).hexdigest()[:40]}.npz"


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """A digest of what a tokenizer makes of a text."""
    if isinstance(tokenizer, PreTrainedTokenizerFast):
        whole = json.loads(tokenizer.backend_tokenizer.to_str())
        # the last call's settings, not the tokenizer's
        words = json.dumps([{**whole, "truncation": None, "padding": None}, tokenizer.special_tokens_map], default=str)
    else:
        words = json.dumps([type(tokenizer).__name__, tokenizer.get_vocab(), repr(tokenizer)], sort_keys=True)
    return hashlib.sha256(words.encode()).hexdigest()


def _write(file: Path, made: Tokenised) -> None:
    """Raises `OSError`; then no file is left."""
    file.parent.mkdir(parents=True, exist_ok=True)
    arrays = {**_arrays("train", made.train), **_arrays("evaluation", made.evaluation)}
    arrays["about"] = np.frombuffer(json.dumps(_about(made)).encode(), dtype=np.uint8)
    handle, name = tempfile.mkstemp(prefix=".unfinished-", dir=file.parent)
    try:
        with os.fdopen(handle, "wb") as out:
            np.savez(out, allow_pickle=False, **arrays)
        os.replace(name, file)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise
    make_room(file.parent, LIMIT)


def _arrays(part: str, samples: Samples) -> Arrays:
    arrays: Arrays = {f"{part} sequence {name}": flat for name, flat in samples.sequences.items()}
    # a language model's labels are its tokens: the same array twice
    if samples.sequences.get("labels") is samples.sequences["input_ids"]:
        del arrays[f"{part} sequence labels"]
    arrays[f"{part} offsets"] = samples.offsets
    arrays |= {f"{part} scalar {name}": values for name, values in samples.scalars.items()}
    if samples.targets is not None:
        arrays[f"{part} targets"] = samples.targets.labels
        arrays[f"{part} target offsets"] = samples.targets.offsets
    return arrays


def _about(made: Tokenised) -> dict[str, Any]:
    about: dict[str, Any] = {"label_names": made.label_names, "notes": made.notes}
    about["labels_are_tokens"] = made.train.sequences.get("labels") is made.train.sequences["input_ids"]
    if made.tokenizer is not None:
        about["tokenizer"] = made.tokenizer.backend_tokenizer.to_str()
        about["special"] = {name: getattr(made.tokenizer, name) for name in _SPECIAL}
    return about


def _read(file: Path) -> Tokenised:
    """Raises one of many errors on a damaged file: each array has a checksum."""
    with np.load(file, allow_pickle=False) as opened:
        arrays: Arrays = {name: opened[name] for name in opened.files}
    about = json.loads(arrays["about"].tobytes())
    tokenizer = None
    if "tokenizer" in about:
        special = {name: token for name, token in about["special"].items() if token is not None}
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(about["tokenizer"]), **special)
    parts = [_samples(part, arrays, about["labels_are_tokens"]) for part in ("train", "evaluation")]
    return Tokenised(
        train=parts[0],
        evaluation=parts[1],
        label_names=tuple(about["label_names"]),
        tokenizer=tokenizer,
        notes=tuple(about["notes"]),
    )


def _samples(part: str, arrays: Arrays, labels_are_tokens: bool) -> Samples:
    sequences, scalars = _named(f"{part} sequence ", arrays), _named(f"{part} scalar ", arrays)
    offsets = arrays[f"{part} offsets"]
    if any(len(flat) != offsets[-1] for flat in sequences.values()):
        raise ValueError("arrays of different lengths")
    if labels_are_tokens:
        sequences["labels"] = sequences["input_ids"]
    targets = None
    if f"{part} targets" in arrays:
        targets = Targets(labels=arrays[f"{part} targets"], offsets=arrays[f"{part} target offsets"])
        if len(targets.offsets) != len(offsets) or len(targets.labels) != targets.offsets[-1]:
            raise ValueError("targets for other samples")
    return Samples(sequences, offsets, scalars, targets)


def _named(start: str, arrays: Arrays) -> Arrays:
    return {name.removeprefix(start): values for name, values in arrays.items() if name.startswith(start)}
