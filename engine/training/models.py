"""From a model's name (an architecture's, a hub name or a local folder) to a model on the host, and its tokenizer.

Safetensors only, and no code from a repository is ever run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from engine.contract.config import KNOBS, ConfigError, RunConfig
from engine.contract.presets import PRESETS, model_name
from engine.devices import host_memory
from engine.devices.precision import DTYPES
from engine.models.architecture import Architecture
from engine.models.catalogue import ARCHITECTURES, close_to, known
from engine.process import gate
from engine.process.imports import import_transformers
from engine.techniques import attention, quantised
from engine.techniques.stopping import Stopped
from engine.training import adapters, model_faults, model_trial
from engine.training.hub import Hub
from engine.training.model_fields import check_fields
from engine.training.model_files import INDEX, WEIGHTS, read_config, refused, weights_folder

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


_LOADERS_FIELDS = ("transformers_weights", "fusion_config")
"""What transformers would be told by in a config.json to read other files, or to patch its own classes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """What a name stands for: an architecture, and where weights and a tokenizer can be read from."""

    name: str
    config: PretrainedConfig
    location: str | None
    """A local folder or hub name that holds safetensors weights; None means a fresh initialisation."""
    tokenizer: PreTrainedTokenizerBase | None
    local_only: bool
    note: str
    """One sentence for the transcript: whose weights these are."""
    state: Callable[[], dict[str, torch.Tensor]] | None = None
    """Weights that are in this process's memory, by their names in the model; the tensors are not to be changed."""

    @property
    def has_weights(self) -> bool:
        """Whether a model of it has learned something."""
        return self.location is not None or self.state is not None


