"""What others measured on real cards, and what the forecast says of the same: `public_rows.toml`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Iterator
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from statistics import median

from engine.contract.config import ConfigError, RunConfig
from engine.contract.forecast_types import Forecast, ForecastError
from engine.contract.numbers import mib
from engine.forecast.forecast import Assumptions, Forecaster
from engine.gpus.catalogue import UnknownGpuError, find
from engine.gpus.units import MIB
from tests.benchmarks.figures import Figure
from tui.command_line.flags import Parser, UsageError, config_of
from tui.commands import forecast as command

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class NotHereError(Exception):
    """This version lacks a flag, a value, a card or a model of the row; the message says which."""


@dataclass(frozen=True, kw_only=True)
class PublicRow:
    """A run that somebody reported."""

    source: str
    about: str
    flags: str
    """Of `traintop forecast`."""
    kind: str | None = None
    """Which number was measured: `allocated`, `reserved` or `used`."""
    mib: float | None = None
    reported: str | None = None
    """`fits` or `out_of_memory`."""
    asked_mib: float | None = None
    """What could not be had, in the message that the run ended with."""
    samples_per_s: float | None = None
    tokens_per_s: float | None = None
    """Of generation, of a run that answers."""
    kv_mib_per_token: float | None = None
    held_back: bool = False
    """Nothing was made from it."""
    unsure: str | None = None
    """Why it does not count."""

    @property
    def has_16_bit_weights(self) -> bool:
        return any(f"--weights {kind}" in self.flags for kind in ("bf16", "fp16"))

    def ask(self, forecaster: Forecaster) -> Forecast:
        """The forecast of it. Raises `NotHereError`."""
        parser = Parser(prog="forecast", description="")
        command.add_flags(parser)
        try:
            with redirect_stderr(StringIO()):
                arguments = parser.read(shlex.split(self.flags))
            config: RunConfig = config_of(arguments)
            sizes = (None if size is None else int(float(size) * MIB) for size in _outside(arguments))
            context, libraries = sizes
            assumed = Assumptions(
                stack=arguments.stack,
                **({"loop": arguments.loop} if arguments.loop else {}),
                given=command.given_knobs(arguments),
                context_bytes=context,
                library_bytes=libraries,
                link=arguments.link,
            )
            return forecaster.forecast(config, find(arguments.gpu), assumed)
        except (Exception, SystemExit) as error:
            if isinstance(error, (SystemExit, ConfigError, UsageError, UnknownGpuError, ForecastError)):
                raise NotHereError(str(error)) from error
            raise

    def error(self, made: Forecast) -> float | None:
        """Forecast ÷ measured - 1, in %; None where no number was measured."""
        if self.mib is None:
            return None
        return (float(getattr(made, f"peak_{self.kind}")) / MIB / self.mib - 1) * 100

    def answer_errors(self, made: Forecast) -> Iterator[tuple[str, float, str]]:
        """What was measured of answers: its name, forecast ÷ measured - 1 in %, and both in words."""
        if made.answer is None:
            return
        told = made.answer.generation_tokens_per_s
        if self.tokens_per_s is not None and told is not None:
            words = f"measured {self.tokens_per_s:g} tokens/s, forecast {told:.4g}"
            yield "speed", (told / self.tokens_per_s - 1) * 100, words
        if self.kv_mib_per_token is not None:
            each = made.answer.kv_per_token / MIB
            words = f"told {self.kv_mib_per_token:g} MiB a token, forecast {each:g}"
            yield "KV cache", (each / self.kv_mib_per_token - 1) * 100, words

    def is_right(self, made: Forecast) -> bool | None:
        """Whether the verdict is the reported one, or near the limit; None where nothing was reported."""
        return None if self.reported is None else made.verdict == self.reported or made.near_limit


def _outside(arguments: object) -> tuple[str | None, str | None]:
    return getattr(arguments, "context_mib"), getattr(arguments, "library_mib")  # noqa: B009


def rows() -> tuple[PublicRow, ...]:
    """All of them, in the order of the file."""
    text = Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
    return tuple(PublicRow(**row) for row in tomllib.loads(text)["row"])


def figures(forecaster: Forecaster, of: Iterable[PublicRow]) -> Iterator[Figure]:
    """A line for every row and, in the end, what they come to."""
    errors: list[tuple[PublicRow, float]] = []
    verdicts: list[bool] = []
    speeds: list[tuple[PublicRow, float]] = []
    tokens: list[float] = []
    for row in of:
        name = f"{'held back: ' if row.held_back else ''}{row.about}"
        try:
            made = row.ask(forecaster)
        except NotHereError as error:
            yield Figure(name=name, value=float("nan"), note=f"not with this version: {error}")
            continue
        if (error := row.error(made)) is not None:
            told = getattr(made, f"peak_{row.kind}")
            note = f"{row.kind}: measured {row.mib:,.0f} MiB, forecast {mib(told)}, {made.verdict}"
            yield Figure(
                name=name, value=error, unit="%", note=f"{note}; does not count: {row.unsure}" if row.unsure else note
            )
            if row.unsure is None:
                errors.append((row, abs(error)))
        if (right := row.is_right(made)) is not None:
            verdicts += [] if row.unsure else [right]
            near = ", near the limit" if made.near_limit else ""
            asked = (
                ""
                if row.asked_mib is None
                else f"; asked for {row.asked_mib:,.0f} MiB, forecast {mib(made.failing_segment)}"
            )
            yield Figure(
                name=name,
                value=float(right),
                goal=1.0,
                note=f"{row.reported}, forecast {made.verdict}{near} {mib(made.peak_used)} of {mib(made.limit)}{asked}"
                + (f"; does not count: {row.unsure}" if row.unsure else ""),
            )
        if row.samples_per_s and made.samples_per_s:
            speed = (made.samples_per_s / row.samples_per_s - 1) * 100
            speeds.append((row, abs(speed)))
            yield Figure(
                name=f"{name}: speed",
                value=speed,
                unit="%",
                note=f"measured {row.samples_per_s:g} samples/s, forecast {made.samples_per_s:.3g}",
            )
        for what, off, words in row.answer_errors(made):
            note = f"{words}; does not count: {row.unsure}" if row.unsure else words
            yield Figure(name=f"{name}: {what}", value=off, unit="%", note=note)
            tokens += [abs(off)] if what == "speed" and not row.unsure else []
    yield from _summary(errors, verdicts)
    if tokens:
        yield Figure(
            name="public rows' tokens/s, worst |error|",
            value=max(tokens),
            unit="%",
            goal=20.0,
            at_most=True,
            rounds=tokens,
        )
    for name, held_back in (("public rows' samples/s", False), ("samples/s of rows held back", True)):
        if apart := [error for row, error in speeds if row.held_back is held_back]:
            yield Figure(name=f"{name}, median |error|", value=median(apart), unit="%", rounds=apart)


def _summary(errors: list[tuple[PublicRow, float]], verdicts: list[bool]) -> Iterator[Figure]:
    groups = (
        ("public rows, median |error|", 3.0, lambda row: not row.held_back),
        (
            "public rows with 16-bit weights, worst |error|",
            1.0,
            lambda row: not row.held_back and row.has_16_bit_weights,
        ),
        ("rows held back, median |error|", 3.0, lambda row: row.held_back),
        (
            "rows held back with 16-bit weights, worst |error|",
            1.0,
            lambda row: row.held_back and row.has_16_bit_weights,
        ),
    )
    for name, goal, belongs in groups:
        of = [error for row, error in errors if belongs(row)]
        if of:
            value = max(of) if "worst" in name else median(of)
            yield Figure(name=name, value=value, unit="%", goal=goal, at_most=True, rounds=of)
    if verdicts:
        yield Figure(
            name="public verdicts that are right or near the limit", value=sum(verdicts) / len(verdicts), goal=1.0
        )
