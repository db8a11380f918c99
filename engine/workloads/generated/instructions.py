"""Made-up instructions with their answers: small sums, words to put in order, sentences to rewrite, facts to find, text
to repeat.

Each answer follows from its question by a rule, so that a model can learn it; questions are put in several ways, some
talks have a second turn that leans on the first, and some begin with a system message.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable

Message = dict[str, str]
"""`role` (system, user or assistant) and `content`."""

_SYSTEMS = ("You are a helpful assistant.", "Answer in one short sentence.", "You are a patient teacher.")
_SYSTEM_SHARE, _SECOND_SHARE = 0.25, 0.3
_WORDS = (
    "apple", "bridge", "candle", "desert", "engine", "forest", "garden", "harbour", "island", "jacket",
    "kettle", "ladder", "market", "needle", "orange", "pencil", "quarry", "river", "saddle", "tunnel", "valley",
    "window", "yellow", "anchor", "barrel", "castle", "dragon", "eagle", "feather", "glacier",
)  # fmt: skip
_PEOPLE = (
    "Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gina", "Hugo", "Ida", "Jon", "Kim", "Lea", "Max", "Nora",
    "Otto", "Pia",
)  # fmt: skip
_PLACES = (
    "Athens", "Bern", "Cairo", "Delhi", "Dublin", "Lima", "Lisbon", "Oslo", "Paris", "Prague", "Quito", "Rome",
    "Tokyo", "Vienna",
)  # fmt: skip
_THINGS = (
    "a map", "two tickets", "an old clock", "a red scarf", "three books", "a bicycle", "a cake", "some seeds",
)  # fmt: skip
_DAYS = (
    "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday",
)  # fmt: skip
_MOST_REPEATED = 3
"""Sentences."""
_FINGERPRINTED = 100


def make_talk(seed: int, part: str, number: int) -> list[Message]:
    """Conversation `number` of a part (`train`, `test`) of the set that `seed` stands for.

    Depends on the three arguments alone, so that a larger set begins with the smaller one.
    """
    random_ = random.Random(f"instructions {seed} {part} {number}")
    kinds: tuple[Callable[[random.Random], list[str]], ...] = (_sum, _sorted, _rewritten, _found, _repeated)
    turns = random_.choice(kinds)(random_)
    system = [_message("system", random_.choice(_SYSTEMS))] if random_.random() < _SYSTEM_SHARE else []
    kept = 4 if random_.random() < _SECOND_SHARE else 2
    return system + [_message(("user", "assistant")[i % 2], text) for i, text in enumerate(turns[:kept])]


def make_talks(seed: int, part: str, n: int) -> list[list[Message]]:
    """The first `n` conversations of a part."""
    return [make_talk(seed, part, number) for number in range(n)]


def to_repeat(seed: int, number: int) -> list[Message]:
    """A question of the set that `seed` stands for, whose answer is in it word for word."""
    return [_message("user", _repeated(random.Random(f"repeat {seed} {number}"), _MOST_REPEATED)[0])]


def fingerprint(seed: int) -> str:
    """Changes when the conversations that `seed` stands for do."""
    return hashlib.sha256(repr(make_talks(seed, "train", _FINGERPRINTED)).encode()).hexdigest()


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}


# questions and answers in turns, two of each


def _sum(random_: random.Random) -> list[str]:
    a, b, c = (random_.randint(2, 50) for _ in range(3))
    asked = random_.choice(("What is {} plus {}?", "Add {} and {}.", "How much is {} + {}?"))
    return [
        asked.format(a, b),
        f"{a} plus {b} is {a + b}.",
        random_.choice(("And {} more?", "Now add {}.")).format(c),
        f"{a + b} plus {c} is {a + b + c}.",
    ]


def _sorted(random_: random.Random) -> list[str]:
    words = random_.sample(_WORDS, random_.randint(3, 7))
    ordered = sorted(words)
    asked = random_.choice(("Put these words in alphabetical order: {}.", "Sort alphabetically: {}."))
    return [
        asked.format(", ".join(words)),
        f"{', '.join(ordered)}.",
        random_.choice(("How many words are these?", "Count them.")),
        f"These are {len(words)} words.",
    ]


def _rewritten(random_: random.Random) -> list[str]:
    person, thing, place = random_.choice(_PEOPLE), random_.choice(_THINGS), random_.choice(_PLACES)
    asked = random_.choice(("Write as a question: {}", "Turn this sentence into a question: {}"))
    return [
        asked.format(f"{person} buys {thing} in {place}."),
        f"Does {person} buy {thing} in {place}?",
        random_.choice(("Now in the past.", "And in the past tense?")),
        f"Did {person} buy {thing} in {place}?",
    ]


def _found(random_: random.Random) -> list[str]:
    people, places = random_.sample(_PEOPLE, 3), random_.sample(_PLACES, 3)
    days = random_.sample(_DAYS, 3)
    told = [f"{who} goes to {place} on {day}." for who, place, day in zip(people, places, days, strict=True)]
    at = random_.randrange(3)
    return [
        f"{' '.join(told)} Where does {people[at]} go?",
        f"{people[at]} goes to {places[at]}.",
        f"Who travels on {days[at - 1]}?",
        f"{people[at - 1]} travels on {days[at - 1]}.",
    ]


def _repeated(random_: random.Random, n_sentences: int | None = None) -> list[str]:
    told = [
        f"{random_.choice(_PEOPLE)} buys {random_.choice(_THINGS)} in {random_.choice(_PLACES)} on "
        f"{random_.choice(_DAYS)}."
        for _ in range(n_sentences or random_.randint(1, _MOST_REPEATED))
    ]
    text = " ".join(told)
    asked = random_.choice(("Repeat: {}", "Say this word for word: {}"))
    again = random_.choice(("Only the first sentence.", "Now the first sentence alone."))
    return [asked.format(text), text, again, told[0]]
