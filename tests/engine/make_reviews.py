"""A made-up labelled file for tests: short reviews whose sentiment hangs on words, negation and contrast.

Negation and contrast turn single words around and a few labels are wrong, so that a bag of words cannot have it all and
nothing reaches 100 %.
"""

from __future__ import annotations

import csv
import random
from pathlib import Path

_GOOD = (
    "great good lovely superb delicious friendly fast clean generous charming honest brilliant pleasant warm fresh "
    "reliable elegant comfortable helpful tasty polite cheerful excellent perfect sturdy clever"
)
_BAD = (
    "awful bad dreadful bland rude slow dirty stingy dull dishonest terrible unpleasant cold stale "
    "unreliable clumsy uncomfortable useless greasy surly gloomy poor broken flimsy noisy overpriced"
)
_THINGS = (
    "the service,the food,the plot,the room,the staff,the soup,the acting,the battery,the screen,the waiter,the bed,"
    "the dessert,the sound,the story,the delivery,the packaging,the view,the coffee,the manager,the menu"
)
FRAMES = (
    "{thing} was {words}",
    "i found {thing} {words}",
    "we thought {thing} was {words}",
    "honestly, {thing} seemed {words}",
    "{thing} is {words} these days",
)
FILLERS = (
    "we came on a {day}",
    "my {person} booked it",
    "it cost {n} dollars",
    "we waited {n} minutes",
    "this was visit number {n}",
)
DEGREES = ("", "", "very ", "really ", "quite ", "so ")
NEGATIONS = ("not ", "never ", "hardly ", "not at all ")


def make_rows(n: int, *, seed: int = 0, noise: float = 0.04, positive: float = 0.54) -> list[tuple[str, str]]:
    """`n` pairs of text and label, `negative` or `positive`; the share `noise` of the labels is wrong."""
    random_ = random.Random(seed)
    rows = []
    for _ in range(n):
        is_good = random_.random() < positive
        text = _review(is_good, random_)
        if random_.random() < noise:
            is_good = not is_good
        rows.append((text, "positive" if is_good else "negative"))
    return rows


def _review(is_good: bool, random_: random.Random) -> str:
    parts = [_clause(is_good, random_) for _ in range(random_.choice((1, 1, 2)))]
    if random_.random() < 0.15:  # what follows "but" decides
        parts[-1] = f"{_clause(not is_good, random_)} but {parts[-1]}"
    if random_.random() < 0.5:
        filler = random_.choice(FILLERS).format(
            day=random_.choice(("monday", "friday", "sunday")),
            person=random_.choice(("sister", "boss", "friend")),
            n=random_.randint(2, 99),
        )
        parts.insert(random_.randint(0, len(parts)), filler)
    return ", and ".join(parts).capitalize() + random_.choice((".", ".", "!", ""))


def _clause(is_good: bool, random_: random.Random) -> str:
    negated = random_.random() < 0.15
    words = random_.choice(NEGATIONS if negated else DEGREES) + random_.choice(
        (_GOOD if is_good != negated else _BAD).split()
    )
    return random_.choice(FRAMES).format(thing=random_.choice(_THINGS.split(",")), words=words)


def write_reviews(path: Path, n: int = 2_000, *, seed: int = 0, separator: str = ",") -> Path:
    """A CSV (or, with a tab, TSV) file with the columns `text` and `label`."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=separator)
        writer.writerow(("text", "label"))
        writer.writerows(make_rows(n, seed=seed))
    return path
