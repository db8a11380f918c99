"""When an app has nothing left to do: what tests wait for after a key.

Textual's own waits look at the clock and at how much of it the process has computed: 20 ms and more for each of the
three of a key, up to a second each where other programs are busy, and never sure that all is done.
"""

from __future__ import annotations

import asyncio

from textual._context import active_app
from textual.app import App


async def wait_for_idle(min_sleep: float = 0.0, max_sleep: float = 0.0) -> None:
    """Return when no message, callback or paint is left; only the app's own timers and other threads can bring more.

    Stands in place of Textual's, whose times it has no need of.
    """
    await _everything()
    app = active_app.get()
    while _is_alive(app) and _does_now_what_timers_would_do(app):
        await _everything()


def _is_alive(app: App[object]) -> bool:
    return app.is_running and not app._exit and bool(app.screen_stack)


def _does_now_what_timers_would_do(app: App[object]) -> bool:
    """What Textual puts off for some milliseconds, so as to do several in one: a new size, and painting."""
    if app._resize_timer is not None:
        app._check_resize()
        return True
    screen = app.screen
    waits = screen._layout_required or screen._dirty_widgets or screen._repaint_required or screen._callbacks
    if app._batch_count or not screen.is_current or not waits:
        return False
    with screen._context():
        try:
            screen._on_timer_update()
        except Exception as error:  # a timer hands it to the app
            app._handle_exception(error)
    return True


async def _everything() -> None:
    loop = asyncio.get_running_loop()
    await asyncio.sleep(0)
    while loop._ready:  # type: ignore[attr-defined]
        await asyncio.sleep(0)
