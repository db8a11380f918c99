"""From a run's knobs to the script: what the knobs leave open is found out as the run does, by looking at the data.

Needs torch, transformers and datasets; call it in a thread that may wait.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.contract.config import ConfigError, RunConfig
from engine.contract.device_name import DeviceName, visible_name
from engine.contract.records import DeviceInfo
from engine.contract.text import capitalised, one_line
from engine.export.hand_over import command_line
from engine.export.trainer_script import several
from engine.export.trainer_script.data.collators import collator_of
from engine.export.trainer_script.data.part import data_file, data_part
from engine.export.trainer_script.embedding import source_of
from engine.export.trainer_script.model import model_part
from engine.export.trainer_script.order import order_part
from engine.export.trainer_script.parts import Part, assigned, literal, source
from engine.export.trainer_script.trainer import TRAINED_OF, device_of, trainer_part

if TYPE_CHECKING:
    from engine.training.hub import Hub
    from engine.workloads.prepared import PreparedData


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A script, and the file of data that belongs beside it."""

    text: str
    data_name: str = ""
    """Empty where the script reads what is there already."""
    data: str = ""


def make_script(
    config: RunConfig,
    hub: Hub,
    *,
    title: str,
    device: DeviceInfo | None = None,
    report: Callable[[str], None] = lambda what: None,
) -> Script:
    """The script that trains as a run of `config` does; `title` names the run in its first line, `device` its card.

    `report` is told what takes time, and may raise to end the work. Raises `ConfigError` where the run would be
    refused, and what reading the data raises.
    """
    if config.answers:
        raise ConfigError(
            "job", "The Trainer answers nothing: --job answer has no script for it, but a command (traintop answer)."
        )
    if config.is_script:
        raise ConfigError(
            "job", "This run is a script of your own already: traintop run -- COMMAND does it again, with other values."
        )
    import torch

    from engine.techniques import lora, quantised
    from engine.training import models
    from engine.workloads.prepare import prepare

    source_of_model = models.resolve(config.model, hub)
    models.check_head(source_of_model.config, config)
    models.check_length(source_of_model, config)
    data = prepare(config, **models.wants(source_of_model), hub=hub, report=report)
    shaped = models.shape(source_of_model, config, n_labels=data.n_labels, vocab_size=data.vocab_size)
    with torch.device("meta"):  # refuses what the run would
        built = models.build(source_of_model, shaped, config)
    targets = lora.targets(built, config) if config.lora_rank else ""
    kept = quantised.kept(built, config) if config.is_quantised else []
    data_name, rows = data_file(config)
    order, base = order_part(config)
    parts = [
        _device_part(config, device),
        data_part(config, data, source_of_model, hub, data_name),
        model_part(
            source_of_model,
            shaped,
            config,
            trained_vocabulary=data.vocab_size is not None,
            lora_targets=targets,
            kept=kept,
        ),
        several.dropout_part(config),
        order,
        trainer_part(config, collator=collator_of(config), held_out=data.evaluation is not None, base=base),
    ]
    if config.class_weights != "none":
        parts.insert(3, _weighted(config, data))
    if any("trained_of(" in line for part in parts for line in part.main):
        parts.append(Part(functions=(TRAINED_OF,)))
    name = one_line(capitalised(title))
    heading = [
        f"{name} of traintop as a script for the Hugging Face Trainer, with the same losses:",
        one_line(command_line(config)),
    ]
    return Script(text=source(heading, parts), data_name=data_name, data=rows)


def _weighted(config: RunConfig, data: PreparedData) -> Part:
    """The model's loss with the weights that the run gave the classes."""
    from engine.techniques import class_loss

    assert data.train.classes is not None
    weights = class_loss.balanced(data.train.classes, data.n_labels)
    return Part(
        imports=("import torch", "from typing import Any"),
        constants=tuple(assigned("CLASS_WEIGHTS", weights)),
        functions=source_of(class_loss.replace_loss),
        main=(f"replace_loss(model, torch.tensor(CLASS_WEIGHTS), {config.label_smoothing_factor!r})",),
    )


def _device_part(config: RunConfig, device: DeviceInfo | None) -> Part:
    """The GPUs that the run had: the Trainer takes all that it sees. `device` is where it ran, with one GPU."""
    name = device_of(config)
    if config.is_parallel:
        limited = config.vram_limit is not None and name.kind == "cuda"
        return several.start_part(config, _all_visible(config, name), limited=limited)
    if name.kind not in ("cuda", "auto"):
        return Part()
    which = (device.uuid if device is not None else None) or _visible(name)
    if not which:
        note = "Start it with CUDA_VISIBLE_DEVICES=the UUID of one card: the Trainer takes all that it sees."
        return Part(notes=(note,))
    limit = (
        "total = torch.cuda.get_device_properties(0).total_memory",
        f"torch.cuda.set_per_process_memory_fraction({config.vram_limit} * 2**20 / total)",
    )
    return Part(
        imports=("import os",),
        main=(
            f'os.environ["CUDA_VISIBLE_DEVICES"] = {literal(which)}  # the Trainer takes all that it sees',
            *(limit if config.vram_limit is not None and name.kind == "cuda" else ()),
        ),
    )


def _all_visible(config: RunConfig, name: DeviceName) -> str:
    """What names as many cards as the run has ranks, as this process would find them. Empty: nothing does."""
    if name.kind not in ("cuda", "auto") or name.free or config.gpus is None:
        return ""
    ordinals = name.indices or range(config.gpus)
    return ",".join(visible_name(index, os.environ) for index in ordinals[: config.gpus])


def _visible(name: DeviceName) -> str:
    """What names the card where it is not known which one it was: as this process would find it. Empty: nothing."""
    if name.card:
        return name.card if "-" in name.card else ""  # the variable takes no PCI address
    return "" if name.free else visible_name(name.index or 0, os.environ)
