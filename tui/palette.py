"""The colours of categories, for dark and for light themes. A theme overrides one by a variable of the same name."""

from __future__ import annotations

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
