"""`traintop forecast`: whether configurations fit on a GPU and how fast they would be, without running them."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING, Any

from engine.contract.by_job import defaults_of
from engine.contract.config import KNOBS, RunConfig
from engine.contract.forecast_types import BREAKDOWN, AnswerForecast, Forecast, ForecastError
from engine.contract.knob import shown
from engine.contract.numbers import UNKNOWN, fixed, mib, number, percent, rate
from engine.contract.presets import model_name
from engine.contract.script_flags import all_turned
from engine.gpus.units import MIB
from engine.plans.course import grid
from tui.command_line import exit_codes
from tui.command_line.flags import Parser, UsageError, add_knobs, config_of, listed
from tui.drawing.text import clean

if TYPE_CHECKING:
    from rich.table import Table

_WHOLE = frozenset(("data", "text_column", "label_column", "target_column", "model", "command", "command_values"))
"""Knobs whose value may hold a comma."""
_NAMED = frozenset(("model", "device"))
"""Knobs that the table's title tells."""
_MOST_ROWS = 3
"""That are named before what is true of them."""
_WIDTH, _WIDEST = 110, 1000
"""Columns of the table, and what it may grow to before a heading is cut; a narrow terminal wraps it."""


def add_flags(parser: Parser) -> None:
    """The flags of `traintop forecast`."""
    parser.take_command(
        "traintop forecast --gpu a100-40gb --batch-size 4,8 -- python run_clm.py --model_name_or_path gpt2\n"
        "A script's forecast is that of the training which its flags name; what they leave open is said as assumed."
    )
    group = parser.add_argument_group(
        "the forecast",
        "Any knob below takes several values: --batch-size 1,2,4,8. The exit code is 0 whatever the verdict, also "
        'where nothing fits (--json has it as "verdict"), 2 on wrong usage, 4 where no forecast can be made.',
    )
    group.add_argument("--gpu", metavar="NAME", help="a GPU of the catalogue, such as tesla-p4, a100-40gb or rtx-4090")
    group.add_argument(
        "--stack",
        metavar="current|2023-2024|lecture-2023|2022|2020-2021",
        default="current",
        help="the software whose memory is forecast: today's, or that of other years, with the attention and the "
        "optimizer's implementation of its day where no flag says otherwise. The lecture's tables need the lecture's",
    )
    group.add_argument(
        "--loop",
        metavar="trainer|script|tutorial",
        help="whose loop trains (default: the Trainer's, as traintop's own; of a command what its script shows): "
        "trainer; script, which holds the model's outputs until it has the next; tutorial, as in PyTorch's, which also "
        "keeps the gradients until after the next forward",
    )
    group.add_argument(
        "--link",
        metavar="nvlink|pcie",
        help="what joins several GPUs: without it NVLink where the board has it, as SXM's, and PCIe for other cards",
    )
    group.add_argument("--context-mib", metavar="MIB", help="memory of a CUDA context, measured on your machine")
    group.add_argument("--library-mib", metavar="MIB", help="memory of the CUDA libraries, measured on your machine")
    group.add_argument(
        "--json", action="store_true", help="one JSON object on stdout; with several configurations a list of them"
    )
    add_knobs(parser)


def execute(arguments: Namespace) -> int:
    """`traintop forecast`. Raises `ConfigError` and `UsageError`."""
    configs, several = _configs(arguments)
    context_bytes, library_bytes = _mib(arguments, "context_mib"), _mib(arguments, "library_mib")
    from tui.commands.headless import own_streams

    with own_streams() as (out, err):
        from engine.session.session import Session

        Session.check_data(configs[0])  # told before PyTorch is loaded
        from engine.session.forecasts import Terms, forecast_all, forecast_scripts

        try:
            terms = Terms(
                gpu=arguments.gpu,
                stack=arguments.stack,
                context_bytes=context_bytes,
                library_bytes=library_bytes,
                loop=arguments.loop,
                given=given_knobs(arguments),
                link=arguments.link,
            )
            if configs[0].is_script:
                trainings, forecasts = forecast_scripts(configs, terms)
            else:
                trainings, forecasts = configs, forecast_all(configs, terms)
        except ForecastError as error:
            err.write(f"traintop forecast: {clean(str(error))}\n")
            return exit_codes.FAILED
        if arguments.json:
            objects = [_to_json(*each) for each in zip(configs, trainings, forecasts, strict=True)]
            out.write(json.dumps(objects if several else objects[0]) + "\n")
        else:
            out.write(_text(trainings, forecasts))
        out.flush()
    return exit_codes.DONE


