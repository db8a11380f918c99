"""Keys as people call them."""

from __future__ import annotations

_NAMES = {
    "question_mark": "?",
    "slash": "/",
    "less_than_sign": "<",
    "greater_than_sign": ">",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
    "space": "Space",
    "plus": "+",
    "minus": "-",
    "tab": "Tab",
    "shift+tab": "⇧Tab",
    "left": "←",
    "shift+left": "⇧←",
    "shift+right": "⇧→",
    "right": "→",
    "up": "↑",
    "down": "↓",
    "enter": "Enter",
    "escape": "Esc",
    "delete": "Del",
    "pageup": "PgUp",
    "pagedown": "PgDn",
    "home": "Home",
    "end": "End",
    "equals_sign": "=",
}


def key_name(key: str) -> str:
    """A key as people call it: `^p` for `ctrl+p`."""
    return f"^{key[5:]}" if key.startswith("ctrl+") else _NAMES.get(key, key)
