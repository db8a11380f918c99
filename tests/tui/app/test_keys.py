"""Every key of the app: what it asks of the session or changes in the state, then what the screen says."""

from __future__ import annotations

import pytest
from textual.binding import Binding

from engine.contract.by_job import defaults_of
from engine.contract.config import KNOBS, RunConfig
from engine.contract.events import EngineFailed, RunRefused
from engine.contract.knob import JOBS, SCRIPT, TRAIN
from engine.contract.records import Outcome
from tests.tui.fake_session import MIB, FakeHistory, finished, record, sampled, started, training, update
from tests.tui.screen_text import SIZES, stage
from tui.app.app import TraintopApp
from tui.panes.knobs import KnobsPane
from tui.panes.log import LogPane
from tui.panes.results import ResultsPane
from tui.screens.main import MainScreen
from tui.state.key_groups import KEY_GROUPS, action_name
from tui.state.knob_list import LETTERS, ORDER, in_groups, keyed


async def test_run_starts_the_next_configuration() -> None:
    async with stage(config=RunConfig(batch_size=4)) as s:
        await s.press("r")
        assert s.session.started == [RunConfig(batch_size=4)]
        await s.press("r")
        assert len(s.session.started) == 1
        assert "under way" in s.lines[-1]


async def test_a_run_before_the_engine_is_ready_is_queued() -> None:
    async with stage(engine_ready=False) as s:
        assert "loading PyTorch…" in s.lines[0]
        await s.press("B", "r")
        assert s.session.started == [RunConfig(batch_size=4)]
        assert "the run starts then" in s.lines[0]


async def test_stop_asks_the_session_and_says_so() -> None:
    async with stage() as s:
        await s.press("s")
        assert s.session.stopped == 0
        assert "nothing is running" in s.lines[-1]
        await s.press("r")
        await s.feed(started(), training(), update(1))
        await s.press("s")
        assert s.session.stopped == 1
        assert "stopping" in s.lines[0]
        await s.feed(finished(outcome=Outcome.STOPPED))
        assert "run 1 stopped" in s.lines[0]


@pytest.mark.parametrize(
    ("key", "name", "value"),
    [
        ("b", "batch_size", 16),
        ("B", "batch_size", 4),
        ("a", "gradient_accumulation_steps", 2),
        ("c", "gradient_checkpointing", "on"),
        ("f", "precision", "tf32"),
        ("m", "model", "bert-mini"),
        ("w", "dataloader_num_workers", 1),
        ("o", "optimizer_implementation", "foreach"),
        ("plus", "batch_size", 16),
        ("minus", "batch_size", 4),
        ("right", "batch_size", 16),
        ("left", "batch_size", 4),
    ],
)
async def test_knob_keys(key: str, name: str, value: object) -> None:
    async with stage() as s:
        await s.press(key)
        assert getattr(s.app.state.editor.config, name) == value
        assert s.app.state.editor.selected == name


async def test_less_accumulation() -> None:
    async with stage(config=RunConfig(gradient_accumulation_steps=4)) as s:
        await s.press("A")
        assert s.app.state.editor.config.gradient_accumulation_steps == 2


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("size", SIZES)
async def test_every_knob_is_reached_and_seen(size: tuple[int, int], job: str) -> None:
    config = defaults_of(job)
    async with stage(size, config=config) as s:
        await s.press("home")
        for name in keyed(config):
            assert s.app.state.editor.selected == name
            assert f"▸{LETTERS[job][name]} {KNOBS[name].label}" in s.text
            await s.press("j")
        for group, names in in_groups(config).items():
            if not names:
                continue
            if group != SCRIPT:  # which is open
                assert f"▸+ {group} " in s.text
                await s.press("enter")
            assert f"▸− {group} " in s.text
            for name in names:
                await s.press("j")
                assert s.app.state.editor.selected == name
                assert f"▸{LETTERS[job].get(name, ' ')} {KNOBS[name].label}" in s.text
            await s.press("j")
        await s.press("k", "up", "down", "home")
        assert s.app.state.editor.selected == ORDER[job][0]


