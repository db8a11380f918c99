"""The keys that work everywhere, and the same actions by name for the command palette."""

from __future__ import annotations

from textual.binding import Binding, BindingType

from engine.config import KNOBS
from tui.knobs import LETTERS

KEYS: list[BindingType] = [
    Binding("r", "run", "run"),
    Binding("s", "stop", "stop"),
    Binding("b", "step('batch_size', 1)", "batch", key_display="b/B"),
    Binding("B", "step('batch_size', -1)", "smaller batch", show=False),
    Binding("c", "step('gradient_checkpointing', 1)", "checkpointing"),
    Binding("f", "step('precision', 1)", "precision"),
    Binding("a", "step('gradient_accumulation_steps', 1)", "accumulation", key_display="a/A", show=False),
    Binding("A", "step('gradient_accumulation_steps', -1)", "less accumulation", show=False),
    Binding("m", "step('model', 1)", "model", show=False),
    Binding("w", "step('dataloader_num_workers', 1)", "workers", show=False),
    Binding("o", "step('optimizer_implementation', 1)", "optimizer", show=False),
    Binding("u", "undo", "undo"),
    Binding("space", "pin", "pin", key_display="space"),
    Binding("l", "log", "log"),
    Binding("question_mark", "help", "help", key_display="?"),
    Binding("ctrl+p", "command_palette", "palette", key_display="^p", priority=True),
    Binding("q", "quit", "quit"),
    Binding("ctrl+q,ctrl+c", "quit", "quit", show=False, priority=True),
    Binding("tab", "app.focus_next", "next pane", show=False),
    Binding("shift+tab", "app.focus_previous", "previous pane", show=False),
]
"""Bindings of the app; the panes add their own."""

COMMANDS: tuple[tuple[str, str, str], ...] = (
    ("Run", "Start a run with the knobs as they are (r)", "run"),
    ("Stop", "Stop after the current micro-step; the row is kept (s)", "stop"),
    ("Undo", "Take the last change of a knob back (u)", "undo"),
    ("Pin", "Make the selected run the baseline, or let go of it (space)", "pin"),
    ("Run details", "Everything known about the selected run", "run_details"),
    ("Log", "Show or hide the log (l)", "log"),
    ("Help", "The keys of where you are (?)", "help"),
    ("Theme", "Change colours", "change_theme"),
    ("Quit", "Leave; asks while a run is under way (q)", "quit"),
    *(
        (f"Set {knob.label}{f' ({LETTERS[name]})' if name in LETTERS else ''}", knob.why, f"type_value({name!r})")
        for name, knob in KNOBS.items()
    ),
)
"""Name, help and action."""
