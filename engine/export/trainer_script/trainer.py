"""The script's TrainingArguments and its Trainer, and what it says where the Trainer does otherwise. Pure."""

from __future__ import annotations

from engine.contract.batching import is_padded
from engine.contract.config import ConfigError, RunConfig
from engine.contract.device_name import DeviceName, read_device
from engine.contract.tasks import TASKS
from engine.contract.text import one_line
from engine.export.trainer_script import several
from engine.export.trainer_script.parts import Part, literal

Code = str
"""Source of an expression."""


def trainer_part(config: RunConfig, *, collator: Code, held_out: bool, base: str) -> Part:
    """What trains: `model`, `tokenizer`, `train` and `evaluation` are there by then.

    `collator` makes batches; `base` is the kind of Trainer.
    """
    own = _own_optimizer(config)
    several.check(config, own)
    classes = config.task == "classification"
    arguments = "".join(f"    {name}={value},\n" for name, value in arguments_of(config, held_out=held_out).items())
    given = {
        "model": "model",
        "args": "arguments",
        "data_collator": collator,
        "train_dataset": "train",
        **({"eval_dataset": "evaluation"} if held_out else {}),
        **({"compute_metrics": "metrics"} if held_out and classes else {}),
        "callbacks": f"[{', '.join(_callbacks(config, held_out=held_out))}]",
        **({"optimizers": f"({own}, None)"} if own else {}),
    }
    several_windows = config.gradient_accumulation_steps > 1 or config.is_parallel
    by_labels = TASKS[config.task].is_divided_by_labels and several_windows
    kind = "PerLabelTrainer" if by_labels else base
    main = [
        *f"arguments = TrainingArguments(\n{arguments})".splitlines(),
        f"trainer = {kind}(",
        *(f"    {name}={value}," for name, value in given.items()),
        ")",
        *_training(config),
        "trainer.save_state()  # trainer_state.json has the loss of every update",
        *_model(config),
    ]
    functions = [_SAME_DROPOUT]
    if _stops(config):
        functions.append(_STOP)
    if held_out and classes:
        functions.append(_METRICS)
    if "grouped(" in own:
        functions.append(_GROUPED)
    if by_labels:
        counted = "labels[:, 1:]" if TASKS[config.task].shifts else "labels"
        functions.append(_per_label(config).replace("BASE", base).replace("COUNTED", counted))
    imports = ["import torch", "from transformers import Trainer, TrainerCallback, TrainingArguments"]
    if held_out and classes:
        imports.append("import numpy as np")
    if held_out and config.early_stopping_patience:
        imports.append("from transformers import EarlyStoppingCallback")
    if _stops(config):
        imports.append("import math")
    if config.attention == "flash":
        imports.append("from torch.nn.attention import SDPBackend, sdpa_kernel")
    return Part(
        imports=tuple(imports),
        functions=tuple(functions),
        main=tuple(main),
        notes=tuple(_notes(config)),
        needs=_PACKAGES.get(config.optimizer, ()),
    )


def device_of(config: RunConfig) -> DeviceName:
    """Where a run was to be; what only another version knows is taken for the first GPU."""
    try:
        return read_device(config.device)
    except ConfigError:
        return DeviceName(kind="auto")


def arguments_of(config: RunConfig, *, held_out: bool) -> dict[str, Code]:
    """The TrainingArguments of equal meaning, where they are not the default (transformers 5.20 or newer)."""
    values: dict[str, object] = {
        "output_dir": config.output_dir or "trained",
        "per_device_train_batch_size": config.batch_size,
        "per_device_eval_batch_size": config.batch_size,
        "gradient_accumulation_steps": config.gradient_accumulation_steps,
        **_checkpointing(config),
        "optim": _optimizer(config),
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": _schedule(config),
        **({"warmup_steps": _number(config.warmup_steps)} if config.warmup_steps else {}),
        "weight_decay": config.weight_decay,
        **_smoothing(config),
        "max_grad_norm": config.max_grad_norm,
        "num_train_epochs": config.epochs,
        "seed": config.seed,
        "data_seed": config.seed,
        **({config.precision: True} if config.precision in ("bf16", "fp16") else {}),
        **({"torch_compile": True} if config.torch_compile else {}),
        "dataloader_num_workers": config.dataloader_num_workers,
        "dataloader_pin_memory": config.dataloader_pin_memory and device_of(config).kind in ("cuda", "auto"),
        **_workers(config),
        **_evaluation(config, held_out=held_out),
        **_checkpoints(config),
        **several.arguments(config),
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "remove_unused_columns": False,
        "report_to": "none",
        **({"use_cpu": True} if config.device == "cpu" else {}),
    }
    code = {name: literal(value) for name, value in values.items()}
    if config.precision == "tf32":
        code["tf32"] = "torch.cuda.is_available()"
    if config.is_parallel:  # without it, processes on a machine without a GPU train apart from each other
        code["use_cpu"] = "not torch.cuda.is_available()"
    return code


