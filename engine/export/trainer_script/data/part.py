"""From a run's knobs to the part of the script that makes its data, found out as the run does: by looking at it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from engine.contract.config import RunConfig
from engine.contract.own_data import GENERATED, is_own_file, suffix_of
from engine.export.trainer_script.data.dummy import dummy_part
from engine.export.trainer_script.data.reading import Reading
from engine.export.trainer_script.data.reviews import generated_rows, reviews_part
from engine.export.trainer_script.data.text import text_part
from engine.export.trainer_script.data.tokenizer import Tokenizer
from engine.export.trainer_script.model import location_of
from engine.export.trainer_script.parts import Part

if TYPE_CHECKING:
    from engine.training.hub import Hub
    from engine.training.models import ModelSource
    from engine.workloads.prepared import PreparedData


def data_file(config: RunConfig) -> tuple[str, str]:
    """Name and content of the file with the generated rows, which belongs beside the script; empty where none does.

    The same name means the same rows.
    """
    if config.workload == "dummy" or config.data not in (None, GENERATED):
        return "", ""
    from engine.workloads.sources.source import n_generated

    n = n_generated(config)
    name = f"traintop-reviews-{config.seed}-{n}-{config.eval_samples}.jsonl"
    return name, generated_rows(config.seed, n, config.eval_samples)


def data_part(config: RunConfig, data: PreparedData, model: ModelSource, hub: Hub, data_name: str) -> Part:
    """What makes `train`, and `evaluation` where something is held out. `data_name`: of the file of `data_file`."""
    from engine.training import models
    from engine.workloads.tokens.vocabulary import vocabulary_size

    wanted = models.wants(model)
    if config.workload == "dummy":
        from engine.workloads.kinds.dummy import token_range

        return dummy_part(config, *token_range(wanted["model_vocab_size"]))
    place = location_of(model, config)[0] if model.tokenizer is not None else None
    tokenizer = Tokenizer(
        location=place, size=vocabulary_size(wanted["model_vocab_size"]), pad_token_id=data.pad_token_id
    )
    if config.workload == "reviews":
        return _reviews(config, tokenizer, hub, data_name)
    return _text(config, data, tokenizer, hub, data_name)


def _reviews(config: RunConfig, tokenizer: Tokenizer, hub: Hub, data_name: str) -> Part:
    import numpy as np

    from engine.workloads.sources.rows import choose_rows
    from engine.workloads.sources.source import find_source

    found = find_source(config, hub)
    tables = found.open(lambda sentence: None)
    rows = choose_rows(tables, found, config)
    counts = np.bincount(rows.held_out.classes, minlength=len(rows.label_names)).tolist()
    return reviews_part(
        config,
        _reading(config, hub, data_name),
        tokenizer,
        columns=(rows.train.text_column, rows.label_column),
        spellings=rows.spellings,
        held_out=counts if tables.evaluation is None else None,
    )


def _text(config: RunConfig, data: PreparedData, tokenizer: Tokenizer, hub: Hub, data_name: str) -> Part:
    from engine.workloads.kinds.text import end_of_text
    from engine.workloads.sources.documents import find_documents

    documents = find_documents(config, hub).open()
    assert data.tokenizer is not None
    return text_part(
        config,
        _reading(config, hub, data_name),
        tokenizer,
        column=documents.column,
        border=documents.border,
        end_token_id=end_of_text(data.tokenizer),
    )


def _reading(config: RunConfig, hub: Hub, data_name: str) -> Reading:
    data = config.data
    if data is None or data_name:
        return Reading(generated_file=data_name)
    if is_own_file(config.workload, data) or Path(data).expanduser().exists():
        from engine.workloads.files.tables import opened

        is_table = suffix_of(data) not in (".txt", ".text")
        return Reading(layout=opened(data).layout if is_table else None)
    from engine.workloads.sources.source import hub_splits

    return Reading(splits=hub_splits(data, config, hub))
