"""The keys that work everywhere, and the same actions by name for the command palette."""

from __future__ import annotations

from textual.binding import Binding, BindingType

from engine.contract.config import RunConfig
from tui.state.knob_list import LETTERS, every_row, label_of
from tui.state.knobs import why
from tui.state.script_knobs import may_turn

CURSOR_KEYS: list[BindingType] = [
    Binding("left", "move_cursor(-1)", "cursor: a column", key_display="←→", priority=True),
    Binding("right", "move_cursor(1)", "a column to the right", show=False, priority=True),
    Binding("shift+left", "move_cursor(-1, True)", "cursor: one update", key_display="⇧←→", priority=True),
    Binding("shift+right", "move_cursor(1, True)", "an update to the right", show=False, priority=True),
    Binding("pageup", "move_cursor(-10)", "10 columns to the left", show=False, priority=True),
    Binding("pagedown", "move_cursor(10)", "10 columns to the right", show=False, priority=True),
    Binding("home", "move_cursor(-1000000)", "first update", show=False, priority=True),
    Binding("end", "move_cursor(1000000)", "newest update", show=False, priority=True),
    Binding("escape", "leave_cursor", "leave the cursor", key_display="Esc", priority=True),
]
"""Keys of the plots' cursor, ahead of the panes' own: they are there while it is."""

KEYS: list[BindingType] = [
    Binding("r", "run", "run"),
    Binding("s", "stop", "stop"),
    Binding("b", "step('batch_size', 1)", "larger batch", show=False),
    Binding("B", "step('batch_size', -1)", "smaller batch", show=False),
    Binding("c", "step('gradient_checkpointing', 1)", "checkpointing", show=False),
    Binding("f", "step('precision', 1)", "precision", show=False),
    Binding("a", "step('gradient_accumulation_steps', 1)", "more accumulation", show=False),
    Binding("A", "step('gradient_accumulation_steps', -1)", "less accumulation", show=False),
    Binding("m", "step('model', 1)", "model", show=False),
    Binding("w", "step('dataloader_num_workers', 1)", "workers", show=False),
    Binding("o", "step('optimizer_implementation', 1)", "optimizer implementation", show=False),
    Binding("c", "step('kv_cache', 1)", "KV cache", show=False),
    Binding("f", "step('weights', 1)", "weights", show=False),
    Binding("a", "step('max_new_tokens', 1)", "longer answers", show=False),
    Binding("A", "step('max_new_tokens', -1)", "shorter answers", show=False),
    Binding("w", "step('prompt_len', 1)", "prompt length", show=False),
    Binding("o", "step('speculate', 1)", "speculate", show=False),
    Binding("J", "job", "train, answer, your script"),
    Binding("Q", "ask", "ask a model"),
    Binding("p", "plans", "plans"),
    Binding("S", "pause", "pause the plan, go on", show=False),
    Binding("n", "skip", "next run of the plan", show=False),
    Binding("e", "explain", "explain"),
    Binding("h", "propose", "what fits"),
    Binding("D", "choose_card", "choose the card", show=False),
    Binding("x", "export", "export"),
    Binding("y", "copy_command", "copy the command line", show=False),
    Binding("X", "copy_script", "copy a Trainer script", show=False),
    Binding("W", "save_model", "save the model", show=False),
    Binding("C", "resume", "resume a run cut short", show=False),
    Binding("space", "pin", "pin", key_display="space"),
    Binding("z", "zoom", "zoom"),
    Binding("escape", "back", "zoom out, show all runs", key_display="Esc", show=False),
    Binding("Y", "log_scale", "logarithmic loss", show=False),
    Binding("g", "recent", "last minute, whole run", show=False),
    Binding("v", "cursor", "read values from plots", show=False),
    Binding("u", "undo", "undo", show=False),
    Binding("K", "named", "named configurations", show=False),
    Binding("l", "log", "log", show=False),
    Binding("left_square_bracket", "choose_rank(-1)", "the rank before", show=False),
    Binding("right_square_bracket", "choose_rank(1)", "the next rank", key_display="[ ]"),
    Binding("i", "ranks", "ranks: cards, processes, logs", show=False),
    Binding("P", "cards", "all cards and programs", show=False),
    Binding("T", "cycle_theme", "colours", show=False),
    Binding("M", "meter", "what the app costs", show=False),
    Binding("V", "presenter", "presenter's view", show=False),
    Binding("ctrl+s", "screenshot", "save the screen as SVG", show=False),
    Binding("ctrl+z", "suspend_process", "to the background", show=False),
    Binding("question_mark", "help", "help", key_display="?"),
    Binding("ctrl+p", "command_palette", "palette", key_display="^p", priority=True),
    Binding("q", "quit", "quit"),
    Binding("ctrl+q,ctrl+c", "quit", "quit", show=False, priority=True),
]
"""Bindings of the app; the panes add their own. A key of a knob is there in the jobs that have it so."""

