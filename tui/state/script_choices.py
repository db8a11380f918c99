"""Which values of a knob a user's own command can be given: it has a word for them, its device can do them. Pure."""

from __future__ import annotations

from engine.contract.config import ConfigError, RunConfig, Value
from engine.contract.device_name import read_device
from engine.contract.records import DeviceInfo
from engine.contract.script_flags import TRANSFORMERS, all_turned

_USES_CPU = ("--use_cpu", "--use-cpu")


def why_not(config: RunConfig, name: str, value: Value, device: DeviceInfo | None) -> str | None:
    """Why a script cannot run with this value of a knob; None where it may.

    `device`: that of the next run, or what `auto` stands for; None while it is not known.
    """
    try:
        all_turned(config, {name: value})
    except ConfigError as error:
        return error.message
    if name != "precision" or config.command_flags != TRANSFORMERS:
        return None
    return _refused_precision(config, str(value), device)


def _refused_precision(config: RunConfig, precision: str, device: DeviceInfo | None) -> str | None:
    """What the Trainer refuses once it has begun, or passes over: a CPU has no tf32 and no fp16 for it, and bf16 only
    where the command says that it is wanted there (`TrainingArguments` of transformers 5, accelerate).
    """
    if precision == "fp32":
        return None
    on_cpu = read_device(config.device).kind == "cpu"
    if not on_cpu and device is None:
        return None
    if not on_cpu and device is not None and device.kind == "cuda":
        from engine.gpus.catalogue import by_nvml_name  # the first paint does without

        gpu = by_nvml_name(device.name, device.memory_total or 0)
        if precision != "tf32" or gpu is None or gpu.supports(precision):
            return None
        return f"The {device.name} has no tf32: that needs an Ampere card, or a newer one."
    if not _uses_cpu(config):
        return "On a CPU the Trainer computes in fp32; in bf16 where --use_cpu is in the command."
    return None if precision == "bf16" else "On a CPU the Trainer computes in fp32 or bf16."


def _uses_cpu(config: RunConfig) -> bool:
    words = config.script.words if config.script is not None else ()
    return any(word.partition("=")[0] in _USES_CPU and word.partition("=")[2].lower() != "false" for word in words)