def _checkpointing(config: RunConfig) -> dict[str, object]:
    if config.gradient_checkpointing == "off":
        return {}
    options: dict[str, object] = {"use_reentrant": False}
    if config.gradient_checkpointing == "every-second":
        options["every_n_layers"] = 2
    return {"activation_checkpointing": True, "activation_checkpointing_kwargs": options}


def _schedule(config: RunConfig) -> str:
    """By the name that has a warm-up, where there is one."""
    return "constant_with_warmup" if config.lr_scheduler == "constant" and config.warmup_steps else config.lr_scheduler


def _number(value: float) -> float | int:
    return int(value) if value >= 1 else value


def _smoothing(config: RunConfig) -> dict[str, object]:
    """Nothing where the model's loss is replaced, which smooths the labels too."""
    if config.class_weights != "none" or not config.label_smoothing_factor:
        return {}
    return {"label_smoothing_factor": config.label_smoothing_factor}


def _evaluation(config: RunConfig, *, held_out: bool) -> dict[str, object]:
    if not held_out:
        return {"eval_strategy": "no"}
    every = {"eval_strategy": "epoch"} if config.eval_steps is None else {"eval_strategy": "steps"}
    return {
        **every,
        **({} if config.eval_steps is None else {"eval_steps": config.eval_steps}),
        "metric_for_best_model": config.metric_for_best_model.replace("-", "_"),
        "greater_is_better": config.metric_for_best_model != "loss",
    }


def _callbacks(config: RunConfig, *, held_out: bool) -> list[Code]:
    callbacks = ["SameDropout(dropout)"]
    if _stops(config):
        callbacks.append("StopAtNonFiniteLoss()")
    if held_out and config.early_stopping_patience:
        callbacks.append(f"EarlyStoppingCallback({config.early_stopping_patience}, {config.early_stopping_threshold})")
    return callbacks


def _checkpoints(config: RunConfig) -> dict[str, object]:
    if not config.save_steps:
        return {"save_strategy": "no"}
    limit = {"save_total_limit": config.save_total_limit} if config.save_total_limit else {}
    return {"save_strategy": "steps", "save_steps": config.save_steps, **limit}


def _model(config: RunConfig) -> list[str]:
    """What keeps the trained model."""
    if config.output_dir is None:
        return []
    tokenizer = [] if config.workload == "dummy" else ["tokenizer.save_pretrained(arguments.output_dir)"]
    return ["trainer.save_model()", *tokenizer]


def _workers(config: RunConfig) -> dict[str, object]:
    """Options of worker processes; TrainingArguments refuses a prefetch factor without workers."""
    if not config.dataloader_num_workers:
        return {}
    return {
        "dataloader_prefetch_factor": config.dataloader_prefetch_factor,
        "dataloader_persistent_workers": True,
        "dataloader_multiprocessing_context": "forkserver",
    }


def _optimizer(config: RunConfig) -> str:
    """The nearest of `transformers.training_args.OptimizerNames`; `_own_optimizer` makes what has no name there."""
    if config.optimizer in ("adamw", "adam"):
        return "adamw_torch_fused" if config.optimizer_implementation == "fused" else "adamw_torch"
    return _NAMES.get(config.optimizer, config.optimizer)


_NAMES = {"adamw-8bit": "adamw_torch_8bit", "paged-adamw-8bit": "paged_adamw_8bit"}
_PACKAGES = {"adamw-8bit": ("torchao",), "paged-adamw-8bit": ("bitsandbytes",)}


def _own_optimizer(config: RunConfig) -> Code:
    """An optimizer that no name of the Trainer stands for; empty where one does.

    With FSDP the Trainer takes none but by name: then only what has other figures needs one.
    """
    by_name = config.is_parallel and config.parallel == "fsdp"
    if by_name and not config.momentum and not (config.optimizer == "adam" and config.weight_decay):
        return ""
    how = {"fused": "fused=True", "loop": "foreach=False, fused=False"}.get(config.optimizer_implementation, "")
    what = f"grouped(model, {config.weight_decay!r})" if config.weight_decay else "trained_of(model)"
    is_adamw = config.optimizer == "adamw" or (config.optimizer == "adam" and not config.weight_decay)
    if config.optimizer in ("adamw", "adam") and (config.optimizer_implementation == "loop" or not is_adamw):
        kind = "AdamW" if config.optimizer == "adamw" else "Adam"
        return f"torch.optim.{kind}({what}, lr={config.learning_rate!r}, weight_decay=0.0, {how or 'foreach=True'})"
    if config.optimizer == "sgd" and (how or config.momentum):
        options = [f"lr={config.learning_rate!r}", *([f"momentum={config.momentum!r}"] if config.momentum else []), how]
        return f"torch.optim.SGD({what}, {', '.join(filter(None, options))})"
    return ""


def _stops(config: RunConfig) -> bool:
    return config.non_finite_loss == "stop"


def _training(config: RunConfig) -> list[str]:
    if config.attention == "flash":
        return ["with sdpa_kernel(SDPBackend.FLASH_ATTENTION):", "    trainer.train()"]
    return ["trainer.train()"]


