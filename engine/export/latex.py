"""A table as LaTeX with booktabs, for any engine: nothing but ASCII and letters that 8-bit pdflatex knows."""

from __future__ import annotations

import re
import unicodedata

from engine.contract.text import harmless
from engine.export.table import Table

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # after \\ a bracket would be its argument
    "]": "{]}",
    "`": r"\`{}",
    '"': "''",  # \textquotedbl needs the T1 encoding
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    "±": r"$\pm$",
    "−": "$-$",
    "×": r"$\times$",
    "≈": r"$\approx$",
    "Δ": r"$\Delta$",
    "→": r"$\rightarrow$",
    "µ": r"$\mu$",
    "μ": r"$\mu$",
    "²": "$^2$",
    "³": "$^3$",
    "°": r"$^\circ$",
    "ß": r"\ss{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "œ": r"\oe{}",
    "Œ": r"\OE{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
    "ı": r"\i{}",
    "\u2010": "{}",  # between hyphens, which would become a dash
    "\ufffd": "?",
}
_DASHES = re.compile("--+")
_ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r",
    "\u030b": "H",
    "\u030c": "v",
    "\u0327": "c",
}


def escaped(text: str) -> str:
    """`text` as LaTeX that prints it. What the classic fonts lack is written as its code point: [U+4E2D]."""
    text = _DASHES.sub(lambda found: "\u2010".join(found[0]), harmless(text))
    return "".join(map(_character, text))


def _character(character: str) -> str:
    if character in _SPECIAL:
        return _SPECIAL[character]
    if character.isascii():
        return character if character.isprintable() else " "
    letters = unicodedata.normalize("NFD", character)
    if len(letters) == 2 and letters[0].isascii() and letters[0].isalpha() and letters[1] in _ACCENTS:
        return f"\\{_ACCENTS[letters[1]]}{{{letters[0]}}}"
    return f"{{[}}U+{ord(character):04X}{{]}}"


def to_latex(table: Table, *, caption: str | None = None, label: str | None = None) -> str:
    """A `tabular` that needs `\\usepackage{booktabs}`, in a `table` float where a caption or a label is given."""
    columns = "".join("r" if column.right else "l" for column in table.columns)
    rows = [" & ".join(map(escaped, row)) + r" \\" for row in table.rows]
    tabular = [
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(escaped(column.heading) for column in table.columns) + r" \\",
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
    ]
    notes = [escaped(note) for note in table.notes]
    if caption is None and label is None:
        return "\n".join(["% needs \\usepackage{booktabs}", *tabular, *(f"% {note}" for note in notes)]) + "\n"
    head = [r"\begin{table}", r"\centering"]
    head += [rf"\caption{{{escaped(caption)}}}"] if caption is not None else []
    head += [rf"\label{{{_key(label)}}}"] if label is not None else []
    tail = [rf"\par\smallskip\footnotesize {' '.join(notes)}"] if notes else []
    return "\n".join(["% needs \\usepackage{booktabs}", *head, *tabular, *tail, r"\end{table}"]) + "\n"


def _key(label: str) -> str:
    """A label is a name, not text: characters that would end or break it are left out."""
    return re.sub(r"[^A-Za-z0-9:._/+ -]", "", label)
