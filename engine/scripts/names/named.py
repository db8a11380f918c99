"""The training that a command names: a configuration of our own that forecasts it, and what is assumed of it.

The names are those of transformers' examples, of its Trainer and of TRL; what the command leaves open is as their
arguments have it, or as the script's source says. Standard library only: nothing of the script is run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.contract.config import ConfigError, RunConfig, Value
from engine.contract.forecast_types import ForecastError
from engine.contract.script_combinations import NO_COMMAND, script_values
from engine.contract.script_name import script_name
from engine.contract.script_word import script_word
from engine.knobs.script_source import source_of
from engine.models.catalogue import known
from engine.scripts.names.flag_names import (
    ATTENTION,
    BATCH,
    CARRIED,
    DTYPE,
    IN_SOURCE,
    LENGTH,
    LONGEST,
    MODEL,
    OF_SFT,
    OF_TRAINER,
    OPTIMIZERS,
    POSITIONS,
    TARGET,
    TASKS,
    TRAINERS,
    UNREAD,
    WEIGHTS,
)
from engine.scripts.names.model_files import setting_of
from engine.scripts.names.source import Source, read_source
from engine.scripts.names.typed_flags import Said, first_of, is_on, number, typed_flags, words_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What a command trains."""

    config: RunConfig
    """Of the job train, on random tokens."""
    loop: str
    """Whose loop it is, by its name in `engine.forecast.loops`."""
    assumed: tuple[str, ...]
    """What the command does not say, a sentence each."""


def named(config: RunConfig) -> Named:
    """What the script of `config` trains, by the names in its command. Raises `ForecastError` where it does not say."""
    command = config.script
    if command is None:
        raise ForecastError(NO_COMMAND)
    words = command.filled(script_values(config))
    found = script_word(words)
    if found is None:
        raise ForecastError(_none(f"{script_name(config)} is no script whose flags are known"))
    if [Path(words[0]).name, *words[1:2]] == ["trl", "sft"]:
        return _Reading(config, [], words[1:], Source(name="trl sft", words=frozenset(("SFTTrainer",)))).named()
    path = source_of(words, found)
    source = None if path is None else read_source(path)
    if source is None:
        raise ForecastError(_none(f"{script_name(config)} is no Python file that is found here"))
    return _Reading(config, words[: found.at], words[found.at :], source).named()


def _none(why: str) -> str:
    return f"no forecast for this command: {why}"


