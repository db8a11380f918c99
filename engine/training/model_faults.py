"""Which field of a config.json a library stumbled over: Python's own words say what broke, not what to correct."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from engine.contract.config import ConfigError
from engine.training.model_files import refused

_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a text",
    "NoneType": "null",
    "dict": "an object",
    "list": "a list",
    "tuple": "a list",
}
_RAW = (TypeError, AttributeError, IndexError, OverflowError, RuntimeError, ZeroDivisionError, UnboundLocalError)
"""What code raises over values that it does not expect, rather than to refuse them."""
_TRIED = 60  # fields; real files have up to 40 beside their architecture's defaults


def told(value: Any) -> str:
    """A value of a config.json, fit for a sentence."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def wrong_kind(name: str, said: Mapping[str, Any], error: Exception) -> ConfigError | None:
    """The refusal of the model `name` where transformers names the field and the kinds that it may have."""
    found = re.search(r"Validation error for field '(\w+)'", str(error))
    kinds = re.findall(r"expected (\w+)", str(error)) if found else []
    bounds = re.search(r"Value must be (.+?),? got ", str(error)) if found else None
    if found is None or not (kinds or bounds):
        return None
    field = found[1]
    allowed = bounds[1] if bounds else " or ".join(dict.fromkeys(_KINDS.get(kind, kind) for kind in kinds))
    return refused(
        name, f"{field} is {told(said.get(field))} in its config.json, and has to be {allowed}", "correct it"
    )


def culprit(
    name: str, said: Mapping[str, Any], error: Exception, works: Callable[[dict[str, Any]], bool]
) -> ConfigError | None:
    """The refusal of the model `name` by the field without which it works; None where no single one is at fault.

    `works` tries what raised `error` with other fields than `said`.
    """
    if not isinstance(error, _RAW) or works(dict(said)):  # seen elsewhere only: nothing can be told by trying here
        return None
    for field in list(said)[:_TRIED]:
        if field != "model_type" and works({other: value for other, value in said.items() if other != field}):
            kind = f"an architecture of {said['model_type']}" if isinstance(said.get("model_type"), str) else "it"
            what = f"{field} is {told(said[field])} in its config.json, which {kind} cannot use"
            return refused(name, what, "correct it")
    return None
