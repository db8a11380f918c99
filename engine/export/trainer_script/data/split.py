"""Rows of a table without classes in the script: those to train on, and those held out."""

from __future__ import annotations

from engine.contract.config import RunConfig
from engine.contract.own_data import GENERATED
from engine.export.trainer_script.data.reading import Reading, opening_of, sizes
from engine.export.trainer_script.parts import Part


def split_part(config: RunConfig, reading: Reading, *, held_out: int | None, flat: bool = False) -> Part:
    """What makes `pool` and `held_out`, tables whose rows are in the order in which the run takes them.

    `held_out`: so many rows of the one table; None where the source has two parts of its own. `flat`: what stands in
    objects has columns of its own.
    """
    opening = opening_of(config, reading)
    constants = [*sizes(config), f"SAMPLES, EVAL_SAMPLES = {config.samples!r}, {config.eval_samples}  # None: all"]
    load = "load().flatten()" if flat else "load()"
    if held_out is not None:
        constants.append(f"HELD_OUT = {held_out}  # rows")
        main = [
            f"rows = {load}",
            "order = np.random.default_rng(SEED).permutation(len(rows))",
            "pool, held_out = rows.select(order[HELD_OUT:]), rows.select(order[:HELD_OUT])",
        ]
    elif config.data in (None, GENERATED):
        main = [
            f"rows = {load}",
            'pool = rows.filter(lambda row: row["part"] == "train")',
            'held_out = rows.filter(lambda row: row["part"] == "test")',
        ]
    else:
        shuffled = "part.flatten()" if flat else "part"
        main = [f"pool, held_out = ({shuffled}.shuffle(seed=SEED) for part in load())"]
    return Part(
        imports=(*opening.imports, "import numpy as np"),
        constants=(*constants, *opening.constants),
        functions=opening.functions,
        main=tuple(main),
        notes=opening.notes,
        needs=opening.needs,
    )