def resolve(name: str, hub: Hub) -> ModelSource:
    """Find a model's configuration, weights and tokenizer without building it.

    Raises `ConfigError` when the name stands for nothing that can be loaded.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _from_folder(name, folder)
    if name.lower() in ARCHITECTURES:
        return _from_preset(name, ARCHITECTURES[name.lower()], hub)
    if name.startswith((".", "/", "~")):
        raise ConfigError("model", f"--model {name!r} is not a folder: give a folder with a config.json, or a name.")
    return _from_hub(name, name, hub)


def _from_folder(name: str, folder: Path) -> ModelSource:
    if adapters.is_adapter(folder) and not (folder / "config.json").exists():
        raise ConfigError(
            "model",
            f"--model {name!r} is what LoRA trained, which can be asked but not trained on with: give its base.",
        )
    if not (folder / "config.json").exists():
        raise ConfigError("model", f"--model {name!r} has no config.json: give a folder that transformers saved.")
    config = _read_config(name, folder)
    weights = next((f for f in (WEIGHTS, INDEX) if (folder / f).is_file()), None)
    if weights:
        weights_folder(name, str(folder), local_only=True)  # a bad one is refused before the data is read
        note = f"Weights of {model_name(name)} from {weights}."
    elif next(folder.glob("pytorch_model*.bin"), None):
        note = (
            f"{model_name(name)} has weights only as pickle (.bin), which is not read: fresh initialisation. "
            "Save safetensors."
        )
    else:
        note = f"{model_name(name)} has no weights: fresh initialisation."
    return ModelSource(
        name=name,
        config=config,
        location=str(folder) if weights else None,
        tokenizer=tokenizer_in(folder),
        local_only=True,
        note=note,
    )


def _read_config(name: str, folder: Path) -> PretrainedConfig:
    """The configuration in a folder, checked. Raises `ConfigError`."""
    from transformers import AutoConfig

    said = read_config(name, folder / "config.json")
    check_fields(name, said)
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # an architecture's own code: it raises anything
        at_fault = model_faults.wrong_kind(name, said, error) or model_faults.culprit(name, said, error, _loads)
        raise at_fault or refused(name, f"its config.json cannot be used, {_reason(error)}", "correct it") from None
    for field in _LOADERS_FIELDS:
        if hasattr(config, field):
            delattr(config, field)
    text = config.get_text_config()
    if (text.pad_token_id or 0) < 0:  # as the first Llamas have it: no token
        text.pad_token_id = config.pad_token_id = None
    return config


def _loads(said: dict[str, Any]) -> bool:
    """Whether a configuration can be made of these fields."""
    from transformers import AutoConfig

    try:
        AutoConfig.for_model(**said)
    except Exception:  # an architecture's own code: it raises anything
        return False
    return True


def _has_tokenizer(folder: Path) -> bool:
    names = ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model")
    return any((folder / name).is_file() for name in names)


def _from_preset(name: str, architecture: Architecture, hub: Hub) -> ModelSource:
    why = "nobody has published weights of it"
    if architecture.hub_name is not None:
        try:
            return _from_hub(name, architecture.hub_name, hub)
        except ConfigError:
            why = "its weights could not be read" if hub.reachable() else hub.problem
            why += f", and {architecture.hub_name} is not in its cache"
            if architecture.gated:
                why += "; who has accepted its licence there and logged in with `hf auth login` gets them"
    return preset_source(name, note=f"{name}: fresh initialisation ({why}).")


def preset_source(name: str, note: str = "") -> ModelSource:
    """An architecture that `engine.models.catalogue` knows, without weights."""
    from transformers import AutoConfig

    architecture = known(name)
    assert architecture is not None, name
    config = AutoConfig.for_model(architecture.model_type, **architecture.settings)
    return ModelSource(name=name, config=config, location=None, tokenizer=None, local_only=True, note=note)


def _from_hub(name: str, repository: str, hub: Hub) -> ModelSource:
    from huggingface_hub.errors import HFValidationError
    from transformers.utils import cached_file

    config: PretrainedConfig | None = None
    problem = ""
    # the cache first: it costs no round trip, and a stale hub must not stop a model that is here
    for local_only in (True, False):
        if not local_only and not hub.reachable():
            break
        try:
            config = _read_config(
                name, Path(cached_file(repository, "config.json", local_files_only=local_only)).parent
            )
            location = _cached_weights(repository) if local_only else repository
            if location:
                tokenizer = _tokenizer(repository, local_only=local_only)
                return ModelSource(
                    name=name,
                    config=config,
                    location=location,
                    tokenizer=tokenizer,
                    local_only=local_only,
                    note=f"Weights of {repository} from the hub{' cache' if local_only else ''}.",
                )
        except ConfigError:
            raise
        except (OSError, ValueError, KeyError, HFValidationError) as error:
            problem = _reason(error)
    if config is not None:
        return ModelSource(
            name=name,
            config=config,
            location=None,
            tokenizer=_tokenizer(repository, local_only=True),
            local_only=True,
            note=f"{repository} is in the hub cache without safetensors weights: fresh initialisation.",
        )
    reason = problem if hub.reachable() else f"{hub.problem}, and it is not in the hub cache"
    close = close_to(name)
    meant = f"Did you mean {' or '.join(close)}?" if close else "`traintop forecast --help` lists the names it knows."
    raise ConfigError(
        "model",
        f"--model {name!r} could not be loaded: {reason.rstrip('.')}. {meant} "
        "A hub name that exists or a local folder with a config.json does as well.",
    )


def _cached_weights(repository: str) -> str | None:
    from huggingface_hub import try_to_load_from_cache

    for name in (WEIGHTS, INDEX):
        if isinstance(try_to_load_from_cache(repository, name), str):
            return repository
    return None


def tokenizer_in(folder: Path) -> PreTrainedTokenizerBase | None:
    """The tokenizer in a folder; None where there is none that can be used."""
    return _tokenizer(str(folder), local_only=True) if _has_tokenizer(folder) else None


def _tokenizer(location: str, *, local_only: bool) -> PreTrainedTokenizerBase | None:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(location, local_files_only=local_only, trust_remote_code=False)
    except Exception:  # a broken or missing tokenizer is replaced by a vocabulary trained on the data
        return None


class Wanted(TypedDict):
    """What a model asks of its data, as `prepare` takes it."""

    tokenizer: PreTrainedTokenizerBase | None
    model_vocab_size: int | None
    pad_token_id: int | None


def wants(source: ModelSource) -> Wanted:
    """What the model of `source` asks of the data it is trained on."""
    text = source.config.get_text_config()
    return Wanted(tokenizer=source.tokenizer, model_vocab_size=text.vocab_size, pad_token_id=text.pad_token_id)


def max_positions(config: PretrainedConfig) -> int | None:
    """The longest sequence that the model has positions for; None where positions are relative or unknown."""
    config = config.get_text_config()
    if getattr(config, "model_type", None) in {"t5", "mt5", "umt5"}:
        return None
    limit = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    if not isinstance(limit, int) or limit <= 0:
        return None
    if config.model_type in {"roberta", "xlm-roberta", "camembert", "longformer"}:
        return limit - (config.pad_token_id or 0) - 1  # positions are counted from pad_token_id + 1
    return limit


def check_length(source: ModelSource, config: RunConfig) -> None:
    """Raise `ConfigError` when the sequences are longer than the model's positions."""
    limit = max_positions(source.config)
    if limit is None:
        return
    for knob, length in (("seq_len", config.seq_len), ("target_len", config.target_len or 0)):
        if length > limit:
            flag = KNOBS[knob].flag
            raise ConfigError(
                knob,
                f"{flag} {length} is longer than the {limit} positions of {config.model}: use {flag} {limit} or less.",
            )


