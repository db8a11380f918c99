"""Command-line flags: one per knob, generated from `KNOBS`, and usage errors that fit on a line.

argparse sees every value as text: `RunConfig` alone knows what is allowed, so a flag, a file and the screen
refuse a value in the same words.
"""

from __future__ import annotations

import argparse
import difflib
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from engine.contract import paths
from engine.contract.by_job import OWN, defaults_of, goes_without_saying
from engine.contract.command import as_text
from engine.contract.config import KNOBS, ConfigError, Knob, RunConfig
from engine.contract.device_name import device_list, gpus_of_device
from engine.contract.knob import ANSWER, GROUPS, SCRIPT, TRAIN, about_group, typed
from engine.models.catalogue import FAMILIES
from tui.command_line import script_command
from tui.state.knobs import bounds

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

    from engine.process.launched import Launched


class UsageError(Exception):
    """A command line that cannot be obeyed: which flag, which value, what is allowed."""


class Parser(argparse.ArgumentParser):
    """argparse without abbreviations, without the usage dump before an error, and with a hint at the right flag."""

    def __init__(self, *, prog: str, description: str) -> None:
        super().__init__(
            prog=prog,
            usage=f"{prog} [--FLAG [VALUE]] ...",
            description=description,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self._takes_command = False

    def take_command(self, example: str | None = None) -> None:
        """Let a command of the user's own stand after `--`; the help tells of it where there is an example."""
        self._takes_command = True
        if example is not None:
            self.usage = f"{self.usage} [-- COMMAND ...]"
            self.epilog = f"{script_command.HELP}\n  {example}"

    def read(self, words: Sequence[str]) -> argparse.Namespace:
        """The values of the flags that were given; of a command after `--` where one may stand. Raises `UsageError`."""
        flags, command = script_command.split(words) if self._takes_command else (words, None)
        if command is not None and (why := script_command.trouble(command)):
            raise UsageError(why)
        arguments, unknown = self.parse_known_args(flags)
        if unknown:
            raise UsageError(self._unknown(unknown[0]))
        if command is not None:
            if getattr(arguments, "command", None) is not None:
                raise UsageError("--command and what stands after -- are both a command: give one of them.")
            arguments.command = as_text(command)
        if (folder := getattr(arguments, "history_dir", None)) is not None:
            if not folder:
                raise UsageError("--history-dir needs a folder: the history is made there if it is not there yet.")
            paths.use_history_dir(folder)
        return arguments

    def print_help(self, file: SupportsWrite[str] | None = None) -> None:
        """Write the help. Raises `OSError`: argparse itself would end as if it had been written."""
        out = file or sys.stdout
        out.write(self.format_help())
        sys.stdout.flush()

    def error(self, message: str) -> NoReturn:
        """What argparse has to complain about, in our words where it is about a knob's missing value."""
        found = re.fullmatch(r"argument (--[\w-]+): expected one argument", message)
        knob = KNOBS.get(found.group(1)[2:].replace("-", "_")) if found else None
        raise UsageError(f"{knob.flag} needs a value: {bounds(knob)}." if knob else f"{message}.")

    def _unknown(self, word: str) -> str:
        if word == "--":
            return (
                "no command of your own stands here: after traintop, traintop run, sweep and forecast one may, as in "
                "traintop run -- python train.py."
            )
        flag = word.partition("=")[0]
        near = difflib.get_close_matches(flag, self._option_string_actions, n=1)
        hint = f"did you mean {near[0]}?" if near else f"see {self.prog} --help."
        if self._takes_command and not word.startswith("-"):
            hint = f"a script of your own stands after --, as in {self.prog} -- python train.py."
        return f"{flag!r} is not known: {hint}"


def add_knobs(parser: argparse.ArgumentParser, job: str | None = None) -> None:
    """Add a flag for every knob, and `--config` and `--save-config`; with a job for its knobs.

    What trains also runs a command of the user's own; of another job `--job` goes without saying.
    """
    for name in GROUPS:
        knobs = [knob for knob in KNOBS.values() if knob.group == name and _is_flag(knob, job)]
        if knobs:
            group = parser.add_argument_group(f"{name} ({about_group(name, job or TRAIN)})")
            for knob in knobs:
                group.add_argument(knob.flag, **_options(knob, job or TRAIN))
    if job == ANSWER:
        parser.set_defaults(job=job)
    parser.add_argument_group("models by name", "\n".join(_models()))
    files = parser.add_argument_group("knobs in a file")
    files.add_argument("--config", metavar="FILE", type=Path, help="take knobs from a TOML file; flags override it")
    files.add_argument("--save-config", metavar="FILE", type=Path, help="write the knobs of this run to a TOML file")


def _models() -> Iterator[str]:
    """The architectures that are known without a network, a family to a paragraph."""
    yield "Forecast without a network, also by their name on the hub; a run loads weights from the hub or its cache."
    for family, names in FAMILIES.items():
        yield from textwrap.wrap(f"{family}: {', '.join(names)}", 110, subsequent_indent="  ", break_on_hyphens=False)


def add_history_dir(parser: argparse.ArgumentParser) -> None:
    """Add `--history-dir`, which every command has that reads or writes the history."""
    parser.add_argument(
        "--history-dir",
        metavar="DIR",
        help="keep the history in this folder, not in that of TRAINTOP_HOME; the log and the cache stay there",
    )


def add_slow_link(parser: argparse.ArgumentParser) -> None:
    """Add `--slow-link`, which every command with a screen has."""
    parser.add_argument(
        "--slow-link",
        action="store_true",
        help="repaint every 2.5 seconds and leave the mouse alone: at most 1 KB/s over SSH",
    )


def _is_flag(knob: Knob, job: str | None) -> bool:
    if job is None:
        return True
    jobs = (TRAIN, SCRIPT) if job == TRAIN else (job,)
    return any(each in knob.jobs for each in jobs) and (knob.name != "job" or job == TRAIN)


def _options(knob: Knob, job: str) -> dict[str, Any]:
    default = getattr(defaults_of(job), knob.name)
    allowed = knob.hint if default is None else f"{bounds(knob)}; default {typed(default)}"
    text = f"{knob.why_in(job)} ({allowed})".replace("%", "%%")
    options: dict[str, Any] = {"dest": knob.name, "metavar": _metavar(knob), "help": text, "default": argparse.SUPPRESS}
    if knob.kind is bool or "on" in knob.choices:
        options |= {"nargs": "?", "const": "on"}
    return options


def _metavar(knob: Knob) -> str:
    if knob.kind is bool:
        return "on|off"
    if knob.choices:
        return "|".join(knob.choices)
    if knob.name in ("data", "prompts"):
        return "FILE"
    if knob.name in ("prompt", "command"):
        return "TEXT"
    if knob.name == "command_values":
        return "NAME=VALUE"
    return {int: "N", float: "X"}.get(knob.kind, "NAME")


def alone(here: Launched | None, what: str) -> None:
    """Raise `UsageError` where this process was started with others, and `what` is for one."""
    if here is not None:
        raise UsageError(
            f"{what} is for one process, and {here.by} started {here.world_size}: use traintop run, and traintop watch "
            "to look at it."
        )


def config_of(arguments: argparse.Namespace) -> RunConfig:
    """The configuration that the flags and the file of `--config` describe, saved where `--save-config` says.

    Raises `ConfigError`.
    """
    from engine.knobs.files import load_knobs, save_knobs
    from engine.knobs.scripts import run_of

    given = given_knobs(arguments)
    _refuse_blank(given)
    from_file = load_knobs(arguments.config) if arguments.config else {}
    try:
        job = given.get("job", SCRIPT if "command" in given else from_file.get("job", TRAIN))
        if job == SCRIPT:
            config = run_of({**from_file, **given})
        else:
            config = RunConfig.from_dict({**OWN.get(job, {}), **_implied(job, from_file), **_implied(job, given)})
    except ConfigError as error:
        if error.knob in from_file and error.knob not in given:
            raise ConfigError(error.knob, f"{arguments.config}: {error.message}") from None
        raise
    if arguments.save_config:
        save_knobs(config, arguments.save_config)
    return config


def given_knobs(arguments: argparse.Namespace) -> dict[str, Any]:
    """The knobs that have a flag on the command line, as they were typed."""
    return {name: value for name, value in vars(arguments).items() if name in KNOBS}


def _refuse_blank(given: dict[str, Any]) -> None:
    """An empty variable of a shell is no wish. Raises `UsageError`."""
    for name, value in given.items():
        if isinstance(value, str) and not value.strip():
            raise UsageError(f"{KNOBS[name].flag} {value!r} has no value in it: give one, or leave the flag out.")


def _implied(job: str, values: dict[str, Any]) -> dict[str, Any]:
    """These knobs, and what goes without saying: a file of data is there to be trained on, and GPUs that are named to
    be used. No need for `--workload reviews` (of a language model: text), or for `--gpus`.
    """
    if job == ANSWER:
        return {**goes_without_saying(values), **values}
    workload = "text" if str(values.get("task", "")).endswith("-lm") else "reviews"
    implied = {"workload": workload} if values.get("data") else {}
    return {**implied, **gpus_of_device(values), **values}


def listed(name: str, text: str) -> list[str]:
    """The values of a knob in a list with commas. Raises `UsageError` where there is none."""
    values = device_list(text) if name == "device" else [part.strip() for part in text.split(",") if part.strip()]
    if not values:
        raise UsageError(f"{KNOBS[name].flag} {text!r} has no value in it.")
    return values
