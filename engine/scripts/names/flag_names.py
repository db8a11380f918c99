"""Flags by which scripts say what they train, and what holds where they are silent: those of transformers' examples,
of its Trainer and of TRL. Standard library only.
"""

from __future__ import annotations

MODEL = ("model_name_or_path", "model_name", "model_id", "base_model", "pretrained_model_name_or_path", "config_name")
BATCH = (
    "per_device_train_batch_size",
    "train_batch_size",
    "per_gpu_train_batch_size",
    "micro_batch_size",
    "batch_size",
)
LENGTH = ("max_seq_length", "max_seq_len", "block_size", "max_source_length", "max_length", "cutoff_len", "seq_length")
TARGET = ("max_target_length",)
DTYPE = ("dtype", "torch_dtype")

TASKS = {
    r"(ForCausalLM|LMHeadModel)$": "causal-lm",
    r"ForMaskedLM$": "masked-lm",
    r"(ForSeq2SeqLM|ForConditionalGeneration)$": "seq2seq-lm",
    r"ForSequenceClassification$": "classification",
    r"ForTokenClassification$": "token-classification",
    r"ForQuestionAnswering$": "question-answering",
}
"""By the end of a model's class."""
TRAINERS = frozenset(("Trainer", "Seq2SeqTrainer", "SFTTrainer"))
OF_TRAINER: dict[str, object] = {
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "optim": "adamw_torch_fused",
    "max_grad_norm": 1.0,
}
"""As transformers' TrainingArguments has them since version 5."""
OF_SFT: dict[str, object] = {
    "gradient_checkpointing": True,
    "max_length": 1024,
    "dtype": "float32",
    "lora_r": 16,
    "lora_alpha": 32,
    "lora_dropout": 0.05,
    "bnb_4bit_quant_type": "nf4",
}
"""As TRL's SFTConfig and ModelConfig have them since version 1."""

OPTIMIZERS: dict[str, tuple[str, str]] = {
    "adamw_torch": ("adamw", "foreach"),
    "adamw_hf": ("adamw", "foreach"),
    "adamw_torch_fused": ("adamw", "fused"),
    "adafactor": ("adafactor", "foreach"),
    "sgd": ("sgd", "foreach"),
    "adamw_torch_8bit": ("adamw-8bit", "fused"),
    "adamw_8bit": ("adamw-8bit", "fused"),
    "adamw_bnb_8bit": ("adamw-8bit", "fused"),
    "paged_adamw_8bit": ("paged-adamw-8bit", "fused"),
}
"""Of `transformers.training_args.OptimizerNames`, those that are forecast, with ours."""
IN_SOURCE = {"AdamW": "adamw", "Adam": "adam", "SGD": "sgd", "Adafactor": "adafactor"}
"""Of a plain loop: the class that it makes."""
WEIGHTS = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
ATTENTION = {"eager": "eager", "sdpa": "sdpa"}

UNREAD = {
    "deepspeed": "DeepSpeed decides what each GPU holds",
    "fsdp": "FSDP decides what each GPU holds",
    "config_overrides": "it changes the model's shape",
    "use_dora": "DoRA is none of what is forecast",
}
"""Flags that change what is held, with why there is no forecast with them."""

CARRIED = (
    *("model", "task", "seq_len", "target_len", "batch_size", "gradient_accumulation_steps", "gradient_checkpointing"),
    *("weights", "precision", "optimizer", "optimizer_implementation", "momentum", "optimizer_in_backward"),
    *("lora_rank", "lora_targets", "lora_alpha", "lora_dropout", "cross_entropy", "activation_offloading"),
    *("torch_compile", "attention", "max_grad_norm", "dropout", "class_weights", "label_smoothing_factor"),
)
"""Knobs that memory or speed depends on: where a command has a placeholder for one, its value is known."""

LONGEST = 1024
"""Tokens of a sample where nothing says so, as transformers' examples cut them; an encoder has no more than 512."""
POSITIONS = ("max_position_embeddings", "n_positions", "max_sequence_length")