_SAME_DROPOUT = '''
class SameDropout(TrainerCallback):
    """Keeps the random numbers of dropout apart from those that the Trainer and its data loaders draw."""

    def __init__(self, state):
        self.state = state

    def on_step_begin(self, args, state, control, **kwargs):
        torch.set_rng_state(self.state)

    def on_step_end(self, args, state, control, **kwargs):
        self.state = torch.get_rng_state()
'''
_STOP = '''
class StopAtNonFiniteLoss(TrainerCallback):
    """Ends the training where a loss is nan or infinite."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        if logs and not math.isfinite(float(logs.get("loss", 0.0))):
            control.should_training_stop = True
'''
_METRICS = '''
def metrics(predicted):
    """By the largest logit: the share of held-out samples that are right, and the mean of the classes' F1."""
    logits = predicted.predictions[0] if isinstance(predicted.predictions, tuple) else predicted.predictions
    answers, labels = logits.argmax(-1), predicted.label_ids
    f1 = [
        2 * ((answers == label) & (labels == label)).sum() / ((answers == label).sum() + (labels == label).sum())
        for label in np.union1d(answers, labels)
    ]
    return {"accuracy": float((answers == labels).mean()), "macro_f1": float(np.mean(f1))}
'''
_GROUPED = '''
def grouped(model, weight_decay):
    """The parameters that are trained, in the Trainer's two groups."""
    decaying = set(Trainer.get_decay_parameter_names(None, model))
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    return [
        {"params": [p for name, p in trained if name in decaying], "weight_decay": weight_decay},
        {"params": [p for name, p in trained if name not in decaying], "weight_decay": 0.0},
    ]
'''
TRAINED_OF = '''
def trained_of(model):
    """The parameters that are trained."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]
'''


def _per_label(config: RunConfig) -> str:
    """With several processes the labels of all count, and gradients are the mean of theirs."""
    if not config.is_parallel:
        return _PER_LABEL
    own, scaled = 'sum(n_labels(batch["labels"]) for batch in window)', "(n / num_items_in_batch)"
    of_all = f"int(self.accelerator.reduce(torch.tensor({own}, device=device)))"
    return _PER_LABEL.replace(own, of_all).replace(scaled, "(n * self.args.world_size / num_items_in_batch)")


_PER_LABEL = '''
class PerLabelTrainer(BASE):
    """Divides an update's loss by the labels of all its micro-steps, as not every head does by itself."""

    loss_is_scaled_for_ga = True

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        window, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        return window, sum(n_labels(batch["labels"]) for batch in window)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = model(**inputs)
        loss = outputs.loss
        if num_items_in_batch:  # not in an evaluation
            n = n_labels(inputs["labels"])
            loss = loss * (n / num_items_in_batch) if n else 0.0 * outputs.logits.sum()
        return (loss, outputs) if return_outputs else loss


def n_labels(labels):
    """How many labels the loss of a batch is the mean over."""
    return int((COUNTED != -100).sum())
'''


def _notes(config: RunConfig) -> list[str]:
    """What the Trainer cannot do, or does only elsewhere."""
    notes = []
    if config.optimizer_in_backward:
        notes.append(
            "The run stepped its optimizer in backward, which the Trainer cannot: the losses are the same, and the "
            "peak of memory is higher by the gradients."
        )
    if config.cross_entropy != "plain":
        notes.append(
            "The run never held its logits; the Trainer does: the losses are the same, and the peak of memory is "
            "higher by them."
        )
    if config.activation_offloading:
        notes.append(
            "The run moved what layers keep to the host, which the Trainer cannot: the losses are the same, and the "
            "peak of memory is higher by it."
        )
    if config.gradient_checkpointing == "selective":
        notes.append(
            "The run kept the results of matrix products, which the Trainer has no name for: it computes them again. "
            "The losses are the same, its memory is less and its time more."
        )
    device = device_of(config)
    if device.kind == "virtual":
        notes.append(
            f"The run was on a virtual {one_line(device.gpu)}, computed by the CPU; this script takes a real GPU where "
            "there is one."
        )
    if config.vram_limit is not None and device.kind != "cuda":
        notes.append(f"The run was held to {config.vram_limit} MiB of memory; this script is not.")
    if TASKS[config.task].is_divided_by_labels and (is_padded(config) or config.padding == "packed"):
        notes.append("The run weighs a held-out loss by tokens and the Trainer by rows, which have not all as many.")
    if config.output_dir is not None and config.workload != "dummy":
        notes.append(
            "The run keeps the model of its best evaluation, and names its labels; this script keeps the last, with "
            "numbers for labels."
        )
    if config.weights == "int8" and device.kind == "virtual":
        notes.append(
            "The run multiplied in 8 bits, as on a GPU. On a CPU bitsandbytes multiplies by weights made anew, and the "
            "losses differ a little."
        )
    if config.precision == "fp16" and device.kind != "cuda":
        notes.append("fp16 needs a GPU here: the Trainer refuses it on a CPU.")
    return notes
