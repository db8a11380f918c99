"""A model that answers: guesses against none and against no cache, and a question to it."""

from __future__ import annotations

from pathlib import Path

from screenshots.driving import Size, opened

QUESTION = "Write as a question: Nora buys a red scarf in Lisbon."


async def draw(size: Size, home: Path) -> None:
    """All scenes at one size. The model that is asked is the first run in `home`: the first size trains it."""
    from engine.contract.by_job import defaults_of
    from engine.contract.knob import ANSWER
    from engine.history.history import History
    from tests.benchmarks.answering_bench import TRAINING

    with History(home / "history.sqlite3") as history:
        is_taught = bool(history.runs())
    taught = TRAINING.with_values(output_dir=str(home / "small"))
    asked = defaults_of(ANSWER).with_values(
        model="run:1", device="cpu", prompts="repeating", requests=6, max_new_tokens=64, kv_cache="off"
    )
    async with opened(asked if is_taught else taught, size, home) as stage:
        state = stage.state
        if not is_taught:
            await stage.press("r")
            await stage.finished(1)
            state.editor.replace(asked)
        done = len(state.finished)
        await stage.press("r")
        await stage.finished(done + 1)
        await stage.press("tab", "home", "space", "shift+tab")  # against no cache
        state.editor.replace(asked.with_values(kv_cache="dynamic"))
        await stage.press("r")
        await stage.finished(done + 2)
        state.editor.replace(asked.with_values(kv_cache="dynamic", speculate="lookup"))
        state.editor.select("speculate")
        await stage.forecast()
        await stage.press("r")
        await stage.under_way(250)
        await stage.save("answers")
        await stage.finished(done + 3)
        await stage.press("Q")
        await stage.until(lambda: len(stage.app.screen_stack) == 2)
        await stage.press(*("space" if letter == " " else letter for letter in QUESTION), "enter")
        await stage.finished(done + 4)
        await stage.dialog()
        await stage.save("asked")
