"""Every architecture that is known without a network, by name. Standard library only."""

from __future__ import annotations

import difflib
import math

from engine.models.architecture import Architecture
from engine.models.bert import BERT
from engine.models.gemma_phi import GEMMA, PHI
from engine.models.gpt import GPT
from engine.models.llama import LLAMA, MISTRAL
from engine.models.qwen import QWEN
from engine.models.seq2seq import SEQUENCES

FAMILIES: dict[str, dict[str, Architecture]] = {
    "BERT and its like": BERT,
    "GPT and its like": GPT,
    "Llama": LLAMA,
    "Mistral": MISTRAL,
    "Qwen": QWEN,
    "Gemma": GEMMA,
    "Phi": PHI,
    "T5 and BART": SEQUENCES,
}
"""By family, in the order in which people are shown them."""

ARCHITECTURES: dict[str, Architecture] = {name: each for family in FAMILIES.values() for name, each in family.items()}


def known(name: str) -> Architecture | None:
    """The architecture that `name` means: its own name, or a hub repository of that shape; case does not matter."""
    return _NAMES.get(name.lower())


def close_to(name: str, most: int = 3) -> list[str]:
    """Names that somebody who typed `name` may have meant, the closest first; of their own, not of the hub."""
    wanted = name.lower().rpartition("/")[2].replace("_", "-").removesuffix("-hf")
    close = difflib.get_close_matches(wanted, ARCHITECTURES, n=most, cutoff=0.6)
    beginning = [own for own in ARCHITECTURES if wanted and own.startswith(wanted)]
    return list(dict.fromkeys((*beginning[:most], *close)))[:most]


def matching(query: str) -> list[str]:
    """Names that have every word of `query` in them, in their hub's name or their family's; all of them without one."""
    words = query.lower().split()
    found = []
    for family, names in FAMILIES.items():
        for name, each in names.items():
            said = f"{name} {each.hub_name} {family}".lower()
            if all(word in said for word in words):
                found.append(name)
    return found


def smaller(name: str) -> list[str]:
    """Names of the same kind, with a vocabulary of about the same size, and fewer parameters; the largest first."""
    own = known(name)
    if own is None or own.n_parameters is None:
        return []
    alike = [
        (each.n_parameters or 0, place, other)
        for place, (other, each) in enumerate(ARCHITECTURES.items())
        if each.model_type == own.model_type and math.isclose(_vocabulary(each), _vocabulary(own), rel_tol=0.01)
    ]
    return [other for size, _, other in sorted(alike, reverse=True) if size < own.n_parameters]


def _vocabulary(architecture: Architecture) -> int:
    """Its entries; 0 where they are the default ones."""
    return int(architecture.settings.get("vocab_size", 0))


_NAMES: dict[str, Architecture] = {
    alias.lower(): each
    for name, each in reversed(ARCHITECTURES.items())  # the first one of a shape has its hub names
    for alias in (name, *((each.hub_name,) if each.hub_name else ()), *each.also)
}
