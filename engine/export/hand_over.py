"""A run to take elsewhere: as a command line of traintop, and as `transformers.TrainingArguments`.

Standard library only; nothing here is executed, and text from configurations is quoted for its reader.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from string import ascii_letters, digits

from engine.contract.config import KNOBS, RunConfig, Value
from engine.contract.knob import typed
from engine.contract.own_data import is_own_file
from engine.contract.presets import PRESETS
from engine.contract.text import one_line


def command_line(config: RunConfig) -> str:
    """The command that does this run again: `traintop run --batch-size 16 …` with the knobs that are not at default.

    It is quoted for a POSIX shell (control characters as `$'\\033'`: bash, zsh, ksh), and safe to paste.
    """
    return " ".join(("traintop run", *_words(config)))


def flags_of(config: RunConfig) -> str:
    """The flags that make `config` out of the defaults, quoted as `command_line`'s; empty for the defaults."""
    return " ".join(_words(config))


def _words(config: RunConfig) -> Iterator[str]:
    default = RunConfig()
    own_file = is_own_file(config.workload, config.data)
    for name, knob in KNOBS.items():
        value = getattr(config, name)
        # a file of data implies another workload than the default one
        implied = name == "workload" and config.data is not None
        unset = None if name == "samples" and own_file else getattr(default, name)
        if value == unset and not implied:
            continue
        text = typed(value)
        # a word with a leading dash would be taken for a flag
        yield f"{knob.flag}={_quoted(text)}" if text.startswith("-") else f"{knob.flag} {_quoted(text)}"


def _quoted(text: str) -> str:
    """A shell word; what a terminal would obey when it is pasted is written in escapes."""
    if text.isprintable():
        return shlex.quote(text)
    text = text.replace("\0", "\ufffd")  # no argument can hold it
    try:
        raw = text.encode("utf-8", "surrogateescape")  # file names that are not UTF-8
    except UnicodeEncodeError:
        raw = text.encode("utf-8", "replace")
    return "$'" + "".join(chr(byte) if byte in _PLAIN else f"\\{byte:03o}" for byte in raw) + "'"


_PLAIN = frozenset(f"{ascii_letters}{digits}/._- ".encode())


def training_arguments(config: RunConfig) -> str:
    """Python source that makes `arguments = TrainingArguments(…)` of equal meaning (transformers 5.20 or newer).

    What TrainingArguments cannot say (model, data, attention, …) stands above it in comments.
    """
    comments = "".join(f"# {one_line(line)}\n" for line in _beyond(config))
    arguments = "".join(f"    {name}={value!r},\n" for name, value in _arguments(config).items())
    return f"from transformers import TrainingArguments\n\n{comments}arguments = TrainingArguments(\n{arguments})\n"


def _arguments(config: RunConfig) -> dict[str, Value | dict[str, Value]]:
    values: dict[str, Value | dict[str, Value]] = {
        "output_dir": "traintop",
        "per_device_train_batch_size": config.batch_size,
        "per_device_eval_batch_size": config.batch_size,
        "gradient_accumulation_steps": config.gradient_accumulation_steps,
        **_checkpointing(config),
        "bf16": config.precision == "bf16",
        "fp16": config.precision == "fp16",
        "tf32": config.precision == "tf32",
        "optim": _optimizer(config),
        "weight_decay": 0.0,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": config.lr_scheduler,
        "max_grad_norm": config.max_grad_norm,
        "num_train_epochs": config.epochs,
        "seed": config.seed,
        "data_seed": config.seed,
        "torch_compile": config.torch_compile,
        "dataloader_num_workers": config.dataloader_num_workers,
        "dataloader_pin_memory": config.dataloader_pin_memory,
        **_workers(config),
        "eval_strategy": "no" if config.workload == "dummy" else "epoch",
        "save_strategy": "no",
        "report_to": "none",
    }
    return values | ({"use_cpu": True} if config.device == "cpu" else {})


def _checkpointing(config: RunConfig) -> dict[str, Value | dict[str, Value]]:
    if config.gradient_checkpointing == "off":
        return {"activation_checkpointing": False}
    options: dict[str, Value] = {"use_reentrant": False}
    if config.gradient_checkpointing == "every-second":
        options["every_n_layers"] = 2
    return {"activation_checkpointing": True, "activation_checkpointing_kwargs": options}


