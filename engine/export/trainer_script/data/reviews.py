"""Labelled texts in the script."""

from __future__ import annotations

from collections.abc import Sequence

from engine.contract.config import RunConfig
from engine.contract.own_data import GENERATED
from engine.export.trainer_script.data.reading import Reading, opening_of, sizes
from engine.export.trainer_script.data.tokenizer import Tokenizer, tokenizer_part
from engine.export.trainer_script.parts import Part, assigned, literal


def reviews_part(
    config: RunConfig,
    reading: Reading,
    tokenizer: Tokenizer,
    *,
    columns: tuple[str, str],
    spellings: dict[str, int],
    held_out: Sequence[int] | None,
) -> Part:
    """Rows, split and tokenised as `engine.workloads.kinds.reviews` does it.

    `columns`: text and label. `held_out`: rows of every class; None where the source has two parts of its own.
    """
    text, label = columns
    n_train, n_held_out = config.samples, config.eval_samples
    constants = [
        *sizes(config),
        f"TEXT, LABEL = {literal(text)}, {literal(label)}  # columns",
        *assigned("CLASSES", spellings),
        f"SAMPLES = {n_train!r}  # None: all",
    ]
    opening = opening_of(config, reading)
    constants += opening.constants
    functions = [*opening.functions, _LABELLED]
    if held_out is not None:
        constants += assigned("HELD_OUT", list(held_out), "  # rows of every class")
        functions.append(_SPLIT)
        main = [
            "pool, evaluation = split(labelled(load()))",
        ]
    elif config.data in (None, GENERATED):
        main = [
            "rows = labelled(load())",
            'pool = rows.filter(lambda row: row["part"] == "train")',
            'evaluation = rows.filter(lambda row: row["part"] == "test")',
        ]
    else:
        main = [
            "pool, evaluation = (labelled(part.shuffle(seed=SEED)) for part in load())",
            f"evaluation = evaluation.select(range(min({n_held_out}, len(evaluation))))",
        ]
    main.append("train = pool if SAMPLES is None else pool.select(range(min(SAMPLES, len(pool))))")
    part, made = tokenizer_part(tokenizer, "wordpiece", "[text for text in pool[:20_000][TEXT] if text]")
    functions.append(_TOKENISED)
    main += [*made, "train, evaluation = tokenised(train, tokenizer), tokenised(evaluation, tokenizer)"]
    return Part(
        imports=(
            *opening.imports,
            *part.imports,
            "from transformers import DataCollatorWithPadding",
            *(["import numpy as np"] if held_out is not None else []),
        ),
        constants=(*constants, *part.constants),
        functions=(*functions, *part.functions),
        main=tuple(main),
        notes=opening.notes,
        needs=opening.needs,
    )


_LABELLED = '''
def labelled(rows):
    """The rows that have a text and a class, with the class's number."""
    rows = rows.filter(lambda row: (row[TEXT] or "").strip() and str(row[LABEL]).strip() in CLASSES)
    return rows.map(lambda row: {"labels": CLASSES[str(row[LABEL]).strip()]})
'''
_SPLIT = '''
def split(rows):
    """Rows to train on and rows held out, shuffled, with every class's share in both."""
    classes = np.array(rows["labels"][:])
    generator = np.random.default_rng(SEED)
    members = [generator.permutation(np.flatnonzero(classes == i)) for i in range(len(HELD_OUT))]
    train = np.concatenate([rows_of[n:] for rows_of, n in zip(members, HELD_OUT)])
    held_out = np.concatenate([rows_of[:n] for rows_of, n in zip(members, HELD_OUT)])
    return rows.select(generator.permutation(train)), rows.select(generator.permutation(held_out))
'''
_TOKENISED = '''
def tokenised(rows, tokenizer):
    """Token ids and labels, each text cut at SEQ_LEN tokens."""
    return rows.map(
        lambda batch: dict(tokenizer(batch[TEXT], truncation=True, max_length=SEQ_LEN)),
        batched=True,
        remove_columns=[name for name in rows.column_names if name != "labels"],
    )
'''