def given_knobs(arguments: Namespace) -> frozenset[str]:
    """Knobs that the user set, by a flag or in the file of `--config`. Raises `ConfigError`."""
    from engine.knobs.files import load_knobs

    of_file = load_knobs(arguments.config) if arguments.config else {}
    return frozenset(name for name in (*vars(arguments), *of_file) if name in KNOBS)


def _configs(arguments: Namespace) -> tuple[list[RunConfig], bool]:
    """Every combination of the knobs' values. Raises `UsageError` and `ConfigError`."""
    given = {name: value for name, value in vars(arguments).items() if name in KNOBS}
    lists = {name: listed(name, value) for name, value in given.items() if name not in _WHOLE and "," in value}
    lists = {name: values for name, values in lists.items() if name != "device" or len(values) > 1}
    single = Namespace(**{name: value for name, value in vars(arguments).items() if name not in lists})
    base = config_of(single)
    if arguments.gpu and "device" in given:
        raise UsageError("--gpu and --device both name the GPU: give one of them.")
    if base.is_script and lists:
        turned = [dict(zip(lists, values, strict=True)) for values in product(*lists.values())]
        return [all_turned(base, each) for each in turned], True
    runs = grid(base, lists, given=given_knobs(arguments)) if lists else ()
    impossible = next((run.skip for run in runs if run.skip), None)
    if impossible:
        raise UsageError(impossible)
    return ([run.config for run in runs], True) if runs else ([base], False)


def _mib(arguments: Namespace, name: str) -> int | None:
    text = getattr(arguments, name)
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1_000_000:
        raise UsageError(f"--{name.replace('_', '-')} {text!r} is not a size: use 0 to 1,000,000 (MiB).")
    return int(value * MIB)


def _to_json(config: RunConfig, training: RunConfig, made: Forecast) -> dict[str, Any]:
    """`training` is what a script's forecast is made of: the knobs of our own that its command names."""
    read = {"read_as": training.to_dict()} if config.is_script else {}
    return {**made.to_json(), "config": config.to_dict(), **read}


def _text(configs: list[RunConfig], forecasts: list[Forecast]) -> str:
    from rich.console import Console

    drawn = table(configs, forecasts)
    console = Console(width=_WIDEST, no_color=True, highlight=False, markup=False, emoji=False)
    console.width = max(_WIDTH, console.measure(drawn).maximum)
    with console.capture() as captured:
        console.print(drawn)
        if shared := _shared(configs):
            values = " · ".join(f"{KNOBS[name].label} {_value(configs[0], name)}" for name in shared)
            console.print(f"{'In every row' if len(configs) > 1 else 'With'}: {values}", soft_wrap=True)
        first = forecasts[0]
        if len(forecasts) == 1:
            if first.together is not None:
                console.print(f"{first.together}{_by_gpu(first)}.", soft_wrap=True)
            for line in _about_answers(first.answer):
                console.print(line, soft_wrap=True)
            held = {name: first.breakdown.get(name) for name in BREAKDOWN}  # a recorded one may lack a part
            parts = " · ".join(f"{name} {mib(size)}" for name, size in held.items() if size)
            console.print(f"At the peak, MiB: {parts}", soft_wrap=True)
            if first.failing_phase:
                asked, free, short = mib(first.failing_segment), mib(first.failing_free), mib(first.short)
                console.print(
                    f"It dies in {first.failing_phase}, asking for {asked} MiB where {free} are free: "
                    f"{short} MiB too much."
                )
        for note in _notes(configs, forecasts):
            console.print(note, soft_wrap=True)
    return captured.get()


def _about_answers(answer: AnswerForecast | None) -> Iterator[str]:
    """What there is to say of answers alone."""
    if answer is None:
        return
    if answer.kv_per_token:
        each = fixed(answer.kv_per_token / 1024, 1)
        yield f"KV cache: {mib(answer.kv_cache)} MiB at the end of the answers, {each} KiB a token."
    room = (("tokens of prompt and answer", answer.most_tokens), ("as a batch", answer.largest_batch))
    yield "The most that fits: " + ", ".join(f"{number(value)} {what}" for what, value in room) + "."
    if answer.ttft_s is not None:
        parts = [f"~TTFT {number(1000 * answer.ttft_s, 1)} ms", f"prompt {rate(answer.prompt_tokens_per_s)} tokens/s"]
        if answer.tpot_s is not None:
            parts += [
                f"~TPOT {number(1000 * answer.tpot_s, 1)} ms",
                f"generation {rate(answer.generation_tokens_per_s)} tokens/s, bound by the {answer.bound}",
            ]
        yield " · ".join(parts)
    if answer.speedups:
        told = ", ".join(f"{percent(100 * share)}: {gain:.1f} ×" for share, gain in answer.speedups)
        yield f"Speculation, by the share of guesses that are accepted: {told}."


