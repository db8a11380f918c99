"""The script's model: the same architecture, weights and first random numbers as the run's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.contract.config import RunConfig
from engine.contract.tasks import TASKS
from engine.export.trainer_script.parts import Part, literal
from engine.export.trainer_script.quantised import quantised
from engine.models.catalogue import ARCHITECTURES, known

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from engine.training.models import ModelSource

_HEADS = {
    "classification": "AutoModelForSequenceClassification",
    "causal-lm": "AutoModelForCausalLM",
    "masked-lm": "AutoModelForMaskedLM",
    "seq2seq-lm": "AutoModelForSeq2SeqLM",
    "token-classification": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
}
_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
_NOT_SAID = frozenset(("id2label", "label2id", "dtype", "transformers_version", "_name_or_path", "architectures"))
"""Fields that transformers fills in by itself, or that are said in another way."""


def model_part(
    source: ModelSource,
    shaped: PretrainedConfig,
    config: RunConfig,
    *,
    trained_vocabulary: bool,
    lora_targets: str | list[str],
    kept: list[str],
) -> Part:
    """What makes `model` as `models.build` does of `shaped`, and keeps `dropout`, the state of the generator then.

    `lora_targets` is what peft calls `target_modules`; `kept` are the modules that are not quantised.
    """
    place, is_preset = location_of(source, config)
    changes = _changes(source.config, shaped)
    if TASKS[config.task].is_new_head:
        changes["num_labels"] = repr(shaped.num_labels)
    if trained_vocabulary and "vocab_size" in changes:
        changes["vocab_size"] = "len(tokenizer)"
    if is_preset:
        architecture = ARCHITECTURES[source.name.lower()]
        settings = {name: literal(value) for name, value in architecture.settings.items()} | changes
        made = [f"config = AutoConfig.for_model(\n    {literal(architecture.model_type)},\n{_keywords(settings)})"]
    else:
        made = [f"config = AutoConfig.from_pretrained(\n    MODEL,\n{_keywords(changes)})"]
    head = _HEADS[config.task]
    options = f"dtype=torch.{_DTYPES[config.stored_in]}" + _attention(config)
    if source.location is None:
        made.append(f"model = {head}.from_config(config, {options})")
        published = known(source.name)
        if published is not None and published.own_output and config.task == "seq2seq-lm":
            made.append("model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())")
    else:
        made.append(f"model = {head}.from_pretrained(MODEL, config=config, ignore_mismatched_sizes=True, {options})")
    if config.is_quantised:
        made = quantised(made, head, options, kept, config, is_fresh=source.location is None)
    made.append("model.accepts_loss_kwargs = False  # its loss is the mean over a batch")
    imports = ["import torch", f"from transformers import AutoConfig, {head}"]
    if config.is_quantised:
        imports.append("from transformers import BitsAndBytesConfig")
    if config.lora_rank:
        made += _LORA
        if config.precision == "fp16" and config.stored_in != "fp32":
            made += _UNSCALED
        imports += ["from peft import LoraConfig, get_peft_model", "from transformers.pytorch_utils import Conv1D"]
    main = [
        "torch.manual_seed(SEED)",
        *(line for text in made for line in text.splitlines()),
        "dropout = torch.get_rng_state()",
    ]
    return Part(
        imports=tuple(imports),
        constants=() if is_preset else (f"MODEL = {literal(place)}",),
        main=tuple(_filled(main, config, lora_targets)),
        needs=(*(("peft",) if config.lora_rank else ()), *(("bitsandbytes",) if config.is_quantised else ())),
    )


def location_of(source: ModelSource, config: RunConfig) -> tuple[str, bool]:
    """Where the configuration, and what else there is of the model, can be read; whether it is a preset without that.

    A folder by its whole path.
    """
    folder = Path(config.model).expanduser()
    if folder.is_dir():
        return str(folder.resolve()), False
    if source.name.lower() not in ARCHITECTURES:
        return source.location or source.name, False
    return (source.location, False) if source.location is not None else ("", True)


def _changes(before: PretrainedConfig, after: PretrainedConfig) -> dict[str, str]:
    """The fields in which the run's configuration differs, as source."""
    old, new = before.to_dict(), after.to_dict()
    return {
        name: literal(value)
        for name, value in new.items()
        if name not in _NOT_SAID and not name.startswith("_") and (name not in old or old[name] != value)
    }


def _keywords(values: dict[str, Any]) -> str:
    return "".join(f"    {name}={value},\n" for name, value in values.items())


def _attention(config: RunConfig) -> str:
    """As `engine.techniques.attention` asks transformers; auto is transformers' default."""
    taken = {"auto": None, "flash": "sdpa"}.get(config.attention, config.attention)
    return "" if taken is None else f", attn_implementation={literal(taken)}"


_LORA = (
    "heads = [",
    "    name",
    "    for name, child in model.named_children()",
    "    if name != model.base_model_prefix and any(True for _ in child.parameters())",
    "]",
    "lora = LoraConfig(",
    "    r=RANK,",
    "    lora_alpha=ALPHA,",
    "    lora_dropout=DROPOUT,",
    "    target_modules=TARGETS,",
    "    exclude_modules=HEADS,",
    "    modules_to_save=HEADS,  # a classifier is as a rule new: it is trained whole",
    "    fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),",
    ")",
    "model = get_peft_model(model, lora)",
    "model.accepts_loss_kwargs = False",
)


_UNSCALED = (
    "for parameter in model.parameters():  # gradients in fp16 cannot be unscaled",
    "    if parameter.requires_grad:",
    "        parameter.data = parameter.data.float()",
)


def _filled(lines: list[str], config: RunConfig, lora_targets: str | list[str]) -> list[str]:
    if not config.lora_rank:
        return lines
    from engine.techniques import lora

    is_new_head = TASKS[config.task].is_new_head
    if not is_new_head:
        start = lines.index("heads = [")
        lines = [*lines[:start], *lines[start + 5 :]]
    words = {
        "RANK": str(config.lora_rank),
        "ALPHA": str(lora.alpha(config)),
        "DROPOUT": str(lora.dropout(config)),
        "TARGETS": literal(lora_targets),
        "HEADS": "heads or None" if is_new_head else "None",
    }
    for word, value in words.items():
        lines = [line.replace(f"={word},", f"={value},") for line in lines]
    return lines
