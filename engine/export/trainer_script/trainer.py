"""The script's TrainingArguments and its Trainer, and what it says where the Trainer does otherwise. Pure."""

from __future__ import annotations

from engine.contract.batching import is_padded
from engine.contract.config import ConfigError, RunConfig
from engine.contract.device_name import DeviceName, read_device
from engine.contract.tasks import TASKS
from engine.contract.text import one_line
from engine.export.trainer_script.parts import Part, literal

Code = str
"""Source of an expression."""


def trainer_part(config: RunConfig, *, collator: Code, held_out: bool, base: str) -> Part:
    """What trains: `model`, `tokenizer`, `train` and `evaluation` are there by then.

    `collator` makes batches; `base` is the kind of Trainer.
    """
    classes = config.task == "classification"
    arguments = "".join(f"    {name}={value},\n" for name, value in arguments_of(config, held_out=held_out).items())
    given = {
        "model": "model",
        "args": "arguments",
        "data_collator": collator,
        "train_dataset": "train",
        **({"eval_dataset": "evaluation"} if held_out else {}),
        **({"compute_metrics": "accuracy"} if held_out and classes else {}),
        "callbacks": f"[SameDropout(dropout){', StopAtNonFiniteLoss()' if _stops(config) else ''}]",
        **({"optimizers": f"({_own_optimizer(config)}, None)"} if _own_optimizer(config) else {}),
    }
    by_labels = TASKS[config.task].is_divided_by_labels and config.gradient_accumulation_steps > 1
    kind = "PerLabelTrainer" if by_labels else base
    main = [
        *f"arguments = TrainingArguments(\n{arguments})".splitlines(),
        f"trainer = {kind}(",
        *(f"    {name}={value}," for name, value in given.items()),
        ")",
        *_training(config),
        "trainer.save_state()  # trainer_state.json has the loss of every update",
    ]
    functions = [_SAME_DROPOUT]
    if _stops(config):
        functions.append(_STOP)
    if held_out and classes:
        functions.append(_ACCURACY)
    if by_labels:
        counted = "labels[:, 1:]" if TASKS[config.task].shifts else "labels"
        functions.append(_PER_LABEL.replace("BASE", base).replace("COUNTED", counted))
    imports = ["import torch", "from transformers import Trainer, TrainerCallback, TrainingArguments"]
    if _stops(config):
        imports.append("import math")
    if config.attention == "flash":
        imports.append("from torch.nn.attention import SDPBackend, sdpa_kernel")
    return Part(
        imports=tuple(imports),
        functions=tuple(functions),
        main=tuple(main),
        notes=tuple(_notes(config)),
        needs=("torchao",) if config.optimizer == "adamw-8bit" else (),
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
        "output_dir": "trained",
        "per_device_train_batch_size": config.batch_size,
        "per_device_eval_batch_size": config.batch_size,
        "gradient_accumulation_steps": config.gradient_accumulation_steps,
        **_checkpointing(config),
        "optim": _optimizer(config),
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": config.lr_scheduler,
        "weight_decay": 0.0,
        "max_grad_norm": config.max_grad_norm,
        "num_train_epochs": config.epochs,
        "seed": config.seed,
        "data_seed": config.seed,
        **({config.precision: True} if config.precision in ("bf16", "fp16") else {}),
        **({"torch_compile": True} if config.torch_compile else {}),
        "dataloader_num_workers": config.dataloader_num_workers,
        "dataloader_pin_memory": config.dataloader_pin_memory and device_of(config).kind in ("cuda", "auto"),
        **_workers(config),
        "eval_strategy": "epoch" if held_out else "no",
        "save_strategy": "no",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "remove_unused_columns": False,
        "report_to": "none",
        **({"use_cpu": True} if config.device == "cpu" else {}),
    }
    code = {name: literal(value) for name, value in values.items()}
    if config.precision == "tf32":
        code["tf32"] = "torch.cuda.is_available()"
    return code


def _checkpointing(config: RunConfig) -> dict[str, object]:
    if config.gradient_checkpointing == "off":
        return {}
    options: dict[str, object] = {"use_reentrant": False}
    if config.gradient_checkpointing == "every-second":
        options["every_n_layers"] = 2
    return {"activation_checkpointing": True, "activation_checkpointing_kwargs": options}


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
    return {"adamw-8bit": "adamw_torch_8bit"}.get(config.optimizer, config.optimizer)


def _own_optimizer(config: RunConfig) -> Code:
    """An optimizer that no name of the Trainer stands for; empty where one does."""
    how = {"fused": "fused=True", "loop": "foreach=False, fused=False"}.get(config.optimizer_implementation, "")
    if config.optimizer in ("adamw", "adam") and config.optimizer_implementation == "loop":
        kind = "AdamW" if config.optimizer == "adamw" else "Adam"
        return f"torch.optim.{kind}(trained_of(model), lr={config.learning_rate!r}, weight_decay=0.0, {how})"
    if config.optimizer == "sgd" and how:
        return f"torch.optim.SGD(trained_of(model), lr={config.learning_rate!r}, {how})"
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
_ACCURACY = '''
def accuracy(predicted):
    """The share of held-out samples whose largest logit is the right one."""
    logits = predicted.predictions[0] if isinstance(predicted.predictions, tuple) else predicted.predictions
    return {"accuracy": float((logits.argmax(-1) == predicted.label_ids).mean())}
'''
TRAINED_OF = '''
def trained_of(model):
    """The parameters that are trained."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]
'''
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
    device = device_of(config)
    if device.kind == "virtual":
        notes.append(
            f"The run was on a virtual {one_line(device.gpu)}, computed by the CPU; this script takes a real GPU where "
            "there is one."
        )
    if config.vram_limit is not None and device.kind != "cuda":
        notes.append(f"The run was held to {config.vram_limit} MiB of memory; this script is not.")
    if TASKS[config.task].is_divided_by_labels and (is_padded(config) or config.padding == "packed"):
        notes.append(
            "The run weighs a held-out loss by tokens and the Trainer by rows, which have not all as many."
        )
    if config.precision == "fp16" and device.kind != "cuda":
        notes.append("fp16 needs a GPU here: the Trainer refuses it on a CPU.")
    return notes
