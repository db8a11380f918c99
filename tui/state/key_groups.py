"""Which keys belong together in the help, by the names of their actions. Pure: no Textual."""

from __future__ import annotations

from collections.abc import Iterable

KEY_GROUPS: dict[str, tuple[str, ...]] = {
    "Runs and plans": ("run", "stop", "job", "ask", "plans", "pause", "skip", "propose", "save_model", "resume"),
    "Recording": ("replay_pause", "replay_seek", "replay_speed"),
    "Knobs": ("step", "move_knob", "turn", "type_value", "find_knob", "fold_all", "undo", "named", "choose_card"),
    "Results": (
        *("move_row", "run_details", "pin", "explain", "mark", "filter", "sort", "reverse_sort", "note"),
        *("delete", "restore", "export", "copy_command", "copy_script"),
    ),
    "Plots": ("cursor", "move_cursor", "leave_cursor", "log_scale", "recent"),
    "Screen": (
        *("next_pane", "zoom", "back", "log", "scroll_log", "choose_rank", "ranks", "cards", "presenter"),
        *("cycle_theme", "meter", "screenshot"),
        *("help", "command_palette", "suspend_process", "quit"),
    ),
}
"""Heading -> actions, in the order in which they are told."""

ROOMS = {"knobs": "Knobs", "results": "Results", "log": "Screen", "memory": "Plots", "loss": "Plots", "speed": "Plots"}
"""The group of the pane that has the focus: it is told first."""


def action_name(action: str) -> str:
    """`step` for `app.step('batch_size', 1)`."""
    return action.partition("(")[0].rpartition(".")[2]


def group_of(action: str) -> str:
    """The heading that an action is told under; the last one where none names it."""
    name = action_name(action)
    return next((heading for heading, names in KEY_GROUPS.items() if name in names), "Screen")


def in_order(actions: Iterable[str], pane: str = "") -> dict[str, list[str]]:
    """Actions under their headings, the group of the focused pane first; a heading without any is left out."""
    headings = sorted(KEY_GROUPS, key=lambda heading: heading != ROOMS.get(pane))
    given = list(dict.fromkeys(actions))

    def place(action: str) -> int:
        names = KEY_GROUPS[group_of(action)]
        return names.index(action_name(action)) if action_name(action) in names else len(names)

    grouped = {
        heading: sorted((action for action in given if group_of(action) == heading), key=place) for heading in headings
    }
    return {heading: found for heading, found in grouped.items() if found}
