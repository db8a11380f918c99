"""A trained model in Hugging Face's format: whole, or as an adapter beside its base."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.contract.own_models import PREPARED
from engine.contract.records import RunRecord
from engine.techniques.dequantised import plain_state
from engine.training.model_files import INDEX, WEIGHTS, weights_folder
from engine.training.saving.model_card import Facts, card

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from engine.training.models import ModelSource

BASE = "base"
"""The folder of an adapter's base inside the adapter's, where it is given back."""
_PEFT = "base_model.model."
"""What peft puts before the names of a model's weights."""
_ADDED = re.compile(r"\.(?:base_layer|original_module)(?=\.)")
"""What peft puts into the names of the weights that it wraps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A model and what belongs to it."""

    model: PreTrainedModel
    """With LoRA peft's model around it."""
    source: ModelSource
    tokenizer: PreTrainedTokenizerBase | None
    label_names: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def is_adapter(self) -> bool:
        """Whether what was trained is matrices beside frozen weights."""
        return hasattr(self.model, "peft_config")

    @property
    def labels(self) -> dict[str, dict[Any, Any]]:
        """The fields of a configuration that name the classes; none where they have no names."""
        if not self.label_names:
            return {}
        names = dict(enumerate(self.label_names))
        return {"id2label": names, "label2id": {name: index for index, name in names.items()}}

    @property
    def brings_base(self) -> bool:
        """Whether an adapter's base is given back beside it.

        Weights that began as random numbers are nowhere else, and a classifier's names are in no published base.
        """
        return self.is_adapter and (self.source.location is None or bool(self.label_names))


def write_model(
    trained: Trained,
    record: RunRecord,
    kind: str,
    folder: Path,
    final: Path,
    state: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Write the model, its tokenizer and its card into `folder`, which becomes (or goes into) `final`.

    `state` are its weights where they are not in the model, by the names that they have there.

    Raises `OSError`, and what safetensors raises where the disk is full.
    """
    model: Any = trained.model
    base = str(final / BASE) if trained.brings_base else _location(trained.source)
    whole: Any = model.get_base_model() if trained.is_adapter else model
    with _as_used(whole, trained):
        if trained.is_adapter:
            adapter = model.peft_config["default"]
            adapter.base_model_name_or_path = base
            # auto would ask the hub for the base's vocabulary: it is not trained
            model.save_pretrained(str(folder), save_embedding_layers=False, state_dict=state)
            if trained.brings_base:
                _write_base(trained, whole, folder / BASE, state)
        else:
            whole.save_pretrained(str(folder), state_dict=state)
    if trained.tokenizer is not None:
        trained.tokenizer.save_pretrained(str(folder))
    config = record.config
    said = {
        "run": record.run_id,
        "update": record.updates,
        "task": config.task,
        "seq_len": config.seq_len,
        "text_column": config.text_column,
        "knobs": config.to_dict(),
    }
    (folder / PREPARED).write_text(json.dumps(said, indent=1), encoding="utf-8")
    facts = Facts(
        record=record,
        kind=kind,
        label_names=trained.label_names,
        notes=trained.notes,
        origin=_location(trained.source),
        base=base if trained.is_adapter else "",
        versions=versions(adapter=trained.is_adapter),
    )
    (folder / "README.md").write_text(card(facts), encoding="utf-8")


def versions(*, adapter: bool = False) -> dict[str, str]:
    """Of what a model's numbers depend on."""
    return {name: version(name) for name in ("torch", "transformers", *(["peft"] if adapter else []))}


def _location(source: ModelSource) -> str:
    """What others load the weights by: a name on the hub, or a folder; empty where there are none."""
    if source.location is None:
        return ""
    folder = Path(source.location)
    return str(folder.absolute()) if folder.is_dir() else source.location


@contextmanager
def _as_used(model: PreTrainedModel, trained: Trained) -> Iterator[None]:
    """The configuration as whoever uses the model wants it: labels' names, the cache on, a token that ends a text."""
    config: Any = model.config
    text, generation, tokenizer = config.get_text_config(), getattr(model, "generation_config", None), trained.tokenizer
    wanted: list[tuple[Any, Mapping[str, Any]]] = [(config, {"use_cache": True}), (text, {"use_cache": True})]
    wanted.append((config, trained.labels))
    if generation is not None:
        wanted.append((generation, {"use_cache": True}))
    if generation is not None and tokenizer is not None and text.eos_token_id is None:
        wanted.append((generation, {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": text.pad_token_id}))
    before: list[tuple[Any, str, Any]] = []
    for part, values in wanted:
        for name, value in values.items():
            if hasattr(part, name):
                before.append((part, name, getattr(part, name)))
                setattr(part, name, value)
    try:
        yield
    finally:
        for part, name, value in reversed(before):
            setattr(part, name, value)


def _write_base(
    trained: Trained, base: PreTrainedModel, folder: Path, state: Mapping[str, torch.Tensor] | None
) -> None:
    """The frozen model under an adapter, as it was before the adapter was added."""
    folder.mkdir()
    base.config.save_pretrained(str(folder))
    if trained.tokenizer is not None:
        trained.tokenizer.save_pretrained(str(folder))
    if trained.source.location is None:
        base.save_pretrained(str(folder), state_dict=_without_adapter(base, state))
        return
    source = weights_folder(trained.source.name, trained.source.location, local_only=True)
    for file in source.iterdir():
        if file.suffix == ".safetensors" or file.name == INDEX:
            _link_or_copy(file.resolve(), folder / file.name)
    if not any((folder / name).exists() for name in (WEIGHTS, INDEX)):
        raise OSError(None, "the base's weights are gone", str(source))


def _link_or_copy(file: Path, place: Path) -> None:
    """Weights of gigabytes are not written twice where the file system can do without."""
    try:
        os.link(file, place)
    except OSError:
        shutil.copyfile(file, place)


def _without_adapter(base: PreTrainedModel, state: Mapping[str, torch.Tensor] | None) -> dict[str, torch.Tensor]:
    """The weights under their own names, those that an adapter trains a copy of as they were.

    Quantised ones as what they stand for, with which whoever loads them begins.
    """
    own = {}
    whole = plain_state(base) if state is None else {name.removeprefix(_PEFT): each for name, each in state.items()}
    for name, tensor in whole.items():
        if "lora_" in name or ".modules_to_save." in name:
            continue
        own[_ADDED.sub("", name)] = tensor
    return own
