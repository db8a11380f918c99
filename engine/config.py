"""RunConfig: every knob of a run, its bounds, its reason in one line, and refusals that name the fix.

Standard library only: the screen builds its knob list and the command line its flags from `KNOBS`,
before anything heavy is imported.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from typing import Any, get_args, get_origin, get_type_hints

Value = str | int | float | bool | None


class ConfigError(ValueError):
    """A configuration that cannot run. The message says what, where, and what to do.

    `knob` is the name of the field at fault.
    """

    def __init__(self, knob: str, message: str) -> None:
        super().__init__(message)
        self.knob = knob
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class Knob:
    """What the screen, the command line and the documentation know about one field of `RunConfig`."""

    name: str = ""
    """The field's name; `--` and dashes make it the flag."""
    label: str
    """Short name for the screen."""
    why: str
    """One line: what turning it does to memory, speed or accuracy."""
    kind: type = str
    """`int`, `float`, `bool` or `str`."""
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    steps: tuple[Value, ...] = ()
    """Values that up and down visit, in order; any other value in the bounds can still be typed."""
    optional: bool = False
    """True when None ("not set") is a value."""
    hint: str = ""
    """What None means, for the screen."""

    @property
    def flag(self) -> str:
        """The command-line flag, such as `--batch-size`."""
        return "--" + self.name.replace("_", "-")


def _knob(default: Value, label: str, why: str, **more: Any) -> Any:
    return field(default=default, metadata={"knob": Knob(label=label, why=why, **more)})


