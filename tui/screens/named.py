"""Configurations under a name: load one, save the next run's knobs, delete one; the command of each in sight."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from engine.contract.config import ConfigError, RunConfig
from engine.contract.knob import ANSWER, SCRIPT, TRAIN
from engine.export.hand_over import command_line
from engine.knobs import named as named_knobs
from engine.knobs.named import BUILT_IN, NamedKnobs
from tui.drawing.text import clean
from tui.screens.dialog import Dialog
from tui.screens.line import LineScreen
from tui.state.knobs import describe, turned

_NAME_WIDTH = 30
"""Columns of the names, at most."""
_KEYS = "Enter loads   s saves the next run   d deletes, u undeletes   y copies the command"


class NamedScreen(Dialog[NamedKnobs]):
    """Dismissed with what is to be loaded, or with None."""

    TITLE = "The list of configurations"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,K", "dismiss", "close"),
        Binding("s", "save", "save the next run's knobs"),
        Binding("d,delete", "delete", "delete"),
        Binding("u", "restore", "bring back"),
        Binding("y", "copy", "copy the command"),
    ]

    def __init__(self, config: RunConfig) -> None:
        super().__init__()
        self._config = config
        self._named: list[NamedKnobs] = []
        self._deleted: list[str] = []

    def compose(self) -> ComposeResult:
        """The list, what the one under the cursor changes, and its command."""
        with Vertical(classes="dialog -wide"):
            yield Static("Configurations", classes="heading", markup=False)
            yield OptionList(markup=False, classes="more lines")
            yield Static("", id="about", markup=False)
            yield Static("", id="command", classes="why", markup=False)
            yield Static(_KEYS, id="hint", classes="why last", markup=False)

    def on_mount(self) -> None:
        """Read the folder."""
        self._fill()

    def _fill(self, name: str | None = None) -> None:
        """List the saved ones, then those built in, and those of other jobs last; the cursor on `name`."""
        job = self._config.job
        self._named = sorted([*named_knobs.saved(), *BUILT_IN], key=lambda each: _is_of_another(each, job))
        options = self.query_one(OptionList)
        options.clear_options()
        names = [named.name for named in self._named]
        width = min(_NAME_WIDTH, max(map(len, names)))
        options.add_options(Option(_line(named, width, job)) for named in self._named)
        options.highlighted = names.index(name) if name in names else 0

    @property
    def _current(self) -> NamedKnobs | None:
        index = self.query_one(OptionList).highlighted
        return self._named[index] if index is not None and index < len(self._named) else None

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """Tell more of the one under the cursor."""
        named = self._current
        if named is None:
            return
        about = [f"{'Built in: ' if named.built_in else ''}{clean(named.about, 300)}"] if named.about else []
        command = ""
        if named.config is not None:
            about.append(_difference(self._config, named.config))
            command = clean(command_line(named.config), 400)
        self.query_one("#about", Static).update("\n".join(about))
        self.query_one("#command", Static).update(command)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Load the one under the cursor."""
        named = self._current
        if named is not None and named.config is not None:
            self.dismiss(named)
        elif named is not None:
            self._say(f"{named.name} cannot be read: d deletes it")

    def action_save(self) -> None:
        """Ask for a name."""
        current = self._current
        taken = {named.name for named in self._named if not named.built_in}
        name = current.name if current is not None and not current.built_in else ""
        why = clean(command_line(self._config), 300)

        def told(text: str) -> str:
            return "There is one of that name: Enter replaces it." if text.strip() in taken else ""

        self.app.push_screen(LineScreen("Save the next run's knobs as", why, name, on_change=told), self._save)

    def _save(self, name: str | None) -> None:
        if name is not None:
            name = name.strip()
            self._do(lambda: named_knobs.save(name, self._config), f"saved as {name}", name)

    def action_delete(self) -> None:
        """Delete the one under the cursor; it can be brought back until the list is closed."""
        named = self._current
        if named is None or named.built_in:
            self._say("what is built in stays")
        elif self._do(lambda: named_knobs.delete(named.name), f"{named.name} deleted: u brings it back"):
            self._deleted.append(named.name)

    def action_restore(self) -> None:
        """Bring back what was deleted last."""
        if not self._deleted:
            self._say("nothing to bring back")
            return
        name = self._deleted.pop()
        self._do(lambda: named_knobs.restore(name), f"{name} is back", name)

    def action_copy(self) -> None:
        """Copy the command of the one under the cursor."""
        named = self._current
        if named is not None and named.config is not None:
            self.app.copy_to_clipboard(command_line(named.config))
            self._say(f"command of {named.name} copied, if the terminal allows it (OSC 52)")

    def _do(self, change: Callable[[], None], said: str, name: str | None = None) -> bool:
        """Change the folder, list it anew, and say so; say why not where it cannot be."""
        try:
            change()
        except ConfigError as error:
            self._say(error.message, refused=True)
            return False
        self._fill(name)
        self._say(said)
        return True

    def _say(self, text: str, *, refused: bool = False) -> None:
        hint = self.query_one("#hint", Static)
        hint.set_class(refused, "refusal")
        hint.update(clean(text, 300))


_JOBS = {TRAIN: "a training", ANSWER: "answers", SCRIPT: "a script"}


def _is_of_another(named: NamedKnobs, job: str) -> bool:
    """Whether it is of another job; of one that cannot be read that is not known."""
    return named.config is not None and named.config.job != job


def _line(named: NamedKnobs, width: int, job: str) -> Text:
    what = "cannot be read" if named.config is None else describe(named.config)
    if named.config is not None and _is_of_another(named, job):
        what = f"{_JOBS[named.config.job]}: {what}"
    return Text.assemble(f"{clean(named.name, width):<{width}}  ", (what, "dim"))


def _difference(before: RunConfig, after: RunConfig) -> str:
    """Which knobs of the next run would be other ones."""
    changes = turned(before, after)
    return f"Turns {changes}." if changes else "These are the next run's knobs."
