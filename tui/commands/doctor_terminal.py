"""What the doctor says about the terminal: what can be detected, and what only eyes can."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping

from tui.commands.finding import Finding

MIN_COLUMNS, MIN_LINES = 80, 24
BRAILLE = "⣀⣠⣤⣴⣶⣾⣿⣷⣶⣦⣤⣄⣀"


def terminal() -> Iterator[Finding]:
    """Kind, size, colours, characters, and what is between this program and the screen."""
    environment = os.environ
    name = environment.get("TERM") or "not set"
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        text = f"no terminal on stdin and stdout (TERM {name}): traintop runs headless here"
        yield Finding(check="terminal", found=text, status="note")
    else:
        yield kind(name, os.get_terminal_size(sys.stdout.fileno()))
    yield colours(environment)
    yield characters(sys.stdout.encoding)
    yield from between(environment)


def kind(name: str, size: os.terminal_size) -> Finding:
    """The terminal's name and size."""
    text = f"{name}, {size.columns}×{size.lines}" if size.columns else f"{name}, size unknown"
    if name == "dumb":
        fix = "traintop runs headless on it; in a real terminal, set TERM=xterm-256color."
        return Finding(check="terminal", found=text, status="problem", fix=fix)
    if 0 < size.columns < MIN_COLUMNS or 0 < size.lines < MIN_LINES:
        fix = f"the screen is made for {MIN_COLUMNS}×{MIN_LINES} or more: enlarge the window or shrink the font."
        return Finding(check="terminal", found=text, status="problem", fix=fix)
    return Finding(check="terminal", found=text)


def colours(environment: Mapping[str, str]) -> Finding:
    """How many colours the terminal says it has."""
    from rich.console import Console

    if environment.get("NO_COLOR"):
        return Finding(check="colours", found="switched off by NO_COLOR", status="note")
    system = Console(force_terminal=True, _environ=environment).color_system
    named = {"truecolor": "16 million", "256": "256", "standard": "16", "windows": "16"}.get(system or "", "none")
    if named in ("16", "none"):
        fix = "if it can do more, say so: export TERM=xterm-256color (and COLORTERM=truecolor)."
        return Finding(check="colours", found=named, status="problem", fix=fix)
    return Finding(check="colours", found=named)


def characters(encoding: str | None) -> Finding:
    """Whether the locale can carry the plots, and a sample of them."""
    if (encoding or "").lower().replace("-", "") != "utf8":
        fix = "plots need UTF-8: export LANG=C.UTF-8 (any locale that ends in UTF-8 does)."
        return Finding(check="characters", found=f"{encoding or 'unknown encoding'}", status="problem", fix=fix)
    look = f"UTF-8. A hill of dots should follow: {BRAILLE}"
    return Finding(
        check="characters",
        found=look,
        fix="if it shows boxes or question marks instead, choose a font with braille, such as DejaVu Sans Mono.",
    )


def between(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Multiplexers and SSH: a run under way outlives its terminal; its screen does not, unless something keeps it."""
    names = {"TMUX": "tmux", "STY": "screen", "ZELLIJ": "zellij"}
    inside = next((name for variable, name in names.items() if environment.get(variable)), None)
    over_ssh = bool(environment.get("SSH_CONNECTION") or environment.get("SSH_TTY"))
    if inside:
        yield Finding(check="kept by", found=f"{inside}: run and screen outlive a lost connection")
    elif over_ssh:
        fix = (
            "to come back to the screen too, and where the server ends its users' processes at logout, start traintop "
            "inside tmux: tmux new -s train; tmux attach -t train."
        )
        found = "SSH: when the connection is lost the run goes on to its end without the screen; queued ones too"
        yield Finding(check="connection", found=found, status="note", fix=fix)