async def test_undo() -> None:
    async with stage() as s:
        await s.press("b", "u")
        assert s.app.state.editor.config == RunConfig()
        assert "undone: batch size 8" in s.lines[-1]
        await s.press("u")
        assert "nothing to undo" in s.lines[-1]


async def test_a_knob_turned_during_a_run_is_pending() -> None:
    async with stage((120, 40), [], started(), training(), update(1)) as s:
        await s.press("b")
        assert "8 → 16" in s.line("batch size")
        assert "1 changed" in s.line("Next run")
        assert "batch 8" in s.lines[0]
        assert s.app.state.run is not None
        assert s.app.state.run.config.batch_size == 8


async def test_after_a_run_the_knobs_that_differ_from_it_are_marked() -> None:
    async with stage((120, 40), [], started(), training(), update(1), finished(config=RunConfig())) as s:
        assert "→" not in s.line("batch size")
        await s.press("c")
        assert "off → on" in s.line("checkpointing")


async def test_typing_a_value() -> None:
    async with stage() as s:
        await s.press("enter")
        assert "Samples per micro-step" in s.text
        await s.press(*"24", "enter")
        assert s.app.state.editor.config.batch_size == 24
        assert isinstance(s.app.screen, MainScreen)
        assert "24" in s.line("batch size")


async def test_a_refused_value_is_answered_inline() -> None:
    async with stage() as s:
        await s.press("enter", *"0", "enter")
        assert "--batch-size 0 is out of bounds" in s.text
        assert not isinstance(s.app.screen, MainScreen)
        await s.press("escape")
        assert s.app.state.editor.config == RunConfig()


async def test_typing_goes_to_the_line_not_to_the_app() -> None:
    async with stage() as s:
        await s.press("m", "enter", *"rsq", "enter")
        assert s.app.state.editor.config.model == "rsq"
        assert s.session.started == []
        assert not s.session.stopped


async def test_a_refused_run_is_shown_beside_its_knob() -> None:
    async with stage() as s:
        await s.press("r")
        message = "--precision fp16 needs a CUDA GPU: use fp32 or bf16."
        await s.feed(RunRefused(run_id=None, config=RunConfig(precision="fp16"), knob="precision", message=message))
        s.session.busy = False
        assert "!f precision" in s.text
        assert " ".join(line[1:27].strip() for line in s.lines).count(message) == 1
        await s.press("r")
        assert len(s.session.started) == 2
        assert "!f precision" not in s.text


async def test_pinning_the_baseline() -> None:
    async with stage((120, 40), [record(1), record(2, steady_samples_per_s=9.6)]) as s:
        await s.press("tab", "up", "space")
        assert s.history.baseline() == 1
        assert "1*" in s.line("+25%") or "run 1*" in s.text
        assert "+25%" in s.text
        await s.press("space")
        assert s.history.baseline() is None
        assert "+25%" not in s.text


async def test_the_selected_row_is_explained_against_the_baseline() -> None:
    config = record(1).config.with_values(gradient_checkpointing="on")
    async with stage((120, 40), [record(1), record(2, config=config, samples_per_s=5.49, peak_used=3681 * MIB)]) as s:
        await s.press("tab", "up", "space", "down")
        assert "run 2: checkpointing on" in s.text
        assert "3,388 MiB" in s.text


async def test_a_run_under_way_becomes_the_baseline_when_it_has_ended() -> None:
    async with stage((120, 40), [], started(), training(), update(1)) as s:
        await s.press("space")
        assert s.history.baseline() is None
        assert "run 1 becomes the baseline when it has ended: space takes that back" in s.lines[-1]
        assert " 1*" in s.line("running")
        await s.press("space")
        assert "run 1 will not be the baseline" in s.lines[-1]
        await s.press("space")
        await s.feed(finished())
        assert s.history.baseline() == 1
        assert "run 1 is the baseline" in s.lines[-1]
        assert "Δ to run 1*" in s.line("Results")