def _workers(config: RunConfig) -> dict[str, Value]:
    """Options of worker processes; TrainingArguments refuses a prefetch factor without workers."""
    if not config.dataloader_num_workers:
        return {}
    return {
        "dataloader_prefetch_factor": config.dataloader_prefetch_factor,
        "dataloader_persistent_workers": True,
        "dataloader_multiprocessing_context": "forkserver",
    }


def _optimizer(config: RunConfig) -> str:
    """The nearest of `transformers.training_args.OptimizerNames`; `_beyond` tells where it is not the same."""
    if config.optimizer in ("adamw", "adam"):
        return "adamw_torch_fused" if config.optimizer_implementation == "fused" else "adamw_torch"
    return {"adamw-8bit": "adamw_torch_8bit"}.get(config.optimizer, config.optimizer)


_HEADS = {
    "classification": "AutoModelForSequenceClassification",
    "causal-lm": "AutoModelForCausalLM",
    "seq2seq-lm": "AutoModelForSeq2SeqLM",
}


def _beyond(config: RunConfig) -> list[str]:
    """What TrainingArguments cannot say, a line each."""
    preset = PRESETS.get(config.model)
    name = preset.hub_name if preset else config.model
    options = f"{_attention(config)}dtype=torch.float32"
    lines = [
        "Not among the arguments:",
        f"model: {_HEADS.get(config.task, config.task)}.from_pretrained({name!r}, {options})",
        f"data: {_data(config)}",
    ]
    if not config.dropout:
        lines.append("dropout: off; set every dropout probability of the model's config to 0")
    if config.non_finite_loss == "stop":
        lines.append("non-finite loss: the Trainer goes on; a callback's on_log can set control.should_training_stop")
    if config.lora_rank:
        lines.append(f"LoRA: peft.get_peft_model(model, LoraConfig(r={config.lora_rank})) before the Trainer")
    if config.gradient_accumulation_steps > 1:
        lines.append(
            "loop: set model.accepts_loss_kwargs = False, else transformers 5 may sum a window's gradients, not average"
        )
    if config.gradient_checkpointing != "off":
        lines.append("before transformers 5: gradient_checkpointing and gradient_checkpointing_kwargs")
    return [*lines, *_optimizer_lines(config), f"device: {_device(config)}"]


def _attention(config: RunConfig) -> str:
    if config.attention == "auto":
        return ""  # transformers' default has the same meaning
    if config.attention == "flash":
        return "attn_implementation='sdpa' (under torch.nn.attention.sdpa_kernel(SDPBackend.FLASH_ATTENTION)), "
    return f"attn_implementation={config.attention!r}, "


def _data(config: RunConfig) -> str:
    if config.workload == "dummy":
        return f"{config.samples} samples × {config.seq_len} random tokens (traintop's dummy workload)"
    names = {"file": config.data, "text column": config.text_column, "label column": config.label_column}
    named = "".join(f", {label} {name!r}" for label, name in names.items() if name is not None)
    many = "all" if config.samples is None else config.samples
    return (
        f"workload {config.workload}{named}; {many} samples to train on and up to "
        f"{config.eval_samples} held out; tokenizer(…, truncation=True, max_length={config.seq_len}, "
        f"padding={config.padding!r})"
    )


def _optimizer_lines(config: RunConfig) -> list[str]:
    lines = []
    if config.optimizer == "adam":
        lines.append("optimizer: Adam, which is AdamW where there is no weight decay")
    # torch takes foreach by itself on a GPU; TrainingArguments can ask for fused AdamW only
    native = "fused" if config.optimizer in ("adamw", "adam") else "foreach"
    if config.optimizer in ("adamw", "adam", "sgd") and config.optimizer_implementation not in (native, "foreach"):
        how = {"fused": "fused=True", "loop": "foreach=False"}.get(config.optimizer_implementation, "")
        lines.append(f"optimizer implementation: {config.optimizer_implementation}; pass an optimizer made with {how}")
    if config.optimizer_in_backward:
        lines.append("optimizer in backward: the Trainer has none; its peak memory is higher by the gradients")
    return lines


def _device(config: RunConfig) -> str:
    kind, _, which = config.device.partition(":")
    if kind == "cpu":
        return "the CPU"
    if kind == "virtual":
        text = f"a virtual {which}; the Trainer needs the real GPU"
    else:
        text = f"one GPU; the Trainer takes all that it sees, so start it with CUDA_VISIBLE_DEVICES={which or 0}"
    return text if config.vram_limit is None else f"{text}; at most {config.vram_limit} MiB of its memory"