_POWERS = tuple(2**i for i in range(13))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """One run's settings. Frozen: a key builds a new one, which applies to the next run.

    Names and meanings follow `transformers.TrainingArguments` where it has the same setting.
    Raises `ConfigError` on a value out of bounds or a combination that makes no sense.
    """

    model: str = _knob(
        "bert-tiny",
        "model",
        "More parameters: weights, gradients and optimizer state grow together (16 bytes each in fp32 AdamW).",
        hint="preset, hub name or local folder",
    )
    workload: str = _knob(
        "dummy",
        "workload",
        "dummy measures cost on random tokens, as the lecture does; reviews learns from real labelled text.",
        choices=("dummy", "reviews"),
    )
    data: str | None = _knob(
        None,
        "data",
        "A CSV, TSV, JSON lines or Parquet file with a text and a label column; a part is held out for accuracy.",
        optional=True,
        hint="file to train on",
    )
    text_column: str | None = _knob(
        None, "text column", "Which column holds the text.", optional=True, hint="found by name and content"
    )
    label_column: str | None = _knob(
        None, "label column", "Which column holds the class.", optional=True, hint="found by name and content"
    )
    task: str = _knob(
        "classification",
        "task",
        "The head on the model; a language model's head adds a batch × length × vocabulary tensor of logits.",
        choices=("classification", "causal-lm", "seq2seq-lm"),
    )
    batch_size: int = _knob(
        8,
        "batch size",
        "Samples per micro-step: activations grow with it; a fuller GPU does more samples/s.",
        minimum=1,
        maximum=65_536,
        steps=_POWERS,
    )
    gradient_accumulation_steps: int = _knob(
        1,
        "accumulation",
        "Micro-steps per update: a larger effective batch at the memory of a small one, but fewer updates.",
        minimum=1,
        maximum=65_536,
        steps=_POWERS,
    )
    gradient_checkpointing: str = _knob(
        "off",
        "checkpointing",
        "Keep only each layer's input and compute the rest again in backward: far less memory, about 1/3 more time.",
        choices=("off", "on", "every-second"),
    )
    precision: str = _knob(
        "fp32",
        "precision",
        "fp16 and bf16 halve the activations and use tensor cores; tf32 rounds only inside matrix products.",
        choices=("fp32", "tf32", "fp16", "bf16"),
    )
    optimizer: str = _knob(
        "adamw",
        "optimizer",
        "AdamW keeps two states per parameter (8 bytes), SGD none, Adafactor a row and a column.",
        choices=("adamw", "adam", "sgd", "adafactor"),
    )
    optimizer_implementation: str = _knob(
        "fused",
        "implementation",
        "fused updates in one kernel without temporaries; foreach is fast but copies; loop is slow and small.",
        choices=("fused", "foreach", "loop"),
    )
    attention: str = _knob(
        "sdpa",
        "attention",
        "eager keeps a length × length matrix per head and layer; sdpa never stores it.",
        choices=("sdpa", "eager"),
    )
    padding: str = _knob(
        "longest",
        "padding",
        "max_length computes on padding too, as the lecture does; longest pads to the longest of the batch.",
        choices=("max_length", "longest"),
    )
    seq_len: int = _knob(
        512,
        "sequence length",
        "Tokens per sample: activations grow with it, eager attention with its square.",
        unit="tokens",
        minimum=2,
        maximum=1_048_576,
        steps=_POWERS[3:],
    )
    samples: int = _knob(
        512,
        "samples",
        "Training samples in an epoch.",
        minimum=1,
        maximum=10_000_000,
        steps=(64, 128, 256, 512, 1000, 2000, 5000, 10_000, 100_000),
    )
    eval_samples: int = _knob(
        1000,
        "eval samples",
        "Held-out samples scored after every epoch (never more than the data has).",
        minimum=1,
        maximum=10_000_000,
        steps=(100, 200, 500, 1000, 2000, 5000),
    )
    epochs: int = _knob(
        1, "epochs", "Passes over the training samples.", minimum=1, maximum=10_000, steps=(1, 2, 3, 4, 5, 10, 20)
    )
    learning_rate: float = _knob(
        5e-5,
        "learning rate",
        "Size of an update; a larger effective batch usually bears a larger one.",
        minimum=0.0,
        maximum=10.0,
        steps=(1e-6, 3e-6, 1e-5, 2e-5, 3e-5, 5e-5, 1e-4, 2e-4, 3e-4, 5e-4, 1e-3, 3e-3, 1e-2),
    )
    lr_scheduler: str = _knob(
        "linear",
        "schedule",
        "linear decays the learning rate to 0 over the run; constant keeps it.",
        choices=("linear", "constant"),
    )
    max_grad_norm: float = _knob(
        1.0,
        "max grad norm",
        "Gradients longer than this are scaled down to it; 0 switches clipping off.",
        minimum=0.0,
        maximum=1e9,
        steps=(0.0, 0.5, 1.0, 5.0),
    )
    dropout: bool = _knob(True, "dropout", "Off makes runs comparable to the last digit; on regularises, as trained.")
    dataloader_num_workers: int = _knob(
        0,
        "workers",
        "Processes that prepare batches ahead; they help where the data share of the time is large.",
        minimum=0,
        maximum=64,
        steps=(0, 1, 2, 4, 8),
    )
    dataloader_pin_memory: bool = _knob(
        True, "pinned memory", "Page-locked host memory lets copies to the GPU overlap with compute."
    )
    dataloader_prefetch_factor: int = _knob(
        2,
        "prefetch",
        "Batches each worker prepares ahead.",
        unit="batches",
        minimum=1,
        maximum=256,
        steps=(1, 2, 4, 8),
    )
    seed: int = _knob(
        42, "seed", "Same seed, same run: initialisation, order and dropout.", minimum=0, maximum=2**31 - 1
    )
    device: str = _knob(
        "auto",
        "device",
        "auto takes the first CUDA GPU, else the CPU; cuda:1 names another GPU.",
        hint="auto, cpu, cuda, cuda:N",
    )

    def __post_init__(self) -> None:
        for knob in KNOBS.values() if "KNOBS" in globals() else ():
            _check(knob, getattr(self, knob.name))
        if self.workload == "reviews" and self.task != "classification":
            raise ConfigError("task", f"--task {self.task} cannot train on reviews: use --task classification.")
        _check_device(self.device)

    @property
    def effective_batch_size(self) -> int:
        """Samples per optimizer update when every window is full."""
        return self.batch_size * self.gradient_accumulation_steps

    def with_values(self, **changes: Value) -> RunConfig:
        """A copy with some knobs changed. Raises `ConfigError` when the result cannot run."""
        return replace(self, **changes)  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, Value]:
        """Plain values by field name, for JSON, TOML and the history."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_dict(cls, values: dict[str, Any], *, lenient: bool = False) -> RunConfig:
        """The inverse of `to_dict`.

        `lenient` ignores names that this version does not know, for histories written by another one.
        Raises `ConfigError` on an unknown name (unless lenient) or a wrong type.
        """
        unknown = [name for name in values if name not in KNOBS]
        if unknown and not lenient:
            raise ConfigError(unknown[0], f"{unknown[0]!r} is not a knob; the knobs are {', '.join(KNOBS)}.")
        known = {name: coerce(KNOBS[name], value) for name, value in values.items() if name in KNOBS}
        return cls(**known)  # type: ignore[arg-type]


def _check_device(device: str) -> None:
    kind, _, rest = device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (rest and not (kind == "cuda" and rest.isdecimal())):
        raise ConfigError("device", f"--device {device!r} is not known: use auto, cpu, cuda or cuda:N.")


def _check(knob: Knob, value: object) -> None:
    if value is None:
        if not knob.optional:
            raise ConfigError(knob.name, f"{knob.flag} needs a value.")
        return
    accepted = (int, float) if knob.kind is float else (knob.kind,)
    if not isinstance(value, accepted) or (isinstance(value, bool) and knob.kind is not bool):
        raise ConfigError(knob.name, f"{knob.flag} needs {_article(knob)}, not {value!r}.")
    if knob.choices and value not in knob.choices:
        raise ConfigError(knob.name, f"{knob.flag} {value!r} is not known: use {_either(knob.choices)}.")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        low, high = knob.minimum, knob.maximum
        # the negated form also refuses NaN
        if (low is not None and not value >= low) or (high is not None and not value <= high):
            raise ConfigError(knob.name, f"{knob.flag} {value:g} is out of bounds: use {low:,.10g} to {high:,.10g}.")
    if knob.kind is str and isinstance(value, str) and not value.strip():
        raise ConfigError(knob.name, f"{knob.flag} is empty: give {knob.hint or 'a value'}.")


def _article(knob: Knob) -> str:
    return {int: "a whole number", float: "a number", bool: "on or off", str: "a text"}[knob.kind]


def _either(choices: Iterable[str]) -> str:
    *most, last = choices
    return f"{', '.join(most)} or {last}" if most else last


_TRUE, _FALSE = {"on", "true", "yes", "1"}, {"off", "false", "no", "0"}


def coerce(knob: Knob, value: object) -> Value:
    """A knob's value from what a person typed or a file held. Raises `ConfigError` when it cannot be read."""
    if isinstance(value, str) and knob.kind is not str:
        text = value.strip().lower()
        if knob.optional and text in ("", "none", "off", "-"):
            return None
        try:
            if knob.kind is bool:
                if text not in _TRUE | _FALSE:
                    raise ValueError
                return text in _TRUE
            return int(text.replace("_", "")) if knob.kind is int else float(text)
        except ValueError:
            raise ConfigError(knob.name, f"{knob.flag} needs {_article(knob)}, not {value!r}.") from None
    if knob.name == "gradient_checkpointing" and (isinstance(value, bool) or str(value).lower() in ("true", "false")):
        return "on" if value in (True, "true", "True") else "off"  # as TrainingArguments writes it
    if knob.optional and knob.kind is str and isinstance(value, str) and value.strip().lower() in ("", "none"):
        return None
    if knob.kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return typing.cast(Value, value)


def _collect_knobs() -> dict[str, Knob]:
    hints = get_type_hints(RunConfig)
    knobs = {}
    for f in fields(RunConfig):
        hint = hints[f.name]
        optional = get_origin(hint) in (typing.Union, types.UnionType) and type(None) in get_args(hint)
        kind = next(a for a in get_args(hint) if a is not type(None)) if optional else hint
        knobs[f.name] = replace(f.metadata["knob"], name=f.name, kind=kind, optional=optional)
    return knobs


KNOBS: dict[str, Knob] = _collect_knobs()
"""Every knob by field name, in the order of the fields."""
