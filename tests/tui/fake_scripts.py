"""What a run of the user's own script tells, made up: for tests, and to be looked at.

    python -m tests.tui.fake_scripts [--trainer] [--cpu] [--ranks] [--hostile] [--fails] [--stops]

shows such a run in this terminal: a plain loop that never says how many updates it does, `--trainer` one that the
Trainer of transformers drives, `--cpu` on a CPU, `--ranks` under torchrun, `--hostile` with output that a terminal
would obey, `--fails` until it is out of memory, `--stops` until it is stopped and takes its time.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from engine.contract.config import RunConfig
from engine.contract.events import (
    Event,
    FigureLogged,
    Forecasted,
    Logged,
    RankBeat,
    RanksStarted,
    RunFinished,
    RunProgress,
    RunStarted,
    Sampled,
    ScriptKnown,
    UpdateDone,
)
from engine.contract.knob import SCRIPT
from engine.contract.records import (
    DeviceInfo,
    Memory,
    Outcome,
    Phase,
    RankInfo,
    RankShare,
    RunRecord,
    Shares,
)
from engine.contract.run_figures import RunFigures, new_record
from engine.contract.script_figures import ScriptFigures
from tests.tui.fake_session import CPU, GPU, MIB, FakeHistory, ready, record, sampled
from tests.tui.live_feed import LiveFeed, Told, show

LOOP_COMMAND = (
    "python train.py config/finetune_shakespeare.py --batch_size={batch_size} "
    "--gradient_accumulation_steps={gradient_accumulation_steps} --dtype={precision:bf16=bfloat16,fp32=float32} "
    "--block_size={block_size=256,512,1024} --dropout={dropout_rate=0.0,0.1}"
)
TRAINER_COMMAND = (
    "python run_glue.py --model_name_or_path google-bert/bert-base-uncased --task_name sst2 --do_train "
    "--output_dir out --per_device_train_batch_size={batch_size}"
)
LOOP = RunConfig(job=SCRIPT, command=LOOP_COMMAND, precision="bf16")
"""A plain loop: its command carries knobs, and two of its own."""
TRAINER = RunConfig(job=SCRIPT, command=TRAINER_COMMAND, command_flags="transformers", batch_size=32)
"""A script with `TrainingArguments`: every knob that they have can be turned."""
BARE = RunConfig(job=SCRIPT, command="python train.py --epochs 3")
"""A command that carries nothing."""
RANKS = RunConfig(job=SCRIPT, command=f"torchrun --nproc_per_node 2 {LOOP_COMMAND.removeprefix('python ')}")

LOG_PATH = "/home/me/.local/share/traintop/scripts/run-9.log"
PLANNED = 400
WEIGHTS, GRADIENTS, OPTIMIZER = 475 * MIB, 475 * MIB, 950 * MIB
HOSTILE = (
    "\x1b[2J\x1b]0;owned\x07",
    "\u202egnirts",
    "\x9b31m\x1b[31mred\x1b[0m",
    "a" * 4000,
    "日本語 100%|██████████| 3/3",
    "\r\n\x00\x07\x1b]52;c;aGk=\x07",
    "e" + "\u0301" * 40,
)
OUT_OF_MEMORY = (
    "Out of memory in backward of update 31: CUDA out of memory. Tried to allocate 384.00 MiB. GPU 0 has a total "
    "capacity of 7.43 GiB of which 23.00 MiB is free."
)
WAITS = (
    "SIGINT sent: waiting for the script to end; SIGTERM in 10 s",
    "SIGTERM sent: waiting for the script to end; SIGKILL in 10 s",
    "SIGKILL sent: it is gone in a moment",
)
"""What is said while a script that was stopped takes its time."""


def memory(device: DeviceInfo = GPU, activations: int = 2900 * MIB) -> Memory:
    """A reading; on a CPU it is what the child process has."""
    if device.kind == "cpu":
        return Memory(used=1240 * MIB + activations // 10, total=16_000 * MIB)
    allocated = WEIGHTS + GRADIENTS + OPTIMIZER + activations
    reserved = allocated + 210 * MIB
    return Memory(
        used=reserved + 480 * MIB,
        reserved=reserved,
        allocated=allocated,
        peak_used=reserved + 490 * MIB,
        peak_reserved=reserved,
        peak_allocated=allocated + 60 * MIB,
        total=7611 * MIB,
        by_category={
            "weights": WEIGHTS,
            "gradients": GRADIENTS,
            "optimizer": OPTIMIZER,
            "activations": activations,
        },
    )


def begun(run_id: int = 1, config: RunConfig = LOOP, device: DeviceInfo = GPU) -> RunStarted:
    return RunStarted(run_id=run_id, config=config, device=device, started_at=1_700_000_000.0)


def starting(run_id: int = 1, detail: str = "starting python train.py") -> RunProgress:
    return RunProgress(run_id=run_id, phase=Phase.LOAD, detail=detail)


def stopping(run_id: int = 1, step: int = 0) -> RunProgress:
    """What is waited for after a stop."""
    return RunProgress(run_id=run_id, phase=Phase.LOAD, detail=WAITS[step])


def known(run_id: int = 1, config: RunConfig = LOOP, **values: Any) -> ScriptKnown:
    """What is known of it once it trains: of a plain loop no number of updates."""
    trainer = config.command_flags == "transformers"
    event = ScriptKnown(
        run_id=run_id,
        n_parameters=109_483_778 if trainer else 123_653_376,
        n_trained=109_483_778 if trainer else 123_653_376,
        planned_updates=PLANNED if trainer else None,
        planned_epochs=3.0 if trainer else None,
        gradient_accumulation_steps=1 if trainer else 4,
        model="BertForSequenceClassification" if trainer else "GPT",
        optimizer="AdamW",
        told_by="transformers" if trainer else None,
        torch_version="2.13.0",
        batch_size=32 if trainer else 8,
        n_processes=2 if config == RANKS else 1,
        log_path=LOG_PATH,
    )
    return replace(event, **values)


def update(number: int = 1, run_id: int = 1, config: RunConfig = LOOP, device: DeviceInfo = GPU, **values: Any) -> Any:
    """Update `number` of a script: of a Trainer's the loss is logged, and so known of every tenth only."""
    trainer = config.command_flags == "transformers"
    took = 0.250 + 0.012 * (number % 4)
    told = 10.2 * 0.98**number + 0.8 + 0.05 * math.sin(number)
    event = UpdateDone(
        run_id=run_id,
        update=number,
        epoch=3 * number / PLANNED if trainer else None,
        loss=None if trainer and number % 10 else told,
        learning_rate=6e-4 * min(1.0, number / 20),
        grad_norm=1.0 + 0.2 * math.cos(number),
        loss_scale=None,
        skipped=False,
        n_samples=32,
        n_tokens=32 * (128 if trainer else 256),
        update_s=took,
        warmup=number <= 3,
        t=0.27 * number,
        shares=Shares(data=0.02, forward=0.08, backward=took - 0.17, optimizer=0.03, other=0.04),
        memory=memory(device, (2900 + 12 * (number % 5)) * MIB),
    )
    return replace(event, **values)


