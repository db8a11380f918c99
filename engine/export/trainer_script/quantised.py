"""Quantised weights in the script: as the run quantises them, by transformers. Pure."""

from __future__ import annotations

from engine.contract.config import RunConfig
from engine.export.trainer_script.parts import literal

_OUTLIER = 6.0  # transformers' default, which is the run's


def quantised(
    made: list[str], head: str, options: str, kept: list[str], config: RunConfig, *, is_fresh: bool
) -> list[str]:
    """The lines that make a model, `made`, with its weights quantised but for those of modules of `kept`.

    transformers quantises what it reads: a fresh model is saved first.
    """
    how = [
        *(["load_in_8bit=True", f"llm_int8_threshold={_OUTLIER}"] if config.weights == "int8" else _NF4),
        f"llm_int8_skip_modules={literal(kept)}",
    ]
    lines = ["quantization = BitsAndBytesConfig(", *(f"    {each}," for each in how), ")"]
    lines = [line.replace("DTYPE", options.partition(",")[0].partition("=")[2]) for line in lines]
    more = 'quantization_config=quantization, device_map={"": 0 if torch.cuda.is_available() else "cpu"}'
    if is_fresh:
        lines = [*made, 'model.save_pretrained("fresh")', *lines]
        lines.append(f'model = {head}.from_pretrained("fresh", config=config, {options}, {more})')
    else:
        lines = [*made[:-1], *lines, made[-1].removesuffix(")") + f", {more})"]
    return [*lines, *_TRAINABLE]


_NF4 = [
    "load_in_4bit=True",
    'bnb_4bit_quant_type="nf4"',
    "bnb_4bit_use_double_quant=True",
    "bnb_4bit_compute_dtype=DTYPE",
]
_TRAINABLE = (
    "for module in model.modules():",
    '    if hasattr(module, "support_avx512bf16_for_cpu"):',
    "        module.support_avx512bf16_for_cpu = False  # scoring on a CPU would leave weights that cannot be trained",
)
