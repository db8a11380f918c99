"""The first line: device, what is trained, and how far it is."""

from __future__ import annotations

import time

from engine.contract.answering_knobs import DEFAULT_PROMPT_LEN, DEFAULT_REQUESTS, DUMMY_PROMPTS, NO_FILES
from engine.contract.config import RunConfig
from engine.contract.figures import CPU
from engine.contract.job import BatchJob, time_left
from engine.contract.numbers import UNKNOWN, clock, mib, number
from engine.contract.own_data import data_name, is_own_file, prompts_name, work_of
from engine.contract.records import DeviceInfo, Outcome
from engine.contract.script_entries import BATCH
from engine.contract.script_name import script_name
from engine.contract.text import counted
from tui.drawing.cells import Line, ends, join, width_of
from tui.drawing.text import clean
from tui.panes.base import Pane
from tui.panes.drawing import OUTCOME_ROLES
from tui.state.answer_view import AnswerView
from tui.state.knobs import short_name
from tui.state.run_view import RunView
from tui.state.script_view import model_words
from tui.state.state import State

_SOON_S = 15 * 60
"""A job that ends so soon is said in a colour."""


class TitlePane(Pane):
    """One line without a frame."""

    def body(self, state: State, width: int, height: int) -> list[Line]:
        """The whole line."""
        right = [join([part, [(" ", "text")]], "") for part in _progress(state)]
        run = state.run if state.running else None
        config = run.config if run else state.editor.config
        brand: Line = [(" traintop ", "brand")]
        if state.playback:  # part of the brand: it is never left out
            brand += [(f" {state.playback}", "pending")]
        if state.history_trouble:  # so is this
            brand += [(f" {state.history_trouble}", "bad")]
        if state.gpu_lost:
            brand += [(" GPU lost", "bad")]
        model: Line = [(clean(script_name(config) if config.is_script else short_name(config.model), 40), "value")]
        said = clean(_work(config, run), 40)
        work: Line = [(f" · {said}", "muted")] if said else []
        devices, jobs = _devices(state, config), _job(state.job)
        named = [join([brand, job, device, model + work], "   ") for device in devices for job in jobs]
        # which file it is says more than which model
        if config.trains and is_own_file(config.workload, config.data):
            data: Line = [(clean(data_name(config), 40), "value")]
            counted: Line = [(clean(work_of(config, run.n_train if run else None), 40), "value")]
            named += [join([brand, jobs[-1], devices[-1], part], "   ") for part in (counted, data)]
        named += [join([brand, jobs[-1], devices[-1], model], "   "), join([brand, jobs[-1], devices[-1]], "  ")]
        brand = join([brand, jobs[-1]], "  ")
        # the device's name is worth more than the longest way to say how far the run is
        pairs = [(left, tail) for tail in right for left in named] + [(brand, tail) for tail in right]
        left, tail = next((pair for pair in pairs if _fits(*pair, width)), (brand, right[-1]))
        return [ends(left, tail, width)]


def _work(config: RunConfig, run: RunView | None) -> str:
    """What is trained on, or what is asked: `dummy 8×256+128`, requests × prompt and new tokens, as far as known;
    of a script the model.
    """
    if config.is_script:
        known = run.script.known if run is not None and run.script is not None else None
        return model_words(known) if known is not None else ""
    if config.trains:
        return work_of(config, run.n_train if run else None)
    if config.prompt is not None:
        return f"“{config.prompt}”"
    name = prompts_name(config)
    started = run.answer.started if run is not None and run.answer is not None else None
    many = started.n_requests if started is not None else config.requests
    length = started.prompt_tokens if started is not None else config.prompt_len
    if config.prompts in NO_FILES:
        many = many or DEFAULT_REQUESTS
    if config.prompts == DUMMY_PROMPTS:
        length = length or DEFAULT_PROMPT_LEN
    named, new = f"{name} {'all' if many is None else many}", config.max_new_tokens
    if config.task == "classification":
        return f"{named}×{length}" if length else named
    return f"{named}×{length}+{new}" if length else f"{named}, {new} new"


def _fits(left: Line, right: Line, width: int) -> bool:
    return width_of(left) + 2 + width_of(right) <= width


def _job(job: BatchJob | None) -> list[Line]:
    """Ways to name the job and the time that it has left, the longest first."""
    if job is None:
        return [[]]
    left_s = job.left_s(time.time())
    left: Line = [] if left_s is None else [(f"{time_left(left_s)} left", "warn" if left_s < _SOON_S else "value")]
    places = [" · ".join(filter(None, (f"job {job.job_id}", job.node, job.partition))), f"job {job.job_id}"]
    ways = [join([[(place, "muted")], left], " · ") for place in places]
    return [*ways, left] if left else ways


def _device(device: DeviceInfo | None) -> list[Line]:
    """Ways to name the device, the longest first."""
    if device is None:
        return [[]]
    name = clean(device.name, 32)
    kind = "" if device.kind == "cuda" else f" · {device.kind}"
    number = f" · {device.numbers}" if device.is_of_several else ""
    memory = f" · {mib(device.memory_total)} MiB" if device.memory_total is not None else ""
    return [
        [(name, "value"), (kind + number + memory, "muted")],
        [(name, "value"), (kind + number, "muted")],
    ]