class _Reading:
    """Of one command. `launcher`: its words before the script; `words`: the script and what follows."""

    def __init__(self, config: RunConfig, launcher: list[str], words: list[str], source: Source) -> None:
        self._config = config
        self._launcher = typed_flags(launcher)
        self._by = [Path(word).name for word in launcher]
        self._typed = _typed(words)
        self._source = source
        self._words = source.words
        self._is_sft = bool({"SFTTrainer", "SFTConfig"} & self._words)
        self._is_trainer = self._is_sft or bool(TRAINERS & self._words)
        of_trainer = {**(OF_TRAINER if self._is_trainer else {}), **(OF_SFT if self._is_sft else {})}
        self._said: dict[str, object] = {
            **of_trainer,
            **{name: value for name, value in self._source.defaults.items() if value is not None},
            **self._typed,
        }
        self._assumed: list[str] = []

    def named(self) -> Named:
        """Read it. Raises `ForecastError`."""
        self._refuse_unread()
        values: dict[str, Value] = {
            "model": self._model(),
            "task": self._task(),
            **self._batch(),
            "gpus": self._gpus(),
            **self._optimizer(),
            **self._computing(),
            **self._adapter(),
            **self._length(),
        }
        carried = set(self._config.script.knobs) if self._config.script else set()
        values |= {name: getattr(self._config, name) for name in CARRIED if name in carried}
        device = "cpu" if is_on(self._said.get("use_cpu")) or is_on(self._said.get("no_cuda")) else self._config.device
        try:
            made = RunConfig.from_dict({**values, "device": device})
            made = made.with_values(samples=max(made.n_samples, 2 * made.effective_batch_size))
        except ConfigError as error:
            raise ForecastError(_none(f"as it is named it is refused: {error.message}")) from None
        if self._is_sft:
            self._assumed.append("the entropy and accuracy that SFTTrainer logs of the logits take nothing")
        loop = "trainer" if self._is_trainer else "script"
        return Named(config=made, loop=loop, assumed=tuple(f"assumed: {each}." for each in self._assumed))

    def _carries(self, *names: str) -> bool:
        """Whether a placeholder of the command says one of these knobs."""
        return self._config.script is not None and any(name in self._config.script.knobs for name in names)

    def _refuse_unread(self) -> None:
        for flag, why in UNREAD.items():
            if self._typed.get(flag) not in (None, False):
                raise ForecastError(_none(f"with --{flag} {why}"))
        if "deepspeed" in self._by or any("deepspeed" in name or "fsdp" in name for name in self._launcher):
            raise ForecastError(_none("its launcher decides what each GPU holds"))
        if "config_file" in self._launcher or (self._is_sft and "config" in self._typed):
            raise ForecastError(_none("the file of its settings is not read: give them as flags"))
        others = sorted(word for word in self._words if re.fullmatch(r"[A-Z]{2,5}Trainer|RewardTrainer", word))
        if others and "SFTTrainer" not in others:
            raise ForecastError(_none(f"{others[0]} runs the model more than once for a sample"))

    def _model(self) -> str:
        if self._carries("model"):
            return self._config.model
        found = first_of(MODEL, self._said)
        name = words_of(found[1]) if found else None
        if name is None:
            raise ForecastError(_none("it names no model (--model_name_or_path)"))
        return name

    def _task(self) -> str:
        if self._carries("task"):
            return self._config.task
        if self._is_sft:
            return "causal-lm"
        ends = {
            task
            for pattern, task in TASKS.items()
            for word in self._words
            if not word.startswith(("TF", "Flax")) and word[:1].isupper() and re.search(pattern, word)
        }
        if len(ends) != 1:
            several = f"several kinds of model stand in it ({', '.join(sorted(ends))})"
            why = several if ends else "no model of transformers for text stands in it"
            raise ForecastError(_none(f"{self._source.name}: {why}"))
        return ends.pop()

    def _batch(self) -> dict[str, Value]:
        if self._carries("batch_size"):
            size: int | None = self._config.batch_size
        else:
            names = BATCH[:1] if self._is_trainer else BATCH
            found = first_of(names, self._said)
            size = number(found[1]) if found else None
            if size is None:
                raise ForecastError(_none(f"it names no batch size (--{BATCH[0]})"))
            if self._is_trainer and self._is_silent(names[0]):
                self._assumed.append(f"batch size {size}, as TrainingArguments has it")
        if is_on(self._said.get("auto_find_batch_size")):
            self._assumed.append(f"--auto_find_batch_size leaves the batch size at {size}")
        return {
            "batch_size": size,
            "gradient_accumulation_steps": number(self._said.get("gradient_accumulation_steps")) or 1,
        }

    def _is_silent(self, name: str) -> bool:
        """Whether neither command nor source says it."""
        return name not in self._typed and self._source.defaults.get(name) is None

    def _gpus(self) -> int:
        nodes = first_of(("nnodes", "num_machines"), self._launcher)
        if nodes is not None and nodes[1] != "1":
            raise ForecastError(_none(f"it runs on {nodes[1]} machines"))
        found = first_of(("nproc_per_node", "num_processes"), self._launcher)
        if found is None:
            if "accelerate" in self._by:
                self._assumed.append("accelerate launches one process")
            return 1
        n = number(found[1])
        if n is None:
            raise ForecastError(_none(f"--{found[0]} {found[1]} is no number of GPUs"))
        return n

    def _optimizer(self) -> dict[str, Value]:
        if self._carries("optimizer"):
            return {"max_grad_norm": self._clips()}
        if self._is_trainer:
            name = str(self._said.get("optim"))
            if name not in OPTIMIZERS:
                raise ForecastError(_none(f"--optim {name} is not forecast: {', '.join(OPTIMIZERS)} are"))
            if self._is_silent("optim"):
                self._assumed.append(f"--optim {name}, as TrainingArguments has it")
            if name in ("adamw_8bit", "adamw_bnb_8bit"):
                self._assumed.append("8-bit AdamW of bitsandbytes takes what torchao's does")
            kind, how = OPTIMIZERS[name]
        else:
            kinds = {kind for word, kind in IN_SOURCE.items() if word in self._words}
            if len(kinds) != 1:
                raise ForecastError(_none(f"which optimizer {self._source.name} makes is not seen"))
            kind, how = kinds.pop(), "foreach"
            self._assumed.append(f"{kind} as PyTorch makes it by default (foreach), for all of the model")
        momentum = 0.9 if kind == "sgd" and "momentum" in str(self._said.get("optim_args")) else 0.0
        return {
            "optimizer": kind,
            "optimizer_implementation": how,
            "momentum": momentum,
            "max_grad_norm": self._clips(),
        }

    def _clips(self) -> float:
        if not self._is_trainer:
            return 1.0 if {"clip_grad_norm_", "clip_grad_value_"} & self._words else 0.0
        try:
            return float(str(self._said.get("max_grad_norm")))
        except ValueError:
            return 1.0

    def _computing(self) -> dict[str, Value]:
        said = self._said
        mixed = words_of((first_of(("mixed_precision",), self._launcher, said) or ("", None))[1])
        sixteen = (
            mixed if mixed in ("bf16", "fp16") else next((n for n in ("bf16", "fp16") if is_on(said.get(n))), None)
        )
        precision = sixteen or ("tf32" if is_on(said.get("tf32")) else "fp32")
        if self._is_sft and sixteen is None and "bf16" not in self._typed:
            precision = "bf16"  # since SFTConfig has a bf16 of its own
            self._assumed.append("bf16, as SFTConfig has it")
        if not self._is_trainer and sixteen is None and "autocast" in self._words and not self._carries("precision"):
            raise ForecastError(_none(f"{self._source.name} computes under autocast, and in what is not named"))
        flags = ("gradient_checkpointing", "activation_checkpointing")
        checkpoints = any(is_on(said.get(name)) for name in flags)
        if not self._is_trainer and not any(name in said for name in flags):
            checkpoints = "gradient_checkpointing_enable" in self._words
        if checkpoints and self._is_sft and self._is_silent(flags[0]):
            self._assumed.append("gradient checkpointing, as SFTConfig has it")
        attention = words_of(said.get("attn_implementation"))
        flash = attention is not None and "flash" in attention
        liger, chunked = is_on(said.get("use_liger_kernel")), said.get("loss_type") == "chunked_nll"
        return {
            "precision": precision,
            "gradient_checkpointing": "on" if checkpoints else "off",
            "torch_compile": is_on(said.get("torch_compile")),
            "attention": "flash" if flash else ATTENTION.get(attention or "", "auto"),
            "cross_entropy": "liger" if liger else "chunked" if chunked else "plain",
            "activation_offloading": is_on(said.get("activation_offloading")),
        }

    def _adapter(self) -> dict[str, Value]:
        said, values = self._said, dict[str, Value]()
        rank = first_of(("lora_r", "lora_rank"), said)
        if rank is not None and (is_on(said.get("use_peft")) or is_on(said.get("use_lora"))):
            targets = words_of(said.get("lora_target_modules"))
            values = {
                "lora_rank": number(rank[1]) or 0,
                "lora_alpha": number(said.get("lora_alpha")),
                "lora_dropout": float(str(said.get("lora_dropout", 0.0))),
                **({} if targets is None else {"lora_targets": targets}),
            }
        for flag, weights in (("load_in_4bit", "nf4"), ("load_in_8bit", "int8")):
            if is_on(said.get(flag)):
                if weights == "nf4" and said.get("bnb_4bit_quant_type") not in (None, "nf4"):
                    raise ForecastError(_none("of 4-bit weights only nf4 is forecast"))
                return {**values, "weights": weights}
        return {**values, "weights": self._weights()}

    def _weights(self) -> str:
        found = first_of(DTYPE, self._said)
        name = (words_of(found[1]) or "auto") if found else "auto"
        name = name.removeprefix("torch.")
        if name in ("bf16", "fp16", "fp32"):
            return name
        if name == "auto":
            name = setting_of(self._model(), "dtype", "torch_dtype") or ""
            if name in WEIGHTS:
                return WEIGHTS[name]
            if not self._carries("weights"):
                self._assumed.append("weights in fp32, as no --dtype is given and the model's files are not here")
            return "fp32"
        if name not in WEIGHTS:
            raise ForecastError(_none(f"--{found[0] if found else 'dtype'} {name} is not known"))
        return WEIGHTS[name]

    def _length(self) -> dict[str, Value]:
        values: dict[str, Value] = {}
        if self._carries("seq_len"):
            return values
        found = first_of(LENGTH, self._said)
        length = number(found[1]) if found else None
        if length is None:
            name = next((each for each in LENGTH if each in self._source.defaults), None)
            if name is None:
                raise ForecastError(_none("it names no length of a sample (--max_seq_length, --block_size)"))
            length = min(LONGEST, self._positions())
            self._assumed.append(f"{length:,} tokens a sample, the most that are cut where --{name} is not given")
        elif found is not None and self._is_filled(found[0]):
            pass
        else:
            self._assumed.append(f"every sample has {length:,} tokens: with shorter ones it takes less")
        target = first_of(TARGET, self._said)
        if self._task() == "seq2seq-lm" and target is not None:
            values["target_len"] = number(target[1])
        return {**values, "seq_len": length}

    def _is_filled(self, name: str) -> bool:
        """Whether every sample has that many tokens: text in blocks, packed, or padded to it."""
        return name == "block_size" or is_on(self._said.get("packing")) or is_on(self._said.get("pad_to_max_length"))

    def _positions(self) -> int:
        model = self._model()
        architecture = known(model)
        if architecture is None:
            size = setting_of(model, *POSITIONS)
            return number(size) or LONGEST
        own = next((architecture.settings[name] for name in POSITIONS if name in architecture.settings), None)
        if own is not None:
            return int(own) - (2 if "roberta" in architecture.model_type else 0)
        is_encoder = architecture.head in ("pretraining", "masked-lm", "base")
        return 512 if is_encoder else LONGEST


def _typed(words: list[str]) -> dict[str, Said]:
    """The flags after the script; those of a JSON file, where that is all there is, as `HfArgumentParser` reads it."""
    if len(words) == 2 and words[1].endswith((".json", ".yaml", ".yml")):
        try:
            read = json.loads(Path(words[1]).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise ForecastError(_none(f"{Path(words[1]).name} is not read: give its settings as flags")) from None
        if isinstance(read, Mapping):
            return {str(name): each if isinstance(each, bool) else str(each) for name, each in read.items()}
    return typed_flags(words[1:])