async def test_a_run_that_did_not_fit_does_not_become_the_baseline() -> None:
    async with stage((120, 40), history=FakeHistory([record(1)], baseline=1)) as s:
        await s.feed(started(2), training(2), update(1, 2))
        await s.press("space")
        await s.feed(finished(2, Outcome.OUT_OF_MEMORY))
        assert s.history.baseline() == 1
        assert "run 2 out of memory: the baseline stays as it was" in s.lines[-1]


async def test_there_is_nothing_to_pin_before_the_first_run() -> None:
    async with stage() as s:
        await s.press("space")
        assert "no run to pin yet: r runs" in s.lines[-1]


async def test_tab_goes_round_the_panes() -> None:
    async with stage((200, 60), [record(1)]) as s:
        seen = []
        for _ in range(4):
            seen.append(s.app.focused.id if s.app.focused else None)
            await s.press("tab")
        assert seen == ["knobs", "results", "log", "knobs"]
        await s.press("shift+tab")
        assert s.app.focused is not None
        assert s.app.focused.id == "knobs"


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_the_log_is_a_key_away(size: tuple[int, int]) -> None:
    async with stage(size) as s:
        assert "PyTorch 2.13.0 ready" not in s.text
        await s.press("l")
        assert "PyTorch 2.13.0 ready" in s.text
        await s.press("l")
        assert "PyTorch 2.13.0 ready" not in s.text


async def test_the_log_is_shown_where_there_is_room() -> None:
    async with stage((200, 60)) as s:
        assert "PyTorch 2.13.0 ready" in s.text
        await s.press("l")
        assert "PyTorch 2.13.0 ready" not in s.text


async def test_the_log_scrolls() -> None:
    async with stage((200, 60)) as s:
        for number in range(100):
            s.app.state.write("engine", f"line {number}.")
        await s.press("tab", "tab", "pageup")
        assert s.app.state.log_scroll == 10
        assert "line 89." in s.text
        assert "10 newer below" in s.text
        await s.press("end")
        assert "line 99." in s.text


async def test_help_tells_the_keys_and_the_knob() -> None:
    async with stage() as s:
        await s.press("f", "question_mark")
        assert KNOBS["precision"].flag in s.text
        assert "tensor cores" in s.text
        assert "next value" in s.text
        await s.press("escape")
        await s.press("tab", "question_mark")
        assert "details" in s.text
        await s.press("escape")
        assert isinstance(s.app.screen, MainScreen)


async def test_run_details() -> None:
    async with stage((120, 40), [record(7, Outcome.OUT_OF_MEMORY, message="Out of memory in forward: [b]x[/b].")]) as s:
        await s.press("tab", "enter")
        assert "Run 7" in s.text
        assert "Out of memory in forward: [b]x[/b]." in s.text
        assert "checkpointing     off" in s.text


@pytest.mark.parametrize("size", SIZES)
async def test_a_class_has_one_line_of_the_details(size: tuple[int, int]) -> None:
    confusion = ((20, 3, 2), (8, 0, 1), (3, 0, 43))
    run = record(7, eval_confusion=confusion, label_names=("negative", "neutral", "positive"), eval_macro_f1=0.561)
    async with stage(size, [run]) as s:
        await s.press("tab", "enter")
        seen = set(s.lines)
        for _ in range(4):
            await s.press("pagedown")
            seen.update(s.lines)
        assert any("0.000  0.000         9  negative 8, positive 1 " in line for line in seen)


async def test_the_palette_has_every_action() -> None:
    async with stage() as s:
        names = [command.title for command in s.app.get_system_commands(s.app.screen)]
        assert {"Run", "Stop", "Undo", "Pin", "Log", "Help", "Theme", "Quit"} <= set(names)
        assert len(names) == len(set(names))
        assert sum(name.startswith("Set ") for name in names) == len(ORDER[TRAIN])
        await s.press("ctrl+p")
        assert not isinstance(s.app.screen, MainScreen)


