"""LoRA: two thin trained matrices beside frozen ones of the encoder or decoder (Hu et al. 2021), by peft."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from engine.contract.config import ConfigError, RunConfig
from engine.contract.tasks import TASKS
from engine.process import gate
from engine.techniques import quantised

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel

Layers = dict[type["torch.nn.Module"], type["torch.nn.Module"]]
ALPHA_PER_RANK = 2
"""Of a run that sets no alpha: the thin matrices' product counts 2 times."""
ALL_LINEAR = "all-linear"
"""peft's name for every linear layer but the head."""


@gate.building()
def apply(model: PreTrainedModel, config: RunConfig, layers: Layers | None = None) -> PreTrainedModel | PeftModel:
    """Freeze the model but for a new head such as a classifier, and add matrices of `lora_rank` to `lora_targets`.

    The new weights follow torch's global generator; their product starts at 0, so the model computes what it did.
    They are in fp32, also beside weights of 16 bits, as peft keeps them (`autocast_adapter_dtype`).
    Apply it before checkpointing: peft makes a checkpointed model's embeddings ask for gradients. `layers`: by kinds
    of linear layers that peft does not know, its layers for them.
    Raises `ConfigError` where a rank is no saving or there is nothing to add to.
    """
    if config.lora_rank == 0:
        return model
    quantised.quiet()  # where its library is there, peft loads it for any model
    from peft import LoraConfig, get_peft_model
    from transformers.pytorch_utils import Conv1D

    hidden = model.config.get_text_config().hidden_size
    if config.lora_rank > hidden:
        raise ConfigError(
            "lora_rank",
            f"--lora-rank {config.lora_rank} is more than the hidden size {hidden} of {config.model}, so it would "
            f"train more than it saves: use --lora-rank {max(1, hidden // 4)} or less, or 0 to switch LoRA off.",
        )
    whole = heads(model) if TASKS[config.task].is_new_head else None
    settings = LoraConfig(
        r=config.lora_rank,
        lora_alpha=alpha(config),
        lora_dropout=dropout(config),
        target_modules=targets(model, config),
        exclude_modules=whole or None,
        modules_to_save=whole or None,  # a classifier is as a rule new: it is trained whole
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),  # GPT-2's are transposed
    )
    if layers is not None:
        settings._register_custom_module(layers)
    try:
        adapted: PeftModel = get_peft_model(model, settings)
    except ValueError as error:
        if settings.lora_dropout and "lora_dropout" in str(error):
            raise ConfigError(
                "lora_dropout",
                f"--lora-dropout {config.lora_dropout:g} cannot be used with {config.model}, whose experts' weights "
                "lie in one tensor each, from which peft drops nothing: use --lora-dropout 0, or --lora-targets "
                "without the experts.",
            ) from None
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        raise ConfigError(
            "lora_rank", f"--lora-rank cannot be used with {config.model} ({reason}): use --lora-rank 0."
        ) from None
    if config.precision == "fp16":
        for parameter in adapted.parameters():  # a classifier in 16 bits has gradients that cannot be unscaled
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
    return adapted


def alpha(config: RunConfig) -> int:
    """The run's `lora_alpha`."""
    return ALPHA_PER_RANK * config.lora_rank if config.lora_alpha is None else config.lora_alpha


def dropout(config: RunConfig) -> float:
    """The run's `lora_dropout`; 0 where it drops out nothing."""
    return config.lora_dropout if config.dropout else 0.0


def targets(model: PreTrainedModel, config: RunConfig) -> str | list[str]:
    """What peft calls `target_modules`: the names or ends of names of the run's `lora_targets`, or `all-linear`.

    For an architecture without a default of peft's that is all of them. Raises `ConfigError` on a name that no linear
    layer has.
    """
    if config.lora_targets == ALL_LINEAR:
        return ALL_LINEAR
    if config.lora_targets == "default":
        return _default(model) or ALL_LINEAR
    names = [name.strip() for name in config.lora_targets.split(",") if name.strip()]
    linear = list(_linear(model, config))
    for name in names:
        if not any(f".{path}".endswith(f".{name}") for path in linear):
            ends = list(dict.fromkeys(path.rsplit(".", 1)[-1] for path in linear))
            close = get_close_matches(name, ends, n=1)
            raise ConfigError(
                "lora_targets",
                f"--lora-targets {name!r} is no linear layer of {config.model}: "
                f"{f'did you mean {close[0]}? It has' if close else 'it has'} {', '.join(ends[:20])}.",
            )
    return names


def _default(model: Any) -> list[str] | str | None:
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING

    defaults: dict[str, Any] = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
    found: list[str] | str | None = defaults.get(model.config.model_type)
    return found


def _linear(model: PreTrainedModel, config: RunConfig) -> Iterator[str]:
    """Paths of the linear layers but the head."""
    import torch
    from transformers.pytorch_utils import Conv1D

    head, whole = model.get_output_embeddings(), heads(model) if TASKS[config.task].is_new_head else []
    for path, module in model.named_modules():
        if isinstance(module, (torch.nn.Linear, Conv1D)) and module is not head and path not in whole:
            yield path


def heads(model: PreTrainedModel) -> list[str]:
    """The modules beside the encoder or decoder: a classifier, and what some models have before it."""
    children: Any = model.named_children()
    return [
        name for name, child in children if name != model.base_model_prefix and any(True for _ in child.parameters())
    ]


def wraps_experts(model: torch.nn.Module) -> bool:
    """Whether matrices were added to stacked weights, such as experts, which peft computes anew in every forward."""
    return any(type(module).__name__ == "ParamWrapper" for module in model.modules())


def note(model: torch.nn.Module, config: RunConfig) -> str:
    """One sentence for the transcript: how many parameters are trained."""
    total, trained = quantised.n_parameters(model), quantised.n_parameters(model, trained=True)
    said = f"LoRA of rank {config.lora_rank}: {trained:,} of {total:,} parameters are trained ({trained / total:.2%})."
    settings: Any = model.config
    if config.lora_targets == "default" and _default(model) is None:
        said += f" peft has no default layers for {settings.model_type}: all linear ones have thin matrices."
    return said
