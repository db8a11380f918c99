"""From a run's knobs to the part of the script that makes its data, found out as the run does: by looking at it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from engine.contract.config import RunConfig
from engine.contract.own_data import GENERATED, is_own_file, suffix_of
from engine.export.trainer_script.data.documents import documents_part
from engine.export.trainer_script.data.dummy import dummy_part
from engine.export.trainer_script.data.instructions import instructions_part
from engine.export.trainer_script.data.masked import masked_part
from engine.export.trainer_script.data.pairs import pairs_part
from engine.export.trainer_script.data.reading import Reading
from engine.export.trainer_script.data.reviews import reviews_part
from engine.export.trainer_script.data.split import split_part
from engine.export.trainer_script.data.text import text_part
from engine.export.trainer_script.data.tokenizer import Tokenizer
from engine.export.trainer_script.model import location_of
from engine.export.trainer_script.order import hides_words
from engine.export.trainer_script.parts import Part

if TYPE_CHECKING:
    from engine.training.hub import Hub
    from engine.training.models import ModelSource
    from engine.workloads.prepared import PreparedData
    from engine.workloads.sources.source import Tables


def data_file(config: RunConfig) -> tuple[str, str]:
    """Name and content of the file with the generated rows, which belongs beside the script; empty where none does.

    The same name means the same rows.
    """
    if config.workload == "dummy" or config.data not in (None, GENERATED):
        return "", ""
    from engine.workloads.sources.made_up import made_up
    from engine.workloads.sources.source import n_generated

    kind, n = made_up(config), n_generated(config)
    name = f"traintop-{kind.name.replace(' ', '-')}-{config.seed}-{n}-{config.eval_samples}.jsonl"
    parts = (("train", n), ("test", config.eval_samples))
    rows = ({"part": part, **row} for part, wanted in parts for row in kind.make(config.seed, part, wanted))
    return name, "".join(json.dumps(row) + "\n" for row in rows)


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
    reading = _reading(config, hub, data_name)
    if config.workload == "reviews":
        return _reviews(config, reading, tokenizer, hub)
    if config.workload == "instructions":
        return _instructions(config, reading, tokenizer, hub)
    if config.task == "seq2seq-lm":
        return _pairs(config, reading, tokenizer, hub)
    return _text(config, reading, tokenizer, hub, data)


def _reviews(config: RunConfig, reading: Reading, tokenizer: Tokenizer, hub: Hub) -> Part:
    import numpy as np

    from engine.workloads.sources.rows import choose_rows
    from engine.workloads.sources.source import find_source

    found = find_source(config, hub)
    tables = found.open(lambda sentence: None)
    rows = choose_rows(tables, found, config)
    counts = np.bincount(rows.held_out.classes, minlength=len(rows.label_names)).tolist()
    return reviews_part(
        config,
        reading,
        tokenizer,
        columns=(rows.train.text_column, rows.label_column),
        spellings=rows.spellings,
        held_out=counts if tables.evaluation is None else None,
    )


def _instructions(config: RunConfig, reading: Reading, tokenizer: Tokenizer, hub: Hub) -> Part:
    from engine.workloads.kinds.instructions import choose_talks
    from engine.workloads.sources.source import find_source

    found = find_source(config, hub)
    tables = found.open(lambda sentence: None)
    rows = split_part(config, reading, held_out=_held_out(tables, config))
    return instructions_part(config, rows, tokenizer, choose_talks(tables, found, config).columns)


def _pairs(config: RunConfig, reading: Reading, tokenizer: Tokenizer, hub: Hub) -> Part:
    from engine.workloads.kinds.pairs import choose_pairs
    from engine.workloads.sources.pair_columns import flat
    from engine.workloads.sources.source import find_source

    found = find_source(config, hub)
    tables = found.open(lambda sentence: None)
    is_nested = flat(tables.train).column_names != tables.train.column_names
    rows = split_part(config, reading, held_out=_held_out(tables, config), flat=is_nested)
    return pairs_part(config, rows, tokenizer, choose_pairs(tables, found, config).columns)


def _held_out(tables: Tables, config: RunConfig) -> int | None:
    from engine.workloads.sources.split import n_held_out

    return n_held_out(len(tables.train), config) if tables.evaluation is None else None


def _text(config: RunConfig, reading: Reading, tokenizer: Tokenizer, hub: Hub, data: PreparedData) -> Part:
    from engine.workloads.kinds.text import end_of_text
    from engine.workloads.sources.documents import find_documents

    found = find_documents(config, hub).open()
    assert data.tokenizer is not None
    masked = hides_words(config)
    documents = documents_part(
        config,
        reading,
        column=found.column,
        border=found.border,
        end_token_id=None if masked else end_of_text(data.tokenizer),
    )
    if not masked:
        return text_part(config, documents, tokenizer)
    assert data.train.masking is not None
    return masked_part(config, documents, tokenizer, n_words=data.train.masking.n_words)


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