def logged(number: int = 10, run_id: int = 1, **figures: float) -> FigureLogged:
    """What its trainer logs, those of an evaluation among them."""
    told = figures or {"loss": 0.61 * 0.99**number, "learning_rate": 4.5e-5, "grad_norm": 2.1, "epoch": 0.1}
    return FigureLogged(run_id=run_id, update=number, figures=told, t=0.27 * number)


def printed(text: str, source: str = "stdout") -> Logged:
    return Logged(source=source, text=text)


def reading(run_id: int = 9, t: float | None = 1.0, device: DeviceInfo = GPU) -> Sampled:
    """The sampler's, of a run of a script."""
    return replace(sampled(run_id, t, gpu=device.kind == "cuda"), memory=memory(device))


def whole(run_id: int = 1, config: RunConfig = LOOP, device: DeviceInfo = GPU, n: int = 40) -> list[Event]:
    """A run from its start to its `n`th update, without its end."""
    events: list[Event] = [begun(run_id, config, device), starting(run_id), known(run_id, config)]
    for number in range(1, n + 1):
        done = update(number, run_id, config, device)
        events.append(done)
        if number % 10 == 0:
            if config.command_flags == "transformers":
                events.append(logged(number, run_id))
            events.append(printed(f"iter {number}: loss {done.loss:.4f}, time {1000 * done.update_s:.2f}ms"))
            events.append(reading(run_id, done.t, device))
    return events


FIGURES = ScriptFigures(
    exit_code=0,
    log_path=LOG_PATH,
    model="GPT",
    optimizer="AdamW",
    batch_size=8,
    gradient_accumulation_steps=4,
    seq_len=256,
    held={"weights": WEIGHTS, "gradients": GRADIENTS, "optimizer": OPTIMIZER},
)
"""What is known of a plain loop at its end."""


def script_record(run_id: int = 1, outcome: Outcome = Outcome.COMPLETED, **values: Any) -> RunRecord:
    """A finished run of a script."""
    figures = values.pop("figures", {})
    run = RunRecord(
        run_id=run_id,
        config=LOOP,
        outcome=outcome,
        device=GPU,
        started_at=1_700_000_000.0,
        updates=PLANNED,
        train_runtime_s=107.4,
        samples_per_s=119.2,
        steady_samples_per_s=121.4,
        steady_spread=2.4,
        tokens_per_s=31_080.0,
        train_loss=3.217,
        last_loss=2.481,
        n_parameters=123_653_376,
        peak_used=5500 * MIB,
        peak_reserved=5010 * MIB,
        peak_allocated=4860 * MIB,
        memory_total=7611 * MIB,
        script=replace(FIGURES, **figures),
    )
    return replace(run, **values)


