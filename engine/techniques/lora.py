"""LoRA: two thin trained matrices beside every frozen one of the encoder or decoder (Hu et al. 2021), by peft."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.contract.config import ConfigError, RunConfig
from engine.contract.tasks import TASKS
from engine.process import gate

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel

ALPHA_PER_RANK = 2
"""The thin matrices' product counts 2 times: alpha = 2 × rank."""


@gate.building()
def apply(model: PreTrainedModel, config: RunConfig) -> PreTrainedModel | PeftModel:
    """Freeze the model but for a new head such as a classifier, and add matrices of `lora_rank` to its linear layers.

    The new weights follow torch's global generator; their product starts at 0, so the model computes what it did.
    Apply it before checkpointing: peft makes a checkpointed model's embeddings ask for gradients.
    Raises `ConfigError` where a rank is no saving or there is nothing to add to.
    """
    if config.lora_rank == 0:
        return model
    from peft import LoraConfig, get_peft_model
    from transformers.pytorch_utils import Conv1D

    hidden = model.config.get_text_config().hidden_size
    if config.lora_rank > hidden:
        raise ConfigError(
            "lora_rank",
            f"--lora-rank {config.lora_rank} is more than the hidden size {hidden} of {config.model}, so it would "
            f"train more than it saves: use --lora-rank {max(1, hidden // 4)} or less, or 0 to switch LoRA off.",
        )
    heads = _heads(model) if TASKS[config.task].is_new_head else []
    settings = LoraConfig(
        r=config.lora_rank,
        lora_alpha=ALPHA_PER_RANK * config.lora_rank,
        lora_dropout=0.0,
        target_modules="all-linear",
        exclude_modules=heads or None,
        modules_to_save=heads or None,  # a classifier is as a rule new: it is trained whole
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),  # GPT-2's are transposed
    )
    try:
        adapted: PeftModel = get_peft_model(model, settings)
    except ValueError as error:
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        raise ConfigError(
            "lora_rank", f"--lora-rank cannot be used with {config.model} ({reason}): use --lora-rank 0."
        ) from None
    return adapted


def _heads(model: PreTrainedModel) -> list[str]:
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
    total = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return f"LoRA of rank {config.lora_rank}: {trained:,} of {total:,} parameters are trained ({trained / total:.2%})."
