"""Weights in 8 or 4 bits beside which LoRA is trained: LLM.int8() (Dettmers et al. 2022) and nf4 (QLoRA, 2023).

By bitsandbytes, as transformers uses it: it quantises, multiplies and differentiates on CPUs and on CUDA. Only linear
layers are quantised; embeddings, norms and heads keep the type of the precision.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from engine.contract.config import ConfigError, RunConfig
from engine.contract.tasks import TASKS
from engine.tracing.quantised import LIBRARY, OUTLIER, n_values, tensors_of

if TYPE_CHECKING:
    import torch
    from transformers import BitsAndBytesConfig, PreTrainedModel

Build = Callable[["torch.nn.Module", "torch.Size"], "torch.nn.Module"]
"""From a linear layer, whose weight may be transposed, and (outputs, inputs) to the layer in its place."""


def quiet() -> None:
    """Keep the library's remarks on every product, and on kernels that this machine does not need, out of the log."""
    logging.getLogger(LIBRARY).setLevel(logging.ERROR)


def kept(model: PreTrainedModel, config: RunConfig) -> list[str]:
    """Names, or ends of them, of the modules that stay as they are: transformers' choice, and a new head.

    Such as a classifier, which is trained whole beside LoRA's matrices.
    """
    from transformers.quantizers.base import get_keys_to_not_convert

    from engine.techniques import lora

    names = {*get_keys_to_not_convert(model), *(model._keep_in_fp32_modules or ())}
    if TASKS[config.task].is_new_head:
        names |= set(lora.heads(model))
    return sorted(names)


def layers(model: PreTrainedModel, names: list[str]) -> Iterator[tuple[str, torch.nn.Module]]:
    """Paths and linear layers that are quantised where modules of `names` are not."""
    import torch
    from transformers.pytorch_utils import Conv1D
    from transformers.quantizers.quantizers_utils import should_convert_module

    for path, module in model.named_modules():
        is_linear = type(module) is torch.nn.Linear or isinstance(module, Conv1D)
        if is_linear and should_convert_module(path, names):
            yield path, module


def replace(model: PreTrainedModel, config: RunConfig, build: Build) -> None:
    """Put what `build` makes in the place of each layer that is quantised.

    Raises `ConfigError` where there is none.
    """
    quiet()
    from transformers.pytorch_utils import Conv1D

    found = list(layers(model, kept(model, config)))
    if not found:
        raise ConfigError(
            "weights",
            f"--weights {config.weights} finds no linear layer in {config.model}: use --weights bf16.",
        )
    for path, module in found:
        weight: Any = module.weight
        shape = weight.shape[::-1] if isinstance(module, Conv1D) else weight.shape
        model.set_submodule(path, build(module, shape))
    flag = "is_loaded_in_4bit" if config.weights == "nf4" else "is_loaded_in_8bit"
    setattr(model, flag, True)  # what peft looks at


def quantise(model: PreTrainedModel, config: RunConfig) -> None:
    """Quantise a model on the host, layer by layer."""
    replace(model, config, _four_bits if config.weights == "nf4" else _eight_bits)
    for_training(model)


def _four_bits(linear: torch.nn.Module, shape: torch.Size) -> torch.nn.Module:
    import torch
    from bitsandbytes.nn import Linear4bit, Params4bit

    values: Any = linear.weight
    options = {"compress_statistics": True, "quant_type": "nf4"}
    with torch.device("meta"):
        made: torch.nn.Module = Linear4bit(
            shape[1], shape[0], linear.bias is not None, compute_dtype=values.dtype, **options
        )
    weight = values.data.T if _is_transposed(linear) else values.data
    made.weight = Params4bit(weight, requires_grad=False, module=made, **options).to(values.device)
    made.bias = linear.bias
    vars(made)["source_cls"] = type(linear)  # as transformers notes it
    return made


def _eight_bits(linear: torch.nn.Module, shape: torch.Size) -> torch.nn.Module:
    import torch
    from bitsandbytes.nn import Int8Params, Linear8bitLt

    values: Any = linear.weight
    with torch.device("meta"):
        made: torch.nn.Module = Linear8bitLt(
            shape[1], shape[0], linear.bias is not None, has_fp16_weights=False, threshold=OUTLIER
        )
    weight = values.data.T if _is_transposed(linear) else values.data
    made.weight = Int8Params(weight, requires_grad=False, has_fp16_weights=False).to(values.device)
    made.bias = linear.bias
    vars(made)["source_cls"] = type(linear)  # as transformers notes it
    return made


def _is_transposed(linear: torch.nn.Module) -> bool:
    from transformers.pytorch_utils import Conv1D

    return isinstance(linear, Conv1D)


def loading(names: list[str], config: RunConfig, dtype: torch.dtype) -> BitsAndBytesConfig:
    """How transformers is to quantise weights while it reads them, all but modules of `names`."""
    from transformers import BitsAndBytesConfig

    quiet()
    if config.weights == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=OUTLIER, llm_int8_skip_modules=names)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=names,
    )


def for_training(model: torch.nn.Module) -> None:
    """Keep nf4 layers from packing their weights anew for a CPU when they score: that way has no gradients."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            vars(module)["support_avx512bf16_for_cpu"] = False


def n_parameters(model: torch.nn.Module, *, trained: bool = False) -> int:
    """Parameters of a model, or those that are trained; two that share a byte count as two."""
    return sum(n_values(p) for p in model.parameters() if p.requires_grad or not trained)


def n_bytes(model: torch.nn.Module) -> int:
    """What a model's parameters take, with the scales of those that are quantised."""
    return sum(sum(each.nbytes for each in tensors_of(p) or [p]) for p in model.parameters())


def note(model: torch.nn.Module, config: RunConfig) -> str | None:
    """One sentence for the transcript: how much is quantised, where that is not nearly all."""
    if not config.is_quantised:
        return None
    total = n_parameters(model)
    quantised = sum(n_values(p) for p in model.parameters() if not p.is_floating_point())
    others = f"embeddings, heads{' and experts' if _has_experts(model) else ''} as {config.stored_in}"
    if config.keeps_keys and config.stored_in == "fp32":
        others += ", and so are keys and values: --precision bf16 halves both"
    return f"{quantised:,} of {total:,} parameters are stored as {config.weights} ({quantised / total:.1%}); {others}."


def _has_experts(model: torch.nn.Module) -> bool:
    """Whether there are stacked weights, one matrix per expert: they are no linear layers."""
    return any(parameter.dim() == 3 for parameter in model.parameters())
