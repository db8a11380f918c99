"""Made-up pairs of sentences: simple English and its German, with the articles and endings that go with each noun."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _Noun:
    english: str
    german: str
    gender: int
    """0 masculine, 1 feminine, 2 neuter."""


def _nouns(words: str) -> tuple[_Noun, ...]:
    entries = (entry.split() for entry in words.split(","))
    return tuple(_Noun(english, german, "mfn".index(gender)) for english, german, gender in entries)


_WHO = _nouns(
    "man Mann m,woman Frau f,child Kind n,teacher Lehrer m,cat Katze f,girl Mädchen n,dog Hund m,nurse Pflegerin f,"
    "horse Pferd n,baker Bäcker m,queen Königin f,sheep Schaf n"
)
_WHAT = _nouns(
    "house Haus n,apple Apfel m,flower Blume f,book Buch n,table Tisch m,lamp Lampe f,picture Bild n,ball Ball m,"
    "bag Tasche f,boat Boot n,key Schlüssel m,clock Uhr f"
)
_LIKE = (("old", "alt"), ("small", "klein"), ("beautiful", "schön"), ("new", "neu"), ("red", "rot"), ("big", "groß"))
_DOES = (("sees", "sieht"), ("buys", "kauft"), ("finds", "findet"), ("paints", "malt"), ("looks for", "sucht"))
_WHEN = (("today", "heute"), ("every morning", "jeden Morgen"), ("in summer", "im Sommer"), ("on Sunday", "am Sonntag"))
_THE, _AN = ("der", "die", "das"), ("einen", "eine", "ein")  # nominative, accusative
_ENDINGS = ("en", "e", "es")  # of an adjective after einen, eine, ein
_ADJECTIVE_SHARE, _WHEN_SHARE, _AND_SHARE = 0.5, 0.4, 0.25
_FINGERPRINTED = 100


def make_pair(seed: int, part: str, number: int) -> tuple[str, str]:
    """Pair `number` of a part (`train`, `test`) of the set that `seed` stands for: English, German.

    Depends on the three arguments alone, so that a larger set begins with the smaller one.
    """
    random_ = random.Random(f"pairs {seed} {part} {number}")
    who, what, (does, tut) = random_.choice(_WHO), random_.choice(_WHAT), random_.choice(_DOES)
    english, german = _subject(who, random_)
    thing, ding = _object(what, random_)
    if random_.random() < _AND_SHARE:
        other, anderes = _object(random_.choice([noun for noun in _WHAT if noun != what]), random_)
        thing, ding = f"{thing} and {other}", f"{ding} und {anderes}"
    if random_.random() < _WHEN_SHARE:
        when, wann = random_.choice(_WHEN)
        # German puts the verb second: what is in front changes places with the subject
        return f"{_begun(when)} {english} {does} {thing}.", f"{_begun(wann)} {tut} {german} {ding}."
    return f"{_begun(english)} {does} {thing}.", f"{_begun(german)} {tut} {ding}."


def make_pairs(seed: int, part: str, n: int) -> tuple[list[str], list[str]]:
    """The first `n` pairs of a part: the English sentences, the German ones."""
    pairs = [make_pair(seed, part, number) for number in range(n)]
    return [source for source, _ in pairs], [target for _, target in pairs]


def fingerprint(seed: int) -> str:
    """Changes when the pairs that `seed` stands for do."""
    return hashlib.sha256(repr(make_pairs(seed, "train", _FINGERPRINTED)).encode()).hexdigest()


def _begun(text: str) -> str:
    return text[0].upper() + text[1:]


def _subject(noun: _Noun, random_: random.Random) -> tuple[str, str]:
    if random_.random() < _ADJECTIVE_SHARE:
        like, wie = random_.choice(_LIKE)
        return f"the {like} {noun.english}", f"{_THE[noun.gender]} {wie}e {noun.german}"
    return f"the {noun.english}", f"{_THE[noun.gender]} {noun.german}"


def _object(noun: _Noun, random_: random.Random) -> tuple[str, str]:
    if random_.random() < _ADJECTIVE_SHARE:
        like, wie = random_.choice(_LIKE)
        article = "an" if like[0] in "aeiou" else "a"
        ending = _ENDINGS[noun.gender]
        return f"{article} {like} {noun.english}", f"{_AN[noun.gender]} {wie}{ending} {noun.german}"
    article = "an" if noun.english[0] in "aeiou" else "a"
    return f"{article} {noun.english}", f"{_AN[noun.gender]} {noun.german}"
