"""The app with the user's own script: its command, its knobs, its panes, stopping and leaving."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from engine.contract.config import RunConfig
from engine.contract.estimate import of_run
from engine.contract.events import DeviceChosen, RunFinished
from engine.contract.knob import ANSWER, SCRIPT, TRAIN
from engine.contract.numbers import mib
from engine.contract.records import DeviceInfo, Outcome, Shares
from engine.contract.run_figures import new_record
from engine.contract.script_figures import ScriptFigures
from tests.tui import fake_scripts
from tests.tui.fake_session import CPU, MIB, ready, record
from tests.tui.screen_text import SIZES, Stage, stage
from tui.screens.details import run_details
from tui.screens.script_details import script_lines
from tui.state.knobs import describe

VIRTUAL = DeviceInfo(name="Tesla P4", kind="virtual", memory_total=7611 * MIB)
LARGER = fake_scripts.LOOP.with_values(batch_size=16)


async def under_way(s: Stage, config: RunConfig = fake_scripts.LOOP, n: int = 40) -> None:
    """A run of a script, in the middle."""
    await s.feed(*fake_scripts.whole(8, config, n=n))
    s.session.busy = True


# the knobs -------------------------------------------------------------------------------------------------------


async def test_keys_turn_what_the_command_carries() -> None:
    async with stage(config=fake_scripts.LOOP) as s:
        await s.press("b", "f")
        config = s.app.state.editor.config
        assert (config.batch_size, config.precision) == (16, "fp32")
        await s.press("r")
        assert s.session.started == [config]


async def test_a_key_of_a_knob_that_is_not_carried_says_how_it_would_be() -> None:
    async with stage(config=fake_scripts.LOOP) as s:
        await s.press("c")
        assert s.app.state.editor.config == fake_scripts.LOOP
        assert "!c checkpointing" in s.text
        said = " ".join(" ".join(line[:28] for line in s.lines).replace("│", " ").split())
        assert "put {gradient_checkpointing} where its value belongs" in said


async def test_a_knob_of_its_own_is_a_row_with_its_values() -> None:
    async with stage(config=fake_scripts.LOOP) as s:
        await s.press("home", *["down"] * 7, "right")
        assert "block_size" in s.line("▸")
        assert "512" in s.line("▸")
        assert s.app.state.editor.config.command_values == "block_size=512"
        await s.press("enter", "3", "0", "0", "enter")
        assert s.app.state.editor.config.command_values == "block_size=300"
        await s.press("u")
        assert "undone: block_size 512" in s.lines[-1]


async def test_turned_own_knobs_are_pending_beside_the_run_that_is_shown() -> None:
    async with stage(config=fake_scripts.LOOP) as s:
        await under_way(s)
        await s.press("home", *["down"] * 7, "right")
        assert "256 → 512" in s.line("block_size")
        assert "1 changed" in s.line("Next run")


async def test_a_script_with_trainings_arguments_has_more_to_turn() -> None:
    async with stage(config=fake_scripts.TRAINER) as s:
        assert "script's" in s.line("workers")
        await s.press("w")
        assert s.app.state.editor.config.dataloader_num_workers == 1
        command = s.app.state.editor.config.command or ""
        assert "--dataloader_num_workers={dataloader_num_workers}" in command


@pytest.mark.parametrize("size", SIZES)
async def test_what_could_be_turned_never_looks_like_what_cannot(size: tuple[int, int]) -> None:
    async with stage(size, config=fake_scripts.TRAINER) as s:
        assert re.search(r"implementation +scri", s.line("implementation"))
        s.app.state.editor.select("lora_rank")
        await s.press("up")
        assert re.search(r"LoRA rank +–", s.line("LoRA rank"))


@pytest.mark.parametrize("size", SIZES)
async def test_the_whole_command_is_in_its_dialog_and_can_be_typed_anew(size: tuple[int, int]) -> None:
    async with stage(size, config=fake_scripts.LOOP) as s:
        await s.press("home", *["down"] * 5, "enter")
        assert "--block_size={block_size=256,512,1024}" in s.dialog
        await s.press("ctrl+a", "ctrl+k", *"python other.py {batch_size}", "enter")
        config = s.app.state.editor.config
        assert (config.command, config.batch_size, config.precision) == ("python other.py {batch_size}", 8, "fp32")


async def test_a_command_that_cannot_be_read_is_refused_in_its_dialog() -> None:
    async with stage(config=fake_scripts.LOOP) as s:
        await s.press("home", *["down"] * 5, "enter", "end", *" {bogus}", "enter")
        assert "{bogus} is no knob" in s.dialog
        assert s.app.state.editor.config == fake_scripts.LOOP


async def test_a_knob_of_its_own_is_found_by_its_name_and_in_the_palette() -> None:
    async with stage(config=fake_scripts.LOOP) as s:
        await s.press("slash", *"drop")
        assert "dropout_rate" in s.dialog
        await s.press("enter")
        assert s.app.state.editor.list.cursor.own == "dropout_rate"
        names = [command.title for command in s.app.get_system_commands(s.app.screen)]
        assert "Set block_size" in names
        assert "Set batch size (b)" in names
        assert not any("learning rate" in name for name in names)


async def test_the_job_goes_round_where_a_command_is_known() -> None:
    async with stage(config=fake_scripts.LOOP) as s:
        await s.press("b")
        jobs = []
        for _ in range(3):
            assert f"J {s.app.state.editor.jobs[(len(jobs)) % 3]}" in s.lines[-1]
            await s.press("J")
            jobs.append(s.app.state.editor.config.job)
        assert jobs == [TRAIN, ANSWER, SCRIPT]
        assert s.app.state.editor.config == LARGER
    async with stage() as s:
        await s.press("J", "J")
        assert s.app.state.editor.config.job == TRAIN


async def test_the_device_of_a_script_is_never_a_virtual_one() -> None:
    async with stage(config=fake_scripts.LOOP, engine_ready=False) as s:
        await s.feed(ready(VIRTUAL))
        assert s.session.looked_at == ["cpu"]
        await s.feed(DeviceChosen(device=CPU))
        await s.feed()
        assert s.session.looked_at == ["cpu"]
        assert "Intel Xeon" in s.lines[0]
        await s.press("J")
        await s.feed(DeviceChosen(device=VIRTUAL))
        assert s.session.looked_at == ["cpu", "auto"]
    async with stage(config=fake_scripts.LOOP) as s:
        assert s.session.looked_at == []


async def test_the_cursor_begins_on_the_command_where_it_carries_nothing() -> None:
    async with stage(config=fake_scripts.BARE) as s:
        assert "▸  command" in s.text
        await s.press("down", "up", "up")
        assert "▸− script" in s.text


async def test_whoever_watches_sees_the_knobs_of_the_script_and_every_jobs_rows() -> None:
    async with stage(runs=[record(1)]) as s:
        s.app.state.playback = "watching"
        await s.feed(*fake_scripts.whole(8, n=20))
        assert s.app.state.editor.config == fake_scripts.LOOP
        assert "block_size" in s.line("256")
        assert "1 training run: J" in s.text
        shown = []
        for _ in range(3):
            await s.press("J")
            shown.append(s.app.state.table_job)
        assert shown == [TRAIN, ANSWER, SCRIPT]


# panes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
async def test_a_run_without_a_known_end_has_no_eta(size: tuple[int, int]) -> None:
    async with stage(size, config=fake_scripts.LOOP) as s:
        await under_way(s)
        assert "update 40" in s.lines[0]
        assert "/ –" in s.lines[0]
        assert "update 40/" not in s.lines[0]


async def test_the_panes_say_what_was_seen() -> None:
    async with stage((200, 60), config=fake_scripts.LOOP) as s:
        await under_way(s)
        assert "train.py · GPT 124M" in s.lines[0]
        assert "lr 0.0006" in s.text
        assert "grad 0.86" in s.text
        assert "other" in s.text
        assert "weights 475" in s.text
        assert "optimizer 950" in s.text
        assert "iter 40: loss" in s.text
        assert "MFU" not in s.text


async def test_samples_that_are_not_seen_leave_updates() -> None:
    async with stage(config=fake_scripts.LOOP) as s:
        await s.feed(fake_scripts.begun(8), fake_scripts.known(8))
        done = (fake_scripts.update(n, 8, n_samples=None, n_tokens=None, update_s=0.25) for n in range(1, 20))
        await s.feed(*done)
        assert "Updates/s" in s.text
        assert "4.00 ±0" in s.text
        assert "Samples/s" not in s.text


@pytest.mark.parametrize("size", [(120, 40), (200, 60)])
async def test_a_phase_that_is_never_seen_is_unknown(size: tuple[int, int]) -> None:
    async with stage(size, config=fake_scripts.LOOP) as s:
        await s.feed(fake_scripts.begun(8), fake_scripts.known(8))
        without_a_loader = Shares(forward=0.1, backward=0.1, optimizer=0.03, other=0.02)
        await s.feed(*(fake_scripts.update(n, 8, shares=without_a_loader) for n in range(1, 20)))
        assert re.search(r" data +– ", s.text)
        assert re.search(r" optimizer +12 % ", s.text)


async def test_losses_that_a_trainer_logs_and_its_scores() -> None:
    async with stage(config=fake_scripts.TRAINER) as s:
        await under_way(s, fake_scripts.TRAINER, n=40)
        await s.feed(fake_scripts.logged(40, 8, eval_loss=0.412, eval_accuracy=0.834))
        assert "update 40/400" in s.lines[0]
        assert "eval loss 0.412   eval acc 0.834" in s.text


async def test_on_a_cpu_the_memory_is_that_of_the_script() -> None:
    async with stage(config=fake_scripts.LOOP) as s:
        await s.feed(*fake_scripts.whole(8, fake_scripts.LOOP, CPU, n=20))
        assert "RAM MiB" in s.text
        assert "the script 180 % of a core" in s.text


@pytest.mark.parametrize("size", SIZES)
async def test_what_a_script_prints_is_marked_harmless_and_kept_in_a_file(size: tuple[int, int]) -> None:
    async with stage(size, config=fake_scripts.LOOP) as s:
        await under_way(s, n=5)
        await s.feed(
            *(fake_scripts.printed(text) for text in fake_scripts.HOSTILE), fake_scripts.printed("oh no", "stderr")
        )
        if size != (200, 60):
            await s.press("l")
        assert "stderr" in s.line("oh no")
        assert "run-9.log" in s.text
        assert not {"\x1b", "\x07", "\u202e", "\x9b"} & set(s.text)


async def test_ranks_under_torchrun_have_their_bars() -> None:
    async with stage((200, 60), config=fake_scripts.RANKS) as s:
        done = (fake_scripts.update_of_ranks(number, 8) for number in range(1, 20))
        await s.feed(*fake_scripts.ranks_begun(8), *done)
        assert "2 × Tesla P4" in s.lines[0]
        assert "rank 0 waits for rank 1" in s.text
        assert "r1" in s.line("5540")


# stopping --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
async def test_what_is_waited_for_is_said_and_a_second_s_goes_further(size: tuple[int, int]) -> None:
    async with stage(size, config=fake_scripts.LOOP) as s:
        await under_way(s)
        await s.press("s")
        assert s.session.stopped == 1
        await s.feed(fake_scripts.stopping(8))
        assert "SIGINT sent" in s.lines[0]
        assert "insist" in s.lines[-1]
        await s.press("s")
        assert s.session.stopped == 2
        await s.feed(fake_scripts.stopping(8, 1))
        assert "SIGTERM sent" in s.lines[0]


async def test_quitting_asks_and_says_what_becomes_of_the_script() -> None:
    async with stage(config=fake_scripts.LOOP) as s:
        await under_way(s)
        await s.press("q")
        assert "SIGINT asks the script to end" in s.dialog
        await s.press("s")
        assert s.session.stopped == 1
        await s.feed(fake_scripts.stopping(8))
        await s.press("q")
        assert "SIGINT sent: waiting for the script to end" in s.dialog
        assert "one signal further" in s.dialog
        await s.press("s")
        assert s.session.stopped == 2
        ended = fake_scripts.script_record(8, Outcome.STOPPED)
        await s.feed(RunFinished(record=ended))
        assert s.app.return_value == "quit"


# results, details, explanations, plans ---------------------------------------------------------------------------

ROWS = (
    record(1),
    fake_scripts.script_record(2),
    fake_scripts.script_record(3, config=LARGER, steady_samples_per_s=141.0, peak_used=6890 * MIB),
    fake_scripts.out_of_memory(4, config=LARGER.with_values(batch_size=32)),
    fake_scripts.failed(5),
    fake_scripts.script_record(6, config=fake_scripts.BARE, figures={"batch_size": 24}),
)


async def test_scripts_have_a_table_of_their_own() -> None:
    async with stage((200, 60), ROWS, config=fake_scripts.LOOP) as s:
        assert "block_size dropout_rate batch" in s.line("│ # ")
        assert "exit 3" in s.line("│ 5 ")
        assert "1 training run: J" in s.text
        assert " 24 " in s.line("│ 6 ")
        await s.press("J")
        assert "5 script runs: J" in s.text


async def test_a_baseline_is_compared_with_runs_of_the_same_command() -> None:
    async with stage((200, 60), ROWS, config=fake_scripts.LOOP) as s:
        await s.press("tab", "home", "space")
        assert "+16%" in s.line("│ 3 ")
        assert "+1390" in s.line("│ 3 ")
        await s.press("down", "e")
        assert "batch size, 8 → 16" in s.dialog


async def test_rows_are_found_by_own_knobs_and_by_the_command() -> None:
    async with stage(runs=ROWS, config=fake_scripts.LOOP) as s:
        rows = s.app.state.table
        for query, found in (
            ("block_size=256", [2, 3, 4, 5]),
            ("batch=16", [3]),
            ("finetune_shakespeare", [2, 3, 4, 5]),
            ("--epochs", [6]),
            ("learning_rate=5e-05", []),
        ):
            rows.query = query
            assert [row.run_id for row in s.app.state.rows] == found, query


async def test_the_table_is_sorted_by_what_scripts_have() -> None:
    async with stage((200, 60), ROWS, config=fake_scripts.LOOP) as s:
        await s.press("tab")
        headings = []
        for _ in range(16):
            await s.press("greater_than_sign")
            headings.append(s.app.state.table.sort)
        assert {"script", "block_size", "batch", "samples/s", "status"} <= set(headings)


@pytest.mark.parametrize("size", SIZES)
async def test_the_details_say_how_it_ended_what_it_held_and_what_was_not_seen(size: tuple[int, int]) -> None:
    async with stage(size, ROWS, config=fake_scripts.LOOP) as s:
        await s.press("tab", "end", "up", "enter")
        lines = _details(s)
        assert "exit 3" in lines
        assert fake_scripts.LOG_PATH in lines
        assert "weights 475   gradients 475   optimizer 950 MiB" in lines
        assert "not seen          how many updates it was to do" in lines
        assert "block_size        256" in lines
        assert "learning rate" not in lines
        assert "As a script for the Trainer" not in lines


def test_the_details_of_a_run_have_its_number_for_run() -> None:
    command = "python train.py --output_dir={output_dir}"
    config = RunConfig(job=SCRIPT, command=command, output_dir="out/{run}")
    lines = run_details(fake_scripts.script_record(7, config=config), 120)._lines
    assert "output folder     out/7" in lines
    assert any(line.startswith("traintop run --output-dir 'out/{run}' -- ") for line in lines)
    assert describe(config, 7) == "train.py"  # a folder is none of what tells runs apart


def test_of_a_script_that_has_not_trained_yet_nothing_is_claimed() -> None:
    begun = new_record(1, fake_scripts.LOOP, CPU, 0.0)
    assert script_lines(begun, 16) == [
        *(f"{name:<16}–" for name in ("log", "model", "optimizer", "trainer", "a micro-step", "an update")),
        f"{'held at most':<16}–",
        f"{'not seen':<16}updates so far",
    ]
    seen = replace(begun, updates=1, script=ScriptFigures(batch_size=1))
    assert f"{'a micro-step':<16}1 sample" in script_lines(seen, 16)


def _details(s: Stage) -> str:
    return "\n".join(s.app.screen._lines)  # type: ignore[attr-defined]


async def test_explanations_of_the_command_its_own_knobs_and_what_it_leaves_out() -> None:
    async with stage((120, 40), ROWS, config=fake_scripts.LOOP) as s:
        await s.press("e")
        assert "In your own runs" in s.dialog
        assert "Your script is run as: python train.py" in s.dialog
        assert "The lecture saw" not in s.dialog
        await s.press("escape", "home", *["down"] * 7, "e")
        assert "block_size: 256, 512, 1024" in s.dialog
        await s.press("escape")
        s.app.state.editor.select("learning_rate")
        await s.press("e")
        assert "put {learning_rate} where its value belongs" in s.dialog


async def test_plans_are_sweeps_over_what_the_command_carries() -> None:
    async with stage(config=fake_scripts.LOOP) as s:
        await s.press("p")
        text = s.dialog
        for title in ("Sweep over block_size", "Sweep over batch size", "The largest batch size that fits", "Repeats"):
            assert title in text
        assert "learning rate" not in text
        assert "sizes:" not in text
        await s.press("enter")
        plan, _ = s.session.plans[0]
        assert [run.config.command_values for run in plan.runs] == [None, "block_size=512", "block_size=1024"]


async def test_a_command_that_carries_nothing_can_be_repeated_and_other_plans_are_behind_j() -> None:
    async with stage(config=fake_scripts.BARE) as s:
        await s.press("p")
        assert "Repeats" in s.dialog
        assert "Sweep over" not in s.dialog
        await s.press("j")
        assert "Plans that train" in s.dialog
        await s.press("j", "j")
        assert "Plans of your command" in s.dialog


async def test_what_only_a_training_of_ours_has_is_refused_in_a_sentence() -> None:
    async with stage(runs=ROWS, config=fake_scripts.LOOP) as s:
        await s.press("h")
        assert "p searches the largest" in s.lines[-1]
        await s.feed(*fake_scripts.whole(8), RunFinished(record=fake_scripts.script_record(8)))
        await s.press("W")
        assert "a script keeps its model itself" in s.lines[-1]


async def test_the_help_tells_of_the_knob_under_the_cursor() -> None:
    async with stage(config=fake_scripts.LOOP) as s:
        await s.press("home", *["down"] * 7, "question_mark")
        assert "block_size --command-values" in s.dialog
        assert "only your script knows: 256, 512, 1024." in s.dialog


# what another batch size would need ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
async def test_what_was_measured_says_what_another_batch_size_needs(size: tuple[int, int]) -> None:
    async with stage(size, ROWS[:2], config=fake_scripts.LOOP) as s:
        wanted = of_run(ROWS[1], batch_size=16)
        assert wanted is not None
        assert f"batch 16 ~{mib(wanted.need)}" in s.text
        assert "too much" in s.line("batch 16 ~") or "may fit" in s.line("batch 16 ~")
        assert f"{mib(wanted.least)}–{mib(wanted.most)} MiB" in s.text
        assert "estimate" in s.text
        s.app.state.editor.set_value("batch_size", 4)
        await s.feed(fake_scripts.reading(None, None))
        assert "batch 4 ~" in s.text
        assert "fits" in s.line("batch 4 ~")


async def test_the_estimate_follows_the_run_that_is_shown_and_only_knobs_that_were_measured() -> None:
    async with stage(config=fake_scripts.LOOP) as s:
        await s.feed(*fake_scripts.whole(8, n=1))
        assert "estimate" not in s.text
        await s.feed(*(fake_scripts.update(number, 8) for number in range(2, 6)))
        assert "batch 16 ~" in s.text
        s.app.state.editor.select("command_values", "block_size")
        await s.press("right")
        assert "estimate" not in s.text


async def test_there_is_no_estimate_without_what_it_is_made_of() -> None:
    row = fake_scripts.script_record(2, figures={"held": {}})
    async with stage(runs=(row,), config=fake_scripts.LOOP) as s:
        assert "estimate" not in s.text
    async with stage(runs=(fake_scripts.script_record(2, device=CPU),), config=fake_scripts.LOOP) as s:
        assert "estimate" not in s.text