def _by_gpu(made: Forecast) -> str:
    """Each GPU's memory, where they differ."""
    if len(set(made.peak_used_by_rank)) < 2:
        return ""
    return f"; by GPU {', '.join(map(mib, made.peak_used_by_rank))} MiB"


def _notes(configs: list[RunConfig], forecasts: list[Forecast]) -> list[str]:
    """What holds for every row, then what is true of some alone, with their values before it."""
    everywhere = [note for note in forecasts[0].notes if all(note in made.notes for made in forecasts)]
    turned = [name for name in KNOBS if name not in _NAMED and _differs(configs, name)]
    some: dict[str, list[str]] = {}
    for config, made in zip(configs, forecasts, strict=True):
        row = ", ".join(f"{KNOBS[name].label} {_value(config, name)}" for name in turned)
        for note in made.notes:
            if note not in everywhere:
                some.setdefault(note, []).append(row)
    return [*everywhere, *(f"{_rows(rows)}: {note}" for note, rows in some.items())]


def _rows(rows: list[str]) -> str:
    return "; ".join(rows) if len(rows) <= _MOST_ROWS else f"{rows[0]} and {len(rows) - 1} more"


def table(configs: list[RunConfig], forecasts: list[Forecast]) -> Table:
    """One row for every configuration, with the batch size and the knobs that differ between them."""
    from rich import box
    from rich.table import Table

    first = forecasts[0]
    title = f"{clean(model_name(configs[0].model), 60)} on {first.gpu}, {mib(first.limit)} MiB"
    drawn = Table(box=box.SIMPLE_HEAD, title=title)
    turned = [name for name in KNOBS if name == "batch_size" or (name not in _NAMED and _differs(configs, name))]
    for name in turned:
        drawn.add_column(KNOBS[name].label)
    ranged = any(made.used_range is not None for made in forecasts)
    several = any(made.gpus > 1 for made in forecasts)
    used_mib = "MiB/GPU" if several else "used MiB"
    headings = (
        used_mib,
        *(["from – to"] if ranged else []),
        "%",
        "reserved",
        "allocated",
        "verdict",
        _per_second(configs[0]),
    )
    headings = (*headings, *(("× one GPU", "waiting %") if several else ()))
    answers = any(made.answer is not None for made in forecasts)
    headings = (*headings, *(("KV MiB", "longest", "~TTFT ms", "~tokens/s") if answers else ()))
    for heading in headings:
        drawn.add_column(heading, justify="left" if heading == "verdict" else "right")
    for config, made in zip(configs, forecasts, strict=True):
        verdict = ("fits" if made.fits else f"out of memory ({made.failing_phase})") + (
            ", near the limit" if made.near_limit else ""
        )
        share = percent(100 * made.peak_used / made.limit, 1)
        between = " – ".join(mib(size) for size in made.used_range) if made.used_range is not None else UNKNOWN
        used = (mib(made.peak_used), between) if ranged else (mib(made.peak_used),)
        figures = (*used, share, mib(made.peak_reserved), mib(made.peak_allocated), verdict)
        speed = rate(made.samples_per_s) if made.samples_per_s else UNKNOWN
        faster = UNKNOWN if made.speedup is None else f"{made.speedup:.1f}"
        waiting = UNKNOWN if made.wait_share is None else percent(100 * made.wait_share, 0)
        together = (faster, waiting) if several else ()
        answered = _answer_cells(made.answer) if answers else ()
        drawn.add_row(*(_value(config, name) for name in turned), *figures, speed, *together, *answered)
    return drawn


def _per_second(config: RunConfig) -> str:
    return "~requests/s" if config.answers and config.task != "classification" else "~samples/s"


def _answer_cells(answer: AnswerForecast | None) -> tuple[str, ...]:
    if answer is None:
        return (UNKNOWN,) * 4
    ttft = None if answer.ttft_s is None else 1000 * answer.ttft_s
    return mib(answer.kv_cache), number(answer.most_tokens), rate(ttft), rate(answer.generation_tokens_per_s)


def _differs(configs: list[RunConfig], name: str) -> bool:
    return any(getattr(config, name) != getattr(configs[0], name) for config in configs)


def _shared(configs: list[RunConfig]) -> list[str]:
    """Knobs that are not at their default, and the same in every row."""
    skipped = {*_NAMED, "batch_size"}
    usual = defaults_of(configs[0].job)
    turned = (name for name in KNOBS if getattr(configs[0], name) != getattr(usual, name))
    return [name for name in turned if name not in skipped and not _differs(configs, name)]


def _value(config: RunConfig, name: str) -> str:
    return clean(shown(KNOBS[name], getattr(config, name)), 60)
