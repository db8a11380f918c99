"""A classifier that was trained, loaded to say what it thinks of texts. No pickle is read, and no foreign code run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from engine.contract.config import ConfigError, RunConfig
from engine.contract.device_name import read_device
from engine.devices.base import Device
from engine.devices.cpu import CpuDevice
from engine.devices.open import cuda_index
from engine.telemetry.nvml import door
from engine.training import adapters, models
from engine.training.hub import Hub
from engine.training.saving.output import said
from engine.workloads.collate import PaddingCollate, Samples
from engine.workloads.tokens.vocabulary import check_ids, pad_token_id_of, tokenise

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SANE_LENGTH = 1_000_000
"""A tokenizer that knows no limit says a larger one."""
_DEFAULT_LENGTH = 512
_DIGITS = 6
"""Of a probability; more would be rounding."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model thinks of a text."""

    label: str | None
    """Where a text may have several, those of at least 0.5, joined by semicolons. None where there was no text."""
    probabilities: tuple[float, ...] | None
    """In the order of the labels; they add up to 1 where a text has one label."""

    @property
    def probability(self) -> float | None:
        """Of the likeliest label."""
        return None if self.probabilities is None else max(self.probabilities)


@dataclass(kw_only=True)
class Classifier:
    """A model on its device, and how its texts are prepared."""

    model: torch.nn.Module
    tokenizer: PreTrainedTokenizerBase
    device: Device
    labels: tuple[str, ...]
    pad_token_id: int
    max_length: int
    """Tokens; of longer texts the rest is not read."""
    several: bool
    """Whether a text may have several labels."""
    n_cut: int = 0
    """Texts so far that were longer."""

    @torch.inference_mode()
    def answer(self, texts: Sequence[str | None], batch_size: int) -> list[Answer]:
        """An answer for each text, in their order; those of similar length are computed together."""
        places = [place for place, text in enumerate(texts) if text is not None]
        answers = [Answer(None, None)] * len(texts)
        if not places:
            return answers
        known = [text for text in texts if text is not None]
        tokens = tokenise(known, self.tokenizer, self.max_length, self.pad_token_id)
        check_ids([tokens.sequences["input_ids"]], self.model.get_input_embeddings().num_embeddings)  # type: ignore[operator]
        self.n_cut += tokens.n_cut
        samples = Samples(tokens.sequences, tokens.offsets)
        collate = PaddingCollate(
            self.pad_token_id, None, {"token_type_ids": getattr(self.tokenizer, "pad_token_type_id", 0)}
        )
        lengths = samples.lengths()
        order = sorted(range(len(samples)), key=lambda index: lengths[index])
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            batch = self.device.place(collate([samples[index] for index in chosen]))
            logits = self.model(**batch).logits.float()
            shares = logits.sigmoid() if self.several else logits.softmax(-1)
            for index, row in zip(chosen, shares.tolist(), strict=True):
                answers[places[index]] = Answer(self._label(row), tuple(round(share, _DIGITS) for share in row))
        return answers

    def _label(self, shares: list[float]) -> str:
        if self.several:
            return ";".join(label for label, share in zip(self.labels, shares, strict=True) if share >= 0.5)
        return self.labels[max(range(len(shares)), key=shares.__getitem__)]


def load(name: str, device: str) -> Classifier:
    """The classifier in a folder, or of that name on the hub. Raises `ConfigError` where there is none of use."""
    on = _open(device)
    folder = Path(name).expanduser()
    adapter = folder if adapters.is_adapter(folder) else None
    base = name if adapter is None else adapters.base_of(adapter, name)
    if adapter is not None and said(adapter).get("task", "classification") != "classification":
        raise ConfigError("model", f"--model {name!r} is no text classifier: it was trained for another task.")
    hub = Hub()
    if not Path(base).expanduser().is_dir():
        hub.probe()
    source = models.resolve(base, hub)
    _refuse_others(source, name, adapter)
    tokenizer = source.tokenizer if adapter is None else models.tokenizer_in(adapter) or source.tokenizer
    if tokenizer is None:
        raise ConfigError("model", f"--model {name!r} has no tokenizer, so texts cannot be read: save it there too.")
    config = source.config
    if config.get_text_config().pad_token_id is None:
        config.get_text_config().pad_token_id = config.pad_token_id = pad_token_id_of(tokenizer, None)
    several = config.problem_type == "multi_label_classification"
    config.problem_type = "single_label_classification"  # what its loss would be, of which a trial is made
    model: torch.nn.Module = models.build(source, config, RunConfig(model=base, device="cpu"))
    if adapter is not None:
        model = adapters.on(model, adapter, name)
    on.adopt(model.eval())
    return Classifier(
        model=model,
        tokenizer=tokenizer,
        device=on,
        labels=tuple(config.id2label[index] for index in range(config.num_labels)),
        pad_token_id=pad_token_id_of(tokenizer, config.get_text_config().pad_token_id),
        max_length=_max_length(folder, tokenizer, models.max_positions(config)),
        several=several,
    )


def trained_column(name: str) -> str | None:
    """Which column held the texts that a model was trained on; None where it does not say so."""
    column = said(Path(name).expanduser()).get("text_column")
    return column if isinstance(column, str) else None


def _open(name: str) -> Device:
    """The device of that name; `auto` is the first CUDA GPU that can be used, else the CPU."""
    asked = read_device(name)
    if asked.kind == "virtual":
        raise ConfigError("device", f"--device {name} only counts memory: use cpu, cuda or cuda:N.")
    index = None if asked.kind == "cpu" else cuda_index(asked, name, door())
    if index is None:
        return CpuDevice()
    from engine.devices.cuda import CudaDevice

    return CudaDevice(index, door())


def _refuse_others(source: models.ModelSource, name: str, adapter: Path | None) -> None:
    """Raise `ConfigError` unless the model is a classifier of texts, with its weights."""
    made = source.config.architectures or ["unknown architecture"]
    if source.location is None:
        raise ConfigError("model", f"--model {name!r} has no weights in safetensors: give a folder of a trained model.")
    if adapter is None and not any("SequenceClassification" in architecture for architecture in made):
        raise ConfigError(
            "model",
            f"--model {name!r} is a {made[0]}, which names no classes: give a text classifier. (Train one with "
            "--workload reviews --output-dir DIR.)",
        )
    if source.config.num_labels < 2:
        raise ConfigError("model", f"--model {name!r} gives one number, not classes: give a text classifier.")


def _max_length(folder: Path, tokenizer: PreTrainedTokenizerBase, positions: int | None) -> int:
    """As long as the model was trained on, where it says so; else as long as it and its tokenizer can read."""
    trained = said(folder).get("seq_len")
    known = [trained, None if tokenizer.model_max_length >= _SANE_LENGTH else tokenizer.model_max_length, positions]
    lengths = [length for length in known if isinstance(length, int) and length > 0]
    return min(lengths, default=_DEFAULT_LENGTH)