COMMANDS: tuple[tuple[str, str, str], ...] = (
    ("Run", "Start a run with the knobs as they are (r)", "run"),
    ("Stop", "Stop at the next layer; the row is kept (s)", "stop"),
    ("Plans", "Start an experiment or a sweep, or go on with a plan (p)", "plans"),
    ("Pause plan", "Wait after the current run, or go on (S)", "pause"),
    ("Skip run", "End the current run of the plan, and go on with the next (n)", "skip"),
    ("Job", "Turn to training, answering or your script: knobs, rows and plans are that job's (J)", "job"),
    ("Ask", "Type a prompt: the model that was trained last, or the next run's, answers it (Q)", "ask"),
    ("Undo", "Take the last change of a knob back (u)", "undo"),
    ("Find knob", "Go to a knob by its name, its flag or its group (/ in the list)", "find_knob"),
    ("Groups", "Open or close all groups of knobs (G in the list)", "fold_all"),
    ("Configurations", "Load or save the knobs under a name; presets; the command (K)", "named"),
    ("Pin", "Make the selected run the baseline, or let go of it (space)", "pin"),
    ("Explain", "What the knob or the run in focus does, and why (e)", "explain"),
    ("What fits", "Configurations that fit instead of a run that was out of memory (h)", "propose"),
    ("Choose card", "Choose the card of the next run: who is on each, and whether it fits (D)", "choose_card"),
    ("Run details", "Everything known about the selected run", "run_details"),
    ("Mark run", "Mark the selected run for an export or a deletion (t)", "mark"),
    ("Filter runs", "Show the runs that have some words (/)", "filter"),
    ("Sort runs", "By the next column (< and >; R reverses)", "sort(1)"),
    ("Note", "Write a note on the selected run (N)", "note"),
    ("Delete runs", "Take the marked runs, or the selected one, off the list (d)", "delete"),
    ("Undelete runs", "Bring back what was deleted last (U)", "restore"),
    ("Export", "Write runs as Markdown, LaTeX, CSV or JSON, or copy them (x)", "export"),
    ("Copy command", "Copy the command line of the run or of the next one (y)", "copy_command"),
    ("Copy script", "Copy the run or the next one as a whole script for the Hugging Face Trainer (X)", "copy_script"),
    ("Save model", "Write the model of the run that has just ended, for transformers and peft (W)", "save_model"),
    ("Resume run", "Go on with the selected run, which was cut short, from its last checkpoint (C)", "resume"),
    ("Screenshot", "Save the screen as SVG in the current folder (^s)", "screenshot"),
    ("Zoom", "Let the focused pane fill the screen, or put it back (z)", "zoom"),
    ("Logarithmic loss", "Draw the loss on a logarithmic axis, or on a linear one (Y)", "log_scale"),
    ("Last minute", "Plot the last minute, or the whole run (g)", "recent"),
    ("Cursor", "Read exact values from all plots at one update (v; ← → move it)", "cursor"),
    ("Presenter", "Large figures, fewer panes, and the keys that are pressed (V)", "presenter"),
    ("Meter", "Show the app's own share of a processor core and its bytes/s to the terminal, or hide it (M)", "meter"),
    ("Next rank", "Look at the next of several GPUs: its memory, time and log ([ and ])", "choose_rank(1)"),
    ("Ranks", "Card, process, memory, time and log of the chosen rank, or of all (i)", "ranks"),
    ("Cards", "All cards of this machine, and who is on them (P)", "cards"),
    ("Log", "Show or hide the log (l)", "log"),
    ("Help", "The keys of where you are (?)", "help"),
    ("Colours", "Dark, light, high contrast, for colour-blind eyes (T)", "cycle_theme"),
    ("Theme", "Choose among all themes", "change_theme"),
    ("Quit", "Leave; asks while a run is under way (q)", "quit"),
)
"""Name, help and action."""


def knob_commands(config: RunConfig) -> list[tuple[str, str, str]]:
    """The same for typing each knob of a configuration's job; of a script each that can be turned."""
    letters = LETTERS[config.job]
    return [
        (
            f"Set {label_of(row)}{f' ({letters[row.knob]})' if row.knob in letters else ''}",
            why(config, row),
            f"type_value({row.knob!r}, {row.own!r})",
        )
        for row in every_row(config)
        if row.own or may_turn(config, row.knob)
    ]