def shape(source: ModelSource, config: RunConfig, *, n_labels: int, vocab_size: int | None) -> PretrainedConfig:
    """The configuration to build: the source's, with the run's labels, vocabulary, attention and dropout.

    `vocab_size` is that of a vocabulary trained for this run; weights that exist keep their own size.
    """
    settings: dict[str, Any] = json.loads(source.config.to_json_string(use_diff=False))
    shaped = type(source.config).from_dict(settings)
    if config.task in ("classification", "token-classification"):
        shaped.num_labels = n_labels
    if config.task == "classification":
        shaped.problem_type = "single_label_classification"
    if config.task == "question-answering":
        shaped.num_labels = 2  # an answer's begin and its end
    text = shaped.get_text_config()
    if vocab_size is not None and not source.has_weights:
        text.vocab_size = vocab_size
        text.bos_token_id = text.eos_token_id = None  # of the vocabulary that was replaced
        for field in ("pad_token_id", "decoder_start_token_id"):
            if (getattr(text, field, None) or 0) >= vocab_size:
                setattr(text, field, 0)  # the padding of both vocabularies that are trained here
                setattr(shaped, field, 0)
    if config.task == "causal-lm" and hasattr(text, "is_decoder"):
        text.is_decoder = True  # BERT's language model head would see the tokens that it predicts
    if text.pad_token_id is None:
        text.pad_token_id = shaped.pad_token_id = 0  # decoders' classifiers look for the last real token
    if not config.dropout:
        for part in {id(shaped): shaped, id(text): text}.values():
            for key, value in vars(part).items():
                if ("dropout" in key or "pdrop" in key) and isinstance(value, (int, float)):
                    setattr(part, key, 0.0)
    shaped.use_cache = text.use_cache = False
    return shaped


def build(source: ModelSource, shaped: PretrainedConfig, config: RunConfig) -> PreTrainedModel:
    """Build the model on the host, its parameters stored as `config.weights`, with weights where there are any.

    On the meta device weights that are to be quantised are not: what stands for them is the forecast's.

    A fresh initialisation follows torch's global generator: seed it first. Also used on the meta device,
    under `torch.device("meta")`, where weights are never read.
    Raises `ConfigError` when transformers has no such head or attention for this architecture, when its files or its
    sizes cannot be used, and when it is larger than this machine's memory.
    """
    import torch

    import_transformers()
    check_head(shaped, config)
    head = _heads()[config.task]
    on_meta = torch.get_default_device().type == "meta"
    options = _options(config)
    trusted = known(source.name) is not None
    model: PreTrainedModel
    if on_meta or source.name not in PRESETS or config.is_quantised:
        with gate.building(), torch.device("meta"), _refusing(config, shaped, "built"):
            model = _fresh(source, shaped, head, options)
        if not on_meta:
            model_trial.check_room(
                model, config, is_read=source.has_weights, read_in=getattr(source.config, "dtype", None)
            )
    tried = None
    if not on_meta:
        if config.is_quantised:
            tried = model  # a trial would leave quantised layers ready for another device than the run's
        model = _on_host(source, shaped, config, head, options, tried)
    if not trusted and (problem := model_trial.problem_of(tried or model, config)) is not None:
        raise _refusal(problem, config, shaped, "trained")
    return model


def fetch(source: ModelSource, config: RunConfig) -> None:
    """Have the weights where `build` reads them. Raises `ConfigError`."""
    if source.location is not None:
        with _refusing(config, source.config, "read"):
            weights_folder(config.model, source.location, local_only=source.local_only)


def _options(config: RunConfig) -> dict[str, Any]:
    """How transformers is to build a model."""
    return {"attn_implementation": attention.implementation(config), "dtype": DTYPES[config.stored_in]}


def check_head(shaped: PretrainedConfig, config: RunConfig) -> None:
    """Raise `ConfigError` where the architecture has no head for the task."""
    there = tasks_of(shaped)
    if config.task in there:
        return
    *most, last = there or ("",)
    use = f"use --task {' or '.join([', '.join(most), last] if most else [last])}" if last else "use another model"
    raise ConfigError(
        "task",
        f"--task {config.task} does not exist for {config.model} (architecture {shaped.model_type}): {use}.",
    )


def _heads() -> dict[str, Any]:
    """The classes of transformers that put a head on a model, by task."""
    import transformers

    return {
        "classification": transformers.AutoModelForSequenceClassification,
        "causal-lm": transformers.AutoModelForCausalLM,
        "masked-lm": transformers.AutoModelForMaskedLM,
        "seq2seq-lm": transformers.AutoModelForSeq2SeqLM,
        "token-classification": transformers.AutoModelForTokenClassification,
        "question-answering": transformers.AutoModelForQuestionAnswering,
    }


