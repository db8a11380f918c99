"""Whole screens at three sizes, as text: what a person sees in each scene, down to the character."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from engine.contract.config import RunConfig
from engine.contract.events import Forecasted, PlanProgress, PlanStarted, RunFinished
from engine.contract.forecast_types import TimelinePoint
from engine.contract.records import Outcome, Phase
from engine.contract.run_figures import RunFigures, new_record
from engine.knobs import named as named_knobs
from tests.tui import fake_answers, fake_ranks, fake_scripts
from tests.tui.app.test_forecast import forecast
from tests.tui.fake_session import (
    GPU,
    MIB,
    FakeHistory,
    memory,
    moment,
    record,
    sampled,
    started,
    training,
    update,
)
from tests.tui.screen_text import SIZES, Stage, stage
from tests.tui.snapshots import check

BASE = RunConfig(model="bert-base-uncased")
TURNED = BASE.with_values(batch_size=16)
CHECKPOINTED = BASE.with_values(gradient_checkpointing="on")
OOM = (
    "Out of memory in backward of micro-step 31 (update 31): Tried to allocate 384.00 MiB. GPU 0 has a total capacity "
    "of 7.43 GiB of which 23.00 MiB is free."
)
RUN = (
    started(8, BASE),
    moment("start", 8),
    training(8),
    *(
        update(n, 8, loss=0.69 * 0.97**n + 0.02 * (n % 3), update_s=1.0 + 0.02 * (n % 4), memory=memory(7040 + n))
        for n in range(1, 31)
    ),
    sampled(8, t=30.0),
)
ROWS = (
    record(5),
    record(6, config=CHECKPOINTED, samples_per_s=5.49, steady_samples_per_s=5.5, peak_used=3619 * MIB),
    record(7, Outcome.OUT_OF_MEMORY, config=TURNED, failed_phase=Phase.BACKWARD, message=OOM),
)


def update_of_a_model(layers: int = 12) -> tuple[TimelinePoint, ...]:
    """One update as a forecast has it: activations grow, are traded for gradients, and the optimizer has its spike."""
    points: list[TimelinePoint] = []

    def add(phase: str, **held: int) -> None:
        by = {"weights": 418, "optimizer": 836, **held}
        by_category = {name: size * MIB for name, size in by.items()}
        points.append(
            TimelinePoint(phase=phase, allocated=sum(by_category.values()), reserved=0, by_category=by_category)
        )

    for layer in range(layers):
        for step in range(6):
            add("forward", activations=60 + 390 * layer + 65 * step, temporaries=90 * (step % 2))
    for layer in range(layers):
        left = layers - 1 - layer
        for step in range(7):
            add("backward", activations=60 + 390 * left, gradients=35 * layer + 5 * step, temporaries=140 * (step % 2))
    for step in range(8):
        add("clip", gradients=418, temporaries=4 * step)
    for step in range(16):
        add("optimizer", gradients=418, temporaries=418 if step == 9 else 60)
    return tuple(points)


def answer(config: RunConfig = BASE, used: int = 7099) -> Forecasted:
    return Forecasted(config=config, forecast=forecast(used, timeline=update_of_a_model()))


async def settled(s: Stage) -> None:
    """The baseline's curve is read in slices of time: read all of it."""
    while s.app.controllers.baseline.reads:
        s.app.tick()
    await s.feed()


async def idle(s: Stage) -> None:
    await s.feed(answer())


async def in_training(s: Stage) -> None:
    await s.feed(answer(), *RUN)


async def pending(s: Stage) -> None:
    await in_training(s)
    await s.press("b")
    await s.feed(answer(TURNED, 12_900))


async def out_of_memory(s: Stage) -> None:
    await in_training(s)
    so_far = RunFigures(new_record(8, BASE, GPU, 0.0)).after(RUN).as_record()
    end = {"outcome": Outcome.OUT_OF_MEMORY, "failed_phase": Phase.BACKWARD, "message": OOM}
    await s.feed(RunFinished(record=replace(so_far, **end, peak_used=7588 * MIB)))


async def plan(s: Stage) -> None:
    s.session.busy = s.session.has_plan = True
    upcoming = BASE.with_values(batch_size=8)
    step = PlanProgress(
        plan_id=1, position=3, total=5, label="batch size 4", upcoming=upcoming, upcoming_label="batch size 8"
    )
    await s.feed(answer(), PlanStarted(plan_id=1, name="batch-size", title="Batch size", total=5), step, *RUN)


async def compare(s: Stage) -> None:
    s.history.events[5] = [training(5), *(update(n, 5, loss=0.7 * 0.95**n) for n in range(1, 65))]
    await in_training(s)
    await s.press("tab", "home", "space", "down")
    await settled(s)


async def explain(s: Stage) -> None:
    await idle(s)
    await s.press("c", "u", "e")


async def explain_out_of_memory(s: Stage) -> None:
    await s.press("tab", "e")
    *before, last = update_of_a_model(18)[:89]
    points = (*before, replace(last, phase="backward"))
    free = (7611 - 529) * MIB - last.allocated
    made = forecast(12_900, timeline=points, failing_segment=384 * MIB, failing_free=free)
    await s.feed(Forecasted(config=TURNED, forecast=made))


async def presenter(s: Stage) -> None:
    await in_training(s)
    await s.press("V")
    await pending_turn(s)