def failed(run_id: int = 1, code: int = 3, **values: Any) -> RunRecord:
    """One that ended with an exit code that is not 0."""
    message = f"python train.py ended with exit code {code}: see the end of its output in {LOG_PATH}."
    return script_record(run_id, Outcome.FAILED, message=message, figures={"exit_code": code}, **values)


def out_of_memory(run_id: int = 1, **values: Any) -> RunRecord:
    """One that died of torch.OutOfMemoryError."""
    figures = {"exit_code": 1}
    return script_record(
        run_id,
        Outcome.OUT_OF_MEMORY,
        failed_phase=Phase.BACKWARD,
        message=OUT_OF_MEMORY,
        updates=31,
        figures=figures,
        **values,
    )


def ranks_begun(run_id: int = 1, n: int = 2) -> list[Event]:
    """Workers of torchrun: they are told once they import torch."""
    infos = tuple(
        RankInfo(rank=rank, device=replace(GPU, index=rank, gpu_index=None), host="lab3", pid=4711 + rank)
        for rank in range(n)
    )
    return [begun(run_id, RANKS), starting(run_id), RanksStarted(run_id=run_id, ranks=infos), known(run_id, RANKS)]


def update_of_ranks(number: int, run_id: int = 1, n: int = 2) -> UpdateDone:
    """The same update in every process; the last one is slower, and the others wait for it."""
    done = update(number, run_id, RANKS)
    each = tuple(
        RankShare(
            rank=rank,
            n_samples=16,
            n_tokens=16 * 256,
            update_s=done.update_s,
            shares=replace(done.shares, waiting=0.02 if rank + 1 < n else 0.0),
            memory=memory(activations=(2900 + 40 * rank) * MIB),
        )
        for rank in range(n)
    )
    return replace(done, ranks=each, n_samples=16 * n, n_tokens=16 * 256 * n)


def told(config: RunConfig, device: DeviceInfo, words: Collection[str]) -> Told:
    """One run, and when each of its events is told; `words` are flags of this program."""
    no_forecast = Forecasted(config=config, forecast=None, message="Your script's model is not known before it runs.")
    yield 0.2, (ready(device), no_forecast)
    figures = RunFigures(new_record(9, config, device, 1_700_000_000.0))
    start = ranks_begun(9) if config is RANKS else [begun(9, config, device), starting(9), known(9, config)]
    yield 0.5, tuple(start)
    events: list[Event] = list(start)
    for number in range(1, 1 + (31 if "--fails" in words else 60 if "--stops" in words else PLANNED)):
        done = update_of_ranks(number, 9) if config is RANKS else update(number, 9, config, device)
        more: list[Event] = [done, reading(9, done.t, device)]
        if number % 10 == 0 and config is TRAINER:
            more.append(logged(number, 9))
        if config is RANKS:
            more += [RankBeat(run_id=9, rank=rank, phase=Phase.BACKWARD, update=number, since_s=0.1) for rank in (0, 1)]
        if number % 5 == 0:
            text = f"iter {number}: loss {done.loss or 0:.4f}, time {1000 * done.update_s:.2f}ms"
            more.append(printed(HOSTILE[number // 5 % len(HOSTILE)] if "--hostile" in words else text))
        events += more
        yield 0.6 + done.t, tuple(more)
    t = 0.6 + 0.27 * number
    if "--stops" in words:
        yield t, (stopping(9),)
        yield t + 5, (stopping(9, 1),)
        t += 8
    so_far = figures.after(events).as_record()
    outcome = Outcome.STOPPED if "--stops" in words else Outcome.COMPLETED
    ended = replace(so_far, outcome=outcome, script=FIGURES)
    if "--fails" in words:
        end = {"outcome": Outcome.OUT_OF_MEMORY, "failed_phase": Phase.BACKWARD, "message": OUT_OF_MEMORY}
        ended = replace(so_far, **end, script=replace(FIGURES, exit_code=1))  # type: ignore[arg-type]
    yield t, (RunFinished(record=ended),)


def main(words: Sequence[str]) -> None:
    """Show a run until q is pressed."""
    device = CPU if "--cpu" in words else GPU
    config = TRAINER if "--trainer" in words else RANKS if "--ranks" in words else LOOP
    larger = LOOP.with_values(batch_size=16)
    rows = [
        record(3),
        script_record(4),
        script_record(5, config=larger, steady_samples_per_s=141.0, peak_used=6890 * MIB, train_runtime_s=93.0),
        out_of_memory(6, config=LOOP.with_values(batch_size=32)),
        failed(7),
    ]
    feed = LiveFeed(config, told(config, device, words), FakeHistory(rows, 4))
    feed.busy = True
    show(feed, words)


if __name__ == "__main__":
    main(sys.argv[1:])