def tasks_of(shaped: PretrainedConfig) -> list[str]:
    """The tasks for which transformers has a head for this architecture."""
    return [task for task, head in _heads().items() if type(shaped) in head._model_mapping]


def _on_host(
    source: ModelSource,
    shaped: PretrainedConfig,
    config: RunConfig,
    head: Any,
    options: dict[str, Any],
    quantised_as: PreTrainedModel | None,
) -> PreTrainedModel:
    """`quantised_as`: the model on the meta device, where its weights are to be quantised."""
    model: PreTrainedModel
    if not source.has_weights:
        with gate.building(), _refusing(config, shaped, "built"):
            model = _fresh(source, shaped, head, options)
            if quantised_as is not None:
                quantised.quantise(model, config)
            return model
    if quantised_as is not None:  # as they are read: the whole model never is in memory in 16 bits
        how = quantised.loading(quantised.kept(quantised_as, config), config, options["dtype"])
        options = {**options, "quantization_config": how, "device_map": {"": "cpu"}}
    with _refusing(config, shaped, "read"):
        if source.location is not None:
            where: Any = str(weights_folder(config.model, source.location, local_only=source.local_only))
        else:
            assert source.state is not None
            from transformers.models.auto.auto_factory import _get_model_class

            head = _get_model_class(shaped, head._model_mapping)  # it alone takes weights that are in memory
            where, options = None, {**options, "state_dict": source.state()}
        with gate.building():
            model = head.from_pretrained(
                where,
                config=shaped,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                ignore_mismatched_sizes=True,  # a classifier saved for other classes gets a new head
                **options,
            )
        quantised.for_training(model)
        return model


def _fresh(source: ModelSource, shaped: PretrainedConfig, head: Any, options: dict[str, Any]) -> PreTrainedModel:
    """A model without weights to read, as its published weights would have it."""
    import torch

    model: PreTrainedModel = head.from_config(shaped, **options)
    architecture = known(source.name)
    output: Any = model.get_output_embeddings() if architecture is not None and architecture.own_output else None
    if output is not None:
        output.weight = torch.nn.Parameter(output.weight.detach().clone())
    return model


@contextmanager
def _refusing(config: RunConfig, shaped: PretrainedConfig, what: str) -> Iterator[None]:
    """Turn what transformers raises, which is anything, into a `ConfigError`; memory that ran out stays what it is."""
    import torch

    try:
        yield
    except (ConfigError, Stopped, NotImplementedError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if host_memory.ran_out(error):
            raise
        refusal = _refusal(error, config, shaped, what)
    else:
        return
    raise refusal


def _refusal(error: Exception, config: RunConfig, shaped: PretrainedConfig, what: str) -> ConfigError:
    """`what`: the model could not be built, read or trained."""
    if what != "read":
        fields = {"model_type": shaped.model_type, **shaped.to_diff_dict()}
        if at_fault := model_faults.culprit(config.model, fields, error, lambda said: _trains(said, shaped, config)):
            return at_fault
    reason, fix = _reason(error), "Get its files again, or use another model."
    if any(words in reason for words in ("support an attention implementation", "attn_implementation")):
        return ConfigError(
            "attention", f"--attention {config.attention} does not exist for {config.model}: use --attention eager."
        )
    if what != "read":
        fix = "Correct its config.json, or use another model."
        if isinstance(error, KeyError):  # an activation, most likely
            named = [field for field, value in vars(shaped).items() if error.args and value == error.args[0]]
            reason = f"{' and '.join(named) or 'something'} in its config.json is {reason}, which transformers lacks"
    return ConfigError("model", f"--model {config.model!r} could not be {what}: {reason.rstrip('.')}. {fix}")


def _trains(said: dict[str, Any], shaped: PretrainedConfig, config: RunConfig) -> bool:
    """Whether a model of the architecture of `shaped` with these fields can be built and tried, on the meta device."""
    import torch

    try:
        made = type(shaped).from_dict({key: value for key, value in said.items() if key != "model_type"})
        with gate.building(), torch.device("meta"):
            return model_trial.problem_of(_heads()[config.task].from_config(made, **_options(config)), config) is None
    except Exception:  # a model's own code may raise anything
        return False


def _reason(error: BaseException) -> str:
    """An error's first line, and the second where the first announces it."""
    lines = [line.strip() for line in str(error).strip().splitlines()] or [type(error).__name__]
    first = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    return first[:300].rstrip() or type(error).__name__
