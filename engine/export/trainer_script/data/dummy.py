"""Random tokens in the script."""

from __future__ import annotations

from engine.contract.config import RunConfig
from engine.contract.tasks import IGNORED
from engine.export.trainer_script.data.reading import sizes
from engine.export.trainer_script.parts import Part


def dummy_part(config: RunConfig, low: int, high: int) -> Part:
    """The lecture's random tokens, as `engine.workloads.kinds.dummy` draws them from [low, high)."""
    from engine.workloads.kinds.dummy import MASKED, N_TAGS

    labels = {
        "classification": {"labels": "generator.integers(0, 1, SAMPLES)"},
        "causal-lm": {"labels": "input_ids"},
        "masked-lm": {
            "labels": f"np.where(generator.random((SAMPLES, SEQ_LEN)) < {MASKED}, input_ids, np.int32({IGNORED}))"
        },
        "seq2seq-lm": {"labels": f"generator.integers({low}, {high}, (SAMPLES, TARGET_LEN), dtype=np.int32)"},
        "token-classification": {"labels": f"generator.integers(0, {N_TAGS}, (SAMPLES, SEQ_LEN), dtype=np.int32)"},
        "question-answering": {
            "start_positions": "generator.integers(0, SEQ_LEN, SAMPLES)",
            "end_positions": "generator.integers(start_positions, SEQ_LEN)",
        },
    }[config.task]
    drawn = "\n".join(f"    {name} = {code}" for name, code in labels.items())
    columns = ", ".join(f'"{name}": {name}' for name in ("input_ids", *labels))
    target = (f"TARGET_LEN = {config.target_tokens}  # tokens",) if config.target_tokens else ()
    return Part(
        imports=(
            "import numpy as np",
            "from datasets import Dataset",
            "from transformers import default_data_collator",
        ),
        constants=(*sizes(config), *target, f"SAMPLES = {config.n_samples}"),
        functions=(
            f"""
def load():
    \"\"\"Random tokens, to measure what training costs and nothing else.\"\"\"
    generator = np.random.default_rng(SEED)
    input_ids = generator.integers({low}, {high}, (SAMPLES, SEQ_LEN), dtype=np.int32)
{drawn}
    return Dataset.from_dict({{{columns}}})
""",
        ),
        main=("train = load()",),
    )