async def test_quit_at_rest_just_quits() -> None:
    async with stage() as s:
        await s.press("q")
    assert s.app.return_value == "quit"


@pytest.mark.parametrize("key", ["q", "ctrl+c", "ctrl+q"])
async def test_quitting_during_a_run_asks(key: str) -> None:
    async with stage((120, 40), [], started(), training(), update(1)) as s:
        s.session.busy = True
        await s.press(key)
        assert "Run 1 is under way" in s.text
        await s.press("w")
        assert isinstance(s.app.screen, MainScreen)
        assert s.session.stopped == 0
        assert s.app.is_running


async def test_stop_and_quit_waits_for_the_row() -> None:
    async with stage((120, 40), [], started(), training(), update(1)) as s:
        s.session.busy = True
        await s.press("q", "s")
        assert s.session.stopped == 1
        assert s.app.return_value is None
        assert "quitting when the run has stopped" in s.text
        s.session.feed(finished(outcome=Outcome.STOPPED))
        s.app.tick()
        await s.pilot.pause()
    assert s.app.return_value == "quit"


async def test_quit_now() -> None:
    async with stage((120, 40), [], started(), training(), update(1)) as s:
        s.session.busy = True
        await s.press("q", "k")
    assert s.app.return_value == "kill"


async def test_the_quit_dialog_obeys_arrows_and_enter() -> None:
    async with stage((120, 40), [], started(), training(), update(1)) as s:
        s.session.busy = True
        await s.press("q", "down", "enter")
        assert isinstance(s.app.screen, MainScreen)
        assert s.session.stopped == 0


async def test_a_broken_engine_is_one_sentence_and_leaves_the_rest_usable() -> None:
    async with stage((120, 40), [record(1)], engine_ready=False) as s:
        await s.feed(EngineFailed(message="PyTorch is not installed: pip install torch."))
        assert "PyTorch is not installed: pip install torch." in s.text
        await s.press("escape", "b")
        assert s.app.state.editor.config.batch_size == 16
        await s.press("r")
        assert s.session.started == []
        assert "pip install torch" in s.text
        await s.press("escape", "q")
    assert s.app.return_value == "quit"


async def test_a_failed_run_says_why_in_a_dialog() -> None:
    async with stage((120, 40), [], started(), training()) as s:
        await s.feed(finished(outcome=Outcome.FAILED, message="Failed in backward: RuntimeError: boom."))
        assert "Run 1 failed" in s.text
        assert "boom" in s.text


async def test_events_behind_a_dialog_are_shown_when_it_closes() -> None:
    async with stage((120, 40), [], started(), training()) as s:
        await s.press("question_mark")
        await s.feed(update(30), sampled())
        await s.press("escape")
        assert "update 30/64" in s.lines[0]


def test_every_key_is_in_a_group_of_the_help() -> None:
    grouped = {name for names in KEY_GROUPS.values() for name in names}
    panes = (*KnobsPane.BINDINGS, *ResultsPane.BINDINGS, *LogPane.BINDINGS, *MainScreen.BINDINGS)
    bindings = [each for each in (*TraintopApp.BINDINGS, *panes) if isinstance(each, Binding)]
    assert {action_name(binding.action) for binding in bindings} <= grouped


@pytest.mark.parametrize("size", SIZES)
async def test_the_help_keeps_every_key_on_one_line(size: tuple[int, int]) -> None:
    async with stage(size, [record(1)], started(8), training(8), update(1, 8)) as s:
        await s.press("tab", "v", "question_mark")
        seen = s.text
        assert "↑↓ scroll   Esc closes" in seen
        while size[1] == 24 and "q  quit " not in seen:
            await s.press("pagedown")
            seen += s.text
        for said in ("PgUp  10 columns to the left", "S  pause the plan, go on", "n  next run of the plan"):
            assert said in seen
        places = [seen.index(heading) for heading in ("Results\n", "Runs and plans\n") if heading in seen]
        assert places == sorted(places)  # the focused pane's first