async def pending_turn(s: Stage) -> None:
    await s.press("b")
    await s.feed(answer(TURNED, 12_900))


async def cursor(s: Stage) -> None:
    await in_training(s)
    await s.press("v", *["shift+left"] * 9)


async def configurations(s: Stage) -> None:
    named_knobs.save("big batch, checkpointed", CHECKPOINTED.with_values(batch_size=16))
    await s.press("K")


async def several(s: Stage, n: int, *, virtual: bool = False) -> None:
    """A run on `n` GPUs, and the knobs that it began with."""
    s.app.state.editor.replace(fake_ranks.config_of(n, virtual=virtual))
    done = (fake_ranks.update_of(n, number, 8, loss=0.69 * 0.97**number) for number in range(1, 31))
    reading = fake_ranks.sampled_of(n, 8, 30.0, virtual=virtual)
    await s.feed(fake_ranks.forecast_of(n, virtual=virtual), *fake_ranks.begun(n, 8, virtual=virtual), *done, reading)


async def two_virtual_ranks(s: Stage) -> None:
    await several(s, 2, virtual=True)


async def four_ranks(s: Stage) -> None:
    await several(s, 4)
    await s.press("right_square_bracket", "right_square_bracket")


async def eight_ranks(s: Stage) -> None:
    await several(s, 8)


async def rank_out_of_memory(s: Stage) -> None:
    await several(s, 8)
    await s.feed(fake_ranks.out_of_memory(8, 8))


async def rank_details(s: Stage) -> None:
    await several(s, 8)
    await s.press("i")


async def answers(s: Stage) -> None:
    """A run that guesses, in the middle of its sixth request, beside earlier ones."""
    config = fake_answers.GUESSING
    s.app.state.editor.load(config)
    rows = (fake_answers.answer_record(3), fake_answers.lookup_record(4))
    s.app.state.add_history(rows)
    told = fake_answers.whole(8, config, n=6)[:-4]
    await s.feed(fake_answers.answer_forecast(config), *told, fake_answers.reading(8, 4.0))


async def asked(s: Stage) -> None:
    """A question to the model of the last training, answered."""
    language = RunConfig(model="gpt2-tiny", task="causal-lm", workload="text")
    s.app.state.add_history([record(8, config=language)])
    await s.press("Q", *"what is the first idea", "enter")
    wanted = s.session.started[-1]
    told = (fake_answers.begun(9, wanted), fake_answers.answering(9, 1, 64), *fake_answers.batch(1, run_id=9, most=64))
    await s.feed(*told)
    while s.app.screen is not s.app.screen_stack[0] and "64 tokens" not in s.text:
        s.app.tick()
        await s.pilot.pause()


async def scripts(s: Stage, config: RunConfig, n: int = 60) -> None:
    """A run of a script beside earlier ones."""
    s.app.state.editor.load(config)
    s.app.state.editor.select("batch_size")
    larger = fake_scripts.LOOP.with_values(batch_size=16)
    rows = (
        fake_scripts.script_record(1),
        fake_scripts.script_record(2, config=larger, steady_samples_per_s=141.0, peak_used=6890 * MIB),
        fake_scripts.out_of_memory(3, config=larger.with_values(batch_size=32)),
        fake_scripts.failed(4),
    )
    s.app.state.add_history(rows)
    why = "no forecast for this command: it names no model (--model_name_or_path)"
    told = fake_scripts.whole(8, config, n=n)
    await s.feed(Forecasted(config=config, forecast=None, message=why), *told, fake_scripts.reading(8, 16.2))


async def script(s: Stage) -> None:
    await scripts(s, fake_scripts.LOOP)


async def script_with_a_trainer(s: Stage) -> None:
    await scripts(s, fake_scripts.TRAINER)
    await s.feed(fake_scripts.logged(60, 8, eval_loss=0.412, eval_accuracy=0.834, eval_runtime=2.1, epoch=0.45))


async def script_stopping(s: Stage) -> None:
    await scripts(s, fake_scripts.LOOP)
    s.session.busy = True
    await s.press("s")
    await s.feed(fake_scripts.stopping(8))


async def script_details(s: Stage) -> None:
    await scripts(s, fake_scripts.LOOP)
    await s.press("tab", "up", "enter")


SCENES: dict[str, Callable[[Stage], Awaitable[None]]] = {
    "idle": idle,
    "training": in_training,
    "pending": pending,
    "out-of-memory": out_of_memory,
    "plan": plan,
    "compare": compare,
    "explain": explain,
    "explain-out-of-memory": explain_out_of_memory,
    "presenter": presenter,
    "cursor": cursor,
    "configurations": configurations,
    "two-virtual-ranks": two_virtual_ranks,
    "four-ranks": four_ranks,
    "eight-ranks": eight_ranks,
    "rank-out-of-memory": rank_out_of_memory,
    "rank-details": rank_details,
    "answers": answers,
    "asked": asked,
    "script": script,
    "script-with-a-trainer": script_with_a_trainer,
    "script-stopping": script_stopping,
    "script-details": script_details,
}


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("name", SCENES)
async def test_the_screen_is_as_stored(name: str, size: tuple[int, int]) -> None:
    async with stage(size, history=FakeHistory(ROWS), config=BASE) as s:
        await SCENES[name](s)
        check(f"{name}-{size[0]}x{size[1]}", s.lines)
