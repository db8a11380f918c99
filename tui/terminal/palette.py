"""The colours of categories, and the themes. A theme of one's own overrides one by a variable of the same name."""

from __future__ import annotations

from textual.theme import Theme

# distinct also with the common colour-vision deficiencies: they differ in lightness as well as in hue
DARK = {
    "t-accent": "#5ac8fa",
    "t-pending": "#ffd166",
    "t-good": "#7bd88f",
    "t-warn": "#ffb454",
    "t-bad": "#ff6b6b",
    "t-memory": "#4aa8ff",
    "t-activations": "#7cc4ff",
    "t-weights": "#b79bff",
    "t-backward": "#ff9e4a",
    "t-optimizer": "#f089c5",
    "t-data": "#4fd1b5",
    "t-gpu": "#8fdc6b",
    "t-speed": "#f4d35e",
}
LIGHT = {
    "t-accent": "#005fa3",
    "t-pending": "#8a5a00",
    "t-good": "#1d7a33",
    "t-warn": "#9a5b00",
    "t-bad": "#c0182b",
    "t-memory": "#0b57b0",
    "t-activations": "#1f77c9",
    "t-weights": "#6a3fc4",
    "t-backward": "#b85a00",
    "t-optimizer": "#b0267a",
    "t-data": "#00796b",
    "t-gpu": "#2f7d12",
    "t-speed": "#8a6d00",
}
_CONTRAST = {
    "t-accent": "#00ffff",
    "t-pending": "#ffff00",
    "t-good": "#00ff5f",
    "t-warn": "#ffd700",
    "t-bad": "#ff8080",
    "t-memory": "#6fc3ff",
    "t-activations": "#a8dcff",
    "t-weights": "#d7b8ff",
    "t-backward": "#ffb870",
    "t-optimizer": "#ffa8dc",
    "t-data": "#70ffe0",
    "t-gpu": "#a8ff70",
    "t-speed": "#ffff70",
}
# Okabe and Ito (2008): eight colours that people with any common deficiency tell apart; no red beside green
_ORANGE, _SKY, _GREEN, _YELLOW, _BLUE, _VERMILION, _PURPLE = (
    *("#e69f00", "#56b4e9", "#2fbf95", "#f0e442", "#4c9be8", "#e8743b", "#cc79a7"),
)
_OKABE_ITO = {
    "t-accent": _SKY,
    "t-pending": _YELLOW,
    "t-good": _SKY,
    "t-warn": _YELLOW,
    "t-bad": _VERMILION,
    "t-memory": _BLUE,
    "t-activations": _SKY,
    "t-weights": _PURPLE,
    "t-backward": _ORANGE,
    "t-optimizer": _YELLOW,
    "t-data": _GREEN,
    "t-gpu": _GREEN,
    "t-speed": "#e8e8e8",
}


def _theme(name: str, variables: dict[str, str], *, foreground: str, background: str, dark: bool = True) -> Theme:
    return Theme(
        name=f"traintop-{name}",
        primary=variables["t-accent"],
        accent=variables["t-accent"],
        warning=variables["t-warn"],
        error=variables["t-bad"],
        success=variables["t-good"],
        foreground=foreground,
        background=background,
        surface=background,
        panel=background,
        dark=dark,
        variables=variables,
    )


THEMES: dict[str, Theme] = {
    theme.name: theme
    for theme in (
        _theme("dark", DARK, foreground="#e0e0e0", background="#121212"),
        _theme("light", LIGHT, foreground="#1c1c1c", background="#f4f4f4", dark=False),
        _theme("high-contrast", _CONTRAST, foreground="#ffffff", background="#000000"),
        _theme("colour-blind", _OKABE_ITO, foreground="#e8e8e8", background="#101010"),
    )
}
"""By their names; the first one is the default."""

# the sixteen colours as the terminal's library takes them: what is near another one would be white beside white
_DARK_16 = {
    "t-accent": "#55ffff",
    "t-pending": "#ffff55",
    "t-good": "#55ff55",
    "t-warn": "#ffff55",
    "t-bad": "#ff5555",
    "t-memory": "#55ffff",
    "t-activations": "#00aaaa",
    "t-weights": "#5555ff",
    "t-backward": "#aa5500",
    "t-optimizer": "#ff55ff",
    "t-data": "#00aa00",
    "t-gpu": "#55ff55",
    "t-speed": "#ffff55",
}
_LIGHT_16 = {
    "t-accent": "#0000aa",
    "t-pending": "#aa5500",
    "t-good": "#00aa00",
    "t-warn": "#aa5500",
    "t-bad": "#aa0000",
    "t-memory": "#0000aa",
    "t-activations": "#00aaaa",
    "t-weights": "#5555ff",
    "t-backward": "#aa5500",
    "t-optimizer": "#aa00aa",
    "t-data": "#00aa00",
    "t-gpu": "#00aa00",
    "t-speed": "#0000aa",
}
_NO_GREEN_16 = {**_DARK_16, "t-good": "#55ffff", "t-data": "#aaaaaa", "t-gpu": "#55ffff", "t-speed": "#ffffff"}

SIXTEEN: dict[str, Theme] = {
    theme.name: theme
    for theme in (
        _theme("dark", _DARK_16, foreground="#ffffff", background="#000000"),
        _theme("light", _LIGHT_16, foreground="#000000", background="#ffffff", dark=False),
        _theme("high-contrast", _DARK_16, foreground="#ffffff", background="#000000"),
        _theme("colour-blind", _NO_GREEN_16, foreground="#ffffff", background="#000000"),
    )
}
"""The same themes for a terminal with sixteen colours."""