def _devices(state: State, config: RunConfig) -> list[Line]:
    """Ways to name the devices of the run under way, or of the next one, the longest first."""
    run = state.run if state.running else None
    if state.device is None or not (config.is_parallel or (run is not None and run.ranks)):
        return _device(state.device)
    infos = [rank.info.device for rank in run.ranks.each if rank.info is not None] if run is not None else []
    name = clean(state.device.name, 32)
    names = counted(device.name for device in infos) if infos else f"{config.gpus or 'all'} × {name}"
    kind = "" if state.device.kind == "cuda" else f" · {state.device.kind}"
    memory = f" · {mib(state.device.memory_total)} MiB" if len({device.memory_total for device in infos}) <= 1 else ""
    return [[(names, "value"), (kind + more, "muted")] for more in (memory, "")]


def _progress(state: State) -> list[Line]:
    """Ways to say how far the run is, the longest first."""
    run = state.run
    if state.failed:
        return [[("the engine could not start", "bad")]]
    if run is not None and run.under_way:
        return _under_way(state, run)
    if state.queued:
        long = f"loading {state.loading}… the run starts then" if state.loading else "the run is about to start"
        return [[(long, "accent")], [("run queued", "accent")]]
    if state.loading:
        return [[(f"loading {state.loading}…", "muted")]]
    if state.plan is not None:
        return [[(f"{state.plan.title}   ", "value"), (state.plan.where, "accent")], [(state.plan.where, "accent")]]
    if run is None and state.playback:
        return [[("waiting for a run", "accent")], [("waiting", "accent")]]
    if run is None:
        return [[("ready: press r to run", "accent")], [("ready", "accent")]]
    outcome = run.outcome
    text = f"run {run.run_id} {outcome.words}"
    rank = run.as_record().failed_rank
    text += f" on rank {rank}" if outcome is Outcome.OUT_OF_MEMORY and rank is not None else ""
    took: Line = [(_whose(run), "muted"), (clock(run.t), "value")] if run.t is not None else []
    return [[("■ ", OUTCOME_ROLES[outcome]), (text, OUTCOME_ROLES[outcome]), *took]]


def _whose(run: RunView) -> str:
    """Before a time: on a virtual GPU it is not the card's."""
    return f"   {CPU} " if run.device.is_virtual else "   "


def _answering(state: State, run: RunView, answer: AnswerView) -> list[Line]:
    """Which request, which token of it, and the time; the longest first."""
    if state.stalled_s is not None:
        return [[(f"  stands still for {clock(state.stalled_s)}", "warn")], [("  stands still", "warn")]]
    if answer.warmup:
        return [
            [(f"  {run.place.words}…" if run.place is not None else "  warm-up…", "accent")],
            [("  warm-up", "accent")],
        ]
    planned = run.planned_s
    passed: Line = [(_whose(run), "muted"), (clock(run.t), "value")]
    passed.append((f" / ~{clock(planned)}" if planned else " / –", "muted"))
    batch: Line = [(f"  batch {run.config.batch_size}", "muted")] if run.config.batch_size > 1 else []
    what = "text" if answer.scores else "request"
    at = run.reached if answer.scores else answer.at
    where: Line = [(f"  {what} {number(at)}/{number(answer.n_requests)}", "value")]
    return [[*batch, *where, *passed], [*where, *passed], passed]


def _under_way(state: State, run: RunView) -> list[Line]:
    name: Line = [("● ", "accent"), (f"run {run.run_id}", "value")]
    if state.plan is not None:
        name = [(f"{state.plan.where}  ", "accent"), *name]
    if state.stopping:
        stopping: Line = [*name, ("  stopping…", "warn")]
        if run.script is None:
            return [stopping]
        sent, _, following = run.detail.partition(": ")
        brief = "; ".join(filter(None, (sent, following.partition("; ")[2])))
        return [*([*name, (f"  {said}", "warn")] for said in (run.detail, brief)), stopping]
    if run.answer is not None and run.planned is not None:
        return [[*name, *said] for said in _answering(state, run, run.answer)]
    if run.x_end is None:
        return [[*name, (f"  {run.detail}…", "accent")], [*name, ("  loading…", "accent")]]
    if state.stalled_s is not None:
        stands = f"  stands still for {clock(state.stalled_s)}"
        return [[*name, (stands, "warn")], [*name, ("  stands still", "warn")]]
    planned = run.planned_s
    passed: Line = [(_whose(run), "muted"), (clock(run.t), "value")]
    passed.append((f" / ~{clock(planned)}" if planned else " / –", "muted"))
    size = BATCH.of(run.as_record()) if run.script is not None else number(run.config.batch_size)
    batch: Line = [(f"  batch {size}", "muted")] if size != UNKNOWN else []
    whole = run.config.effective_batch_size
    of_all: list[Line] = [[*batch, (f" · effective {whole}", "muted")]] if run.ranks and run.script is None else []
    of = f"/{number(run.planned)}" if run.planned else ""
    update: Line = [(f"  update {number(run.reached)}{of}", "muted")]
    ways = [[*name, *said, *update, *passed] for said in (*of_all, batch)]
    ways += [[*name, *update, *passed], [*name, *passed], passed]
    if run.place is None:
        return ways
    place: Line = [(f"  {run.place.words}", "accent")]
    placed = [[*name, *batch, *update, *place, *passed], [*name, *update, *place, *passed], [*name, *place, *passed]]
    return placed + ways
