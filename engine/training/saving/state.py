"""What a training is made of beside its data: written to a file, and put back to the last bit. Nothing is pickled."""

from __future__ import annotations

import base64
import hashlib
import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from engine.contract.events import EvalDone, Event, UpdateDone
from engine.history.series import pack, unpack
from engine.techniques import optimizer_state
from engine.techniques.parallel.sharding import leave_parts
from engine.techniques.parallel.together import Together
from engine.tracing.own_part import own_part
from engine.training.saving import parts
from engine.training.saving.places import STATE, TOLD

if TYPE_CHECKING:
    from engine.training.job import Job
    from engine.workloads.collate import Samples
    from engine.workloads.prepared import PreparedData

_HEAD = 64
"""Values of each frozen weight that its fingerprint is made of: another model differs in them."""


def write_state(job: Job, folder: Path) -> None:
    """Write the training as it stands after an update, each rank its part: all call it.

    Raises `OSError`, and `RuntimeError` where PyTorch says so.
    """
    together = job.together
    leave_parts(job.model)
    own: dict[str, Any] = {"random": _random_state(job.device.torch_device)}
    if together.divides_states:
        own["states"] = parts.write(job, trained_state(job.model) if together.divides_weights else {}, folder)
    ranks = together.everyones(own)
    if together.rank:
        return
    state = {
        "model": None if together.divides_weights else trained_state(job.model),
        "optimizer": None if together.divides_states else job.optimizer.state_dict(),
        "schedule": job.schedule.state_dict(),
        "scaler": job.precision.scaler.state_dict(),
        "loader": job.epoch_began,
        "random": own["random"],
        "ranks": ranks if together.world_size > 1 else None,
    }
    with (folder / STATE).open("wb") as file:
        torch.save(state, file)


def read_state(folder: Path) -> dict[str, Any]:
    """What rank 0 wrote, on the host. Raises what PyTorch raises over a file that is damaged."""
    state: dict[str, Any] = torch.load(folder / STATE, map_location="cpu", weights_only=True)
    return state


def put_back(job: Job, state: dict[str, Any], folder: Path) -> None:
    """Make `job` the training that `state` was taken from, each rank its part of it, with its own random numbers."""
    leave_parts(job.model)
    held, together = trained_state(job.model), job.together
    own = state["ranks"][together.rank] if together.world_size > 1 else {"random": state["random"]}
    if not together.divides_weights:
        if held.keys() != state["model"].keys():
            raise ValueError("the model has other weights")
        with torch.no_grad():
            for name, tensor in held.items():
                tensor.copy_(state["model"][name])
    if together.divides_states:
        parts.read(job, held if together.divides_weights else {}, own["states"], folder)
    else:
        optimizer_state.load(job.optimizer, state["optimizer"])
    job.schedule.load_state_dict(state["schedule"])
    if job.precision.scaler.is_enabled():
        job.precision.scaler.load_state_dict(state["scaler"])
    if state["loader"] is not None and job.loader.generator is not None:
        job.loader.generator.set_state(state["loader"])
    job.random = own["random"]


def trained_state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The weights that are trained, once where they are tied, and the buffers, by name; no copies."""
    trained = {name: tensor.detach() for name, tensor in model.named_parameters() if tensor.requires_grad}
    return {**trained, **{name: tensor.detach() for name, tensor in model.named_buffers()}}


def _random_state(device: torch.device) -> dict[str, Any]:
    version, numbers, following = random.getstate()
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "python": (version, list(numbers), following),
        "numpy": (str(kind), torch.from_numpy(np.asarray(keys, dtype=np.int64)), position, has_gauss, gauss),
    }


def put_back_random(state: dict[str, Any], device: torch.device) -> None:
    """The random numbers that come next are those that came next then."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
    version, numbers, following = state["python"]
    random.setstate((version, tuple(numbers), following))
    kind, keys, *others = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *others))


def data_fingerprint(data: PreparedData) -> str:
    """Of all samples, the held-out ones too, and of the classes' names."""
    digest = hashlib.sha256(json.dumps([data.label_names, data.pad_token_id]).encode())
    for part in (data.train, data.evaluation):
        _add_samples(digest, part)
    return digest.hexdigest()


def _add_samples(digest: Any, part: Samples | None) -> None:
    arrays = {} if part is None else {**part.sequences, "offsets": part.offsets, "classes": part.classes}
    for name, array in sorted(arrays.items()):
        digest.update(name.encode())
        if array is not None:
            digest.update(np.ascontiguousarray(array).data)


def frozen_fingerprint(model: torch.nn.Module, together: Together) -> str:
    """Of the weights that are not trained: their names, shapes and first values, in every rank's part of them."""
    leave_parts(model)
    digest = hashlib.sha256()
    for name, tensor in model.named_parameters():
        if not tensor.requires_grad:
            head = own_part(tensor.detach()).flatten()[:_HEAD].contiguous().cpu().view(torch.uint8)
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} {head.tolist()}".encode())
    if not together.divides_weights:
        return digest.hexdigest()
    return hashlib.sha256(" ".join(together.everyones(digest.hexdigest())).encode()).hexdigest()


class Told:
    """What a run has told of its updates and evaluations, packed, so that one that goes on with it tells the whole."""

    def __init__(self, packed: Sequence[bytes] = ()) -> None:
        self._packed = list(packed)
        self._since: list[Event] = []

    def add(self, event: Event) -> None:
        """Remember an event, where it is one of those."""
        if isinstance(event, (UpdateDone, EvalDone)):
            self._since.append(event)

    def write(self, folder: Path) -> None:
        """Write it into a checkpoint's folder. Raises `OSError`."""
        if self._since:
            self._packed.append(pack(self._since))
            self._since = []
        texts = [base64.b85encode(part).decode("ascii") for part in self._packed]
        (folder / TOLD).write_text(json.dumps(texts), encoding="ascii")

    def events(self, run_id: int) -> Iterable[UpdateDone | EvalDone]:
        """All of it, as told by the run `run_id`. Raises `ValueError` where it is damaged."""
        for part in self._packed:
            for event in unpack(run_id, part):
                if isinstance(event, (UpdateDone, EvalDone)):
                    yield replace(event, run_id=run_id)


def read_told(folder: Path) -> Told:
    """What `Told.write` wrote. Raises `OSError` and `ValueError`."""
    return Told([base64.b85decode(text) for text in json.loads((folder / TOLD).read_text(encoding="ascii"))])
