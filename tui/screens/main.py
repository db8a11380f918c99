"""The main screen: which pane goes where at which size."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.css.styles import RenderStyles
from textual.dom import DOMNode
from textual.geometry import Size
from textual.message import Message
from textual.screen import Screen

from tui.drawing.cells import Line, wrap
from tui.panes.answer import AnswerPane
from tui.panes.base import Pane
from tui.panes.caption import CaptionPane
from tui.panes.footer import FooterPane
from tui.panes.forecast import ForecastPane
from tui.panes.knobs import KnobsPane
from tui.panes.log import LogPane
from tui.panes.loss import LossPane
from tui.panes.memory import MemoryPane
from tui.panes.results import ResultsPane
from tui.panes.speed import SpeedPane
from tui.panes.time import TimePane
from tui.panes.title import TitlePane
from tui.panes.utilization import UtilizationPane
from tui.state.hints import LAST, Hint, hints
from tui.state.key_groups import action_name
from tui.state.state import State
from tui.terminal.spans import SpanCompositor

SMALLEST = Size(80, 24)
SHORT = 30
"""Rows below which dialogs go without blank rows at their edges."""
STOPS = ("knobs", "answer", "results", "log")
"""Where Tab goes; while a pane fills the screen it goes through all of them."""
LAYOUTS = ("too-small", "small", "medium", "large")

CATEGORIES = (
    "weights",
    "gradients",
    "optimizer",
    "activations",
    "other",
    "allocated",
    "memory",
    "data",
    "forward",
    "backward",
    "waiting",
    "kv",
    "prefill",
    "decode",
    "draft",
    "sampling",
)
ROLES = frozenset(
    (
        *("text", "muted", "title", "frame", "focus", "brand", "key", "value", "accent", "good", "warn", "bad"),
        *(
            "caption",
            "caption-bad",
            "cursor",
            "chosen",
            "pending",
            "limit",
            "gpu",
            "speed",
            "loss",
            "ghost",
            "cached",
            "context",
            "guessed",
        ),
        *CATEGORIES,
        *(f"on-{name}" for name in CATEGORIES),
    )
)
"""What a cell can stand for; the stylesheet gives each its colour."""


def layout_for(size: Size) -> str:
    """Which of the designed layouts a terminal of `size` gets."""
    if size.width < SMALLEST.width or size.height < SMALLEST.height:
        return "too-small"
    if size.width >= 170 and size.height >= 50:
        return "large"
    return "medium" if size.width >= 110 and size.height >= 36 else "small"


class TooSmallPane(Pane):
    """All that is said in a terminal that is too small."""

    def body(self, state: State, width: int, height: int) -> list[Line]:
        """One sentence."""
        need = f"needs {SMALLEST.width}×{SMALLEST.height}"
        return [[(line, "warn")] for line in wrap(f"terminal too small: {width}×{height}, {need}", width, height)]


class MainScreen(Screen[None]):
    """All panes. They are told the state; they know neither each other nor the engine."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "app.next_pane(1)", "next pane", show=False),
        Binding("shift+tab", "app.next_pane(-1)", "previous pane", show=False),
    ]

    def __init__(self, state: State) -> None:
        super().__init__()
        self._compositor = SpanCompositor()
        self._state = state
        self._log_wanted: bool | None = None
        self.zoomed: str | None = None
        """The pane that fills the screen."""

    def compose(self) -> ComposeResult:
        """Everything is mounted once; the stylesheet shows what a layout has room for."""
        self._lay_out(self.app.size, update=False)  # nothing is here yet whose style could change
        yield TooSmallPane("too-small")
        yield TitlePane("title")
        yield CaptionPane("caption")
        with Container(id="main"):
            with Container(id="left"):
                yield KnobsPane("knobs")
                yield ForecastPane("forecast")
            with Container(id="right"):
                yield MemoryPane("memory")
                with Container(classes="pair"):
                    yield UtilizationPane("utilization")
                    yield SpeedPane("speed")
                with Container(classes="pair"):
                    yield LossPane("loss")
                    yield TimePane("time")
                with Container(id="bottom"):
                    yield AnswerPane("answer")
                    yield ResultsPane("results")
                    yield LogPane("log")
        yield FooterPane("footer")

    async def _dispatch_message(self, message: Message) -> None:
        try:  # what leaves this ends the screen's loop
            await super()._dispatch_message(message)
        except Exception as error:
            self.app._handle_exception(error)

    def get_component_styles(self, *names: str) -> RenderStyles:
        """A role's style, worked out when a cell first has that role: of fifty roles, the first paint shows a dozen."""
        for name in ROLES.intersection(names) - self._component_styles.keys():
            cell = DOMNode(classes=name)
            cell._attach(self)
            self.app.stylesheet.apply(cell, animate=False)
            self._component_styles[name] = cell.styles  # forgotten when the screen's own are worked out anew
        return super().get_component_styles(*names)

    def on_mount(self) -> None:
        """The first paint."""
        self.show(self._state)

    def show(self, state: State) -> None:
        """Hand the state to every pane; each sends the terminal only what changed."""
        self._state = state
        if (self.has_class("answers"), self.has_class("will-answer")) != (state.shows_answers, state.will_answer):
            self.set_class(state.shows_answers, "answers")
            self.set_class(state.will_answer, "will-answer")
            self._keep_focus()
        footer = self.query_one(FooterPane)
        wanted = hints(
            state, (self.focused.id or "") if self.focused is not None else "", zoomed=self.zoomed is not None
        )
        footer.hints = self._keys(wanted)
        footer.last = self._keys(LAST)
        for pane in self.query(Pane):
            pane.show(state)

    def show_answer(self, state: State) -> None:
        """Hand the state to the pane of the answer alone, as it is written."""
        self._state = state
        self.query_one(AnswerPane).show(state)

    def _keys(self, wanted: Iterable[Hint]) -> list[tuple[str, str]]:
        """The keys of actions that can be done here, each with its words."""
        keys: dict[str, Binding] = {}
        for active in self.active_bindings.values():
            name = action_name(active.binding.action)
            if active.enabled and (name not in keys or (active.binding.show and not keys[name].show)):
                keys[name] = active.binding
        return [(self.app.get_key_display(keys[name]), words) for name, words in wanted if name in keys]

    def zoom(self, pane_id: str | None) -> None:
        """Let one pane fill the screen, or (None) show all of them again."""
        self.zoomed = pane_id
        target = self.query_one(f"#{pane_id}") if pane_id is not None else None
        path = set(target.ancestors_with_self) if target is not None else set()
        self.set_class(target is not None, "zoomed")
        for node in self.query("#main *"):
            node.set_class(target is not None and node not in path, "aside")
            node.set_class(node in path, "zoom-path")

    def focus_next_pane(self, direction: int) -> None:
        """Focus the next (1) or the previous (-1) pane, which fills the screen if one did before."""
        has_answers = self._state.shows_answers
        panes = [pane for pane in self.query(Pane) if pane.can_focus and (has_answers or pane.id != "answer")]
        if self.zoomed is None:
            panes = [pane for pane in panes if pane.id in STOPS and pane.is_on_screen]
        if not panes:
            return
        index = next((index for index, pane in enumerate(panes) if pane.has_focus), -direction)
        following = panes[(index + direction) % len(panes)]
        if self.zoomed is not None:
            self.zoom(following.id)
        following.focus()

    def present(self, presenting: bool) -> None:
        """Fewer panes, or all of them again."""
        self.set_class(presenting, "presenter")

    def guide(self) -> None:
        """Captions in every view."""
        self.add_class("guided")

    def toggle_log(self) -> None:
        """Show or hide the log pane."""
        self._log_wanted = not self.has_class("log")
        self._lay_out(self.size)
        self._keep_focus()

    def _keep_focus(self) -> None:
        """Where a pane with the focus goes, the knobs have it."""
        if self.focused is not None and not self.focused.display:
            self.query_one(KnobsPane).focus()

    def _lay_out(self, size: Size, *, update: bool = True) -> None:
        wanted = layout_for(size)
        log = wanted == "large" if self._log_wanted is None else self._log_wanted
        self.update_classes({**{name: name == wanted for name in LAYOUTS}, "log": log}, update=update)

    def on_resize(self, event: events.Resize) -> None:
        """Another size may be another layout."""
        self._lay_out(event.size)

    def on_descendant_focus(self) -> None:
        """Other keys work in another pane."""
        self.show(self._state)
