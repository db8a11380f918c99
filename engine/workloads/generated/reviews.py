"""A built-in generator of review-like text with one to five stars, for machines without any real text.

Every clause has a polarity drawn around the review's stars; negation turns words around, "but" sets clauses against
each other, most words say nothing, writers are harsh or mild, and some stars are wrong. So a bag of words gets only a
part, order matters, and nothing reaches 100 %.
"""

from __future__ import annotations

import hashlib
import math
import random

STARS = ("1 star", "2 stars", "3 stars", "4 stars", "5 stars")
NOISE = 0.06
"""Share of the reviews whose stars are one off."""
MEDIAN_WORDS, SPREAD = 28.0, 0.7
"""Lengths are log-normal, as those of real reviews: median and standard deviation of the logarithm."""
WORDS_RANGE = (5, 250)
_HARSHNESS, _VARIETY, _SLOPE = 0.2, 0.8, 1.0

_SUBJECTS = {
    "restaurant": "the service,the food,the waiter,the soup,the dessert,the menu,the coffee,the steak,the wine,"
    "the table",
    "hotel": "the room,the bed,the staff,the view,the breakfast,the shower,the lobby,the pool,the manager,the parking",
    "film": "the plot,the acting,the sound,the story,the ending,the script,the music,the dialogue,the cast,the pacing",
    "gadget": "the battery,the screen,the packaging,the delivery,the manual,the case,the price,the keyboard,the cable,"
    "the support",
}  # fmt: skip
_WORDS = {
    2: "outstanding superb amazing wonderful perfect brilliant fantastic excellent stunning delightful flawless "
    "unforgettable",
    1: "good nice pleasant friendly clean decent tasty helpful comfortable reliable solid charming fresh polite "
    "likeable enjoyable",
    0: "average ordinary typical acceptable usual unremarkable standard plain fair",
    -1: "bland slow noisy dull cold weak clumsy overpriced stale cramped flimsy forgettable boring rude greasy dated",
    -2: "awful terrible horrible disgusting dreadful filthy atrocious useless unbearable appalling broken insulting",
}
_CLAUSES = (
    "{subject} was {word}",
    "i found {subject} {word}",
    "{subject} seemed {word} to us",
    "we thought {subject} was {word}",
    "{subject} is {word} these days",
    "to my mind {subject} was {word}",
)
_DEGREES = ("", "", "", "very ", "really ", "quite ", "so ", "rather ")
_NEGATIONS = ("not ", "never ", "hardly ", "far from ", "anything but ", "not at all ")
_FACTS = (
    "we came on a {day}", "my {person} booked it", "it cost {number} dollars", "this was visit number {number}",
    "we stayed about {number} minutes", "there were {number} of us", "i had read about it last {day}",
    "my {person} came along", "we had planned it since {day}", "it was raining that {day}",
)  # fmt: skip
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_PERSONS = ("sister", "brother", "boss", "friend", "neighbour", "wife", "husband", "mother", "colleague", "cousin")
_VERDICTS = (
    ("i want my money back", "never again", "stay away", "one to avoid"),
    ("i would not hurry back", "there are better ones", "it let us down"),
    ("it did its job", "nothing more and nothing less", "it could go either way"),
    ("we would come again", "worth a try", "a good choice on the whole"),
    ("i cannot wait to return", "highly recommended", "five stars from me", "do not miss it"),
)
_FINGERPRINTED = 100  # reviews; they use every list and every share above
_VERDICT_SHARE, _FACT_SHARE, _NEGATED_SHARE, _CONTRAST_SHARE = 0.2, 0.35, 0.2, 0.12


def make_review(seed: int, part: str, number: int) -> tuple[str, int]:
    """Review `number` of a part (`train`, `test`) of the set that `seed` stands for: its text and class, 0 … 4.

    Depends on the three arguments alone, so that a larger set begins with the smaller one.
    """
    random_ = random.Random(f"{seed} {part} {number}")
    stars = random_.randrange(len(STARS))
    text = _text(stars, random_)
    if random_.random() < NOISE:
        stars = min(len(STARS) - 1, max(0, stars + random_.choice((-1, 1))))
    return text, stars


def make_reviews(seed: int, part: str, n: int) -> tuple[list[str], list[int]]:
    """The first `n` reviews of a part: texts, and classes 0 … 4."""
    rows = [make_review(seed, part, number) for number in range(n)]
    return [text for text, _ in rows], [stars for _, stars in rows]


def fingerprint(seed: int) -> str:
    """Changes when the reviews that `seed` stands for do."""
    return hashlib.sha256(repr(make_reviews(seed, "train", _FINGERPRINTED)).encode()).hexdigest()


def _text(stars: int, random_: random.Random) -> str:
    low, high = WORDS_RANGE
    wanted = min(high, max(low, round(math.exp(random_.gauss(math.log(MEDIAN_WORDS), SPREAD)))))
    subjects = _SUBJECTS[random_.choice(list(_SUBJECTS))].split(",")
    mood = _SLOPE * (stars - 2) + random_.gauss(0.0, _HARSHNESS)
    sentences: list[str] = []
    n_words = 0
    while n_words < wanted:
        sentence = _fact(random_) if random_.random() < _FACT_SHARE else _opinion(mood, subjects, random_)
        sentences.append(sentence[0].upper() + sentence[1:] + random_.choice((".", ".", ".", "!")))
        n_words += sentence.count(" ") + 1
    if random_.random() < _VERDICT_SHARE:
        verdict = random_.choice(_VERDICTS[stars])
        sentences.insert(random_.randint(0, len(sentences)), verdict[0].upper() + verdict[1:] + ".")
    return " ".join(sentences)


def _fact(random_: random.Random) -> str:
    return random_.choice(_FACTS).format(
        day=random_.choice(_DAYS), person=random_.choice(_PERSONS), number=random_.randint(2, 60)
    )


def _opinion(mood: float, subjects: list[str], random_: random.Random) -> str:
    clause = _clause(random_.gauss(mood, _VARIETY), subjects, random_)
    if random_.random() < _CONTRAST_SHARE:  # what is granted first does not count
        return f"although {_clause(random_.gauss(-mood, _VARIETY), subjects, random_)}, {clause}"
    return clause


def _clause(polarity: float, subjects: list[str], random_: random.Random) -> str:
    level = max(-2, min(2, round(polarity)))
    lead = random_.choice(_DEGREES)
    if level in (-1, 1) and random_.random() < _NEGATED_SHARE / 0.4:
        lead, level = random_.choice(_NEGATIONS), -level
    word = random_.choice(_WORDS[level].split())
    return random_.choice(_CLAUSES).format(subject=random_.choice(subjects), word=lead + word)
