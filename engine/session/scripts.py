"""A run as a script for the Hugging Face Trainer, or one sentence on why there is none."""

from __future__ import annotations

import logging
from collections.abc import Callable

from engine.contract.config import ConfigError, RunConfig
from engine.contract.events import ScriptMade
from engine.contract.records import DeviceInfo
from engine.process.imports import import_transformers
from engine.training.hub import Hub

log = logging.getLogger("traintop")


class Left(Exception):  # noqa: N818 (not a defect of ours)
    """Nobody waits for the script any more."""


def script_of(
    config: RunConfig,
    title: str,
    device: DeviceInfo | None = None,
    hub: Hub | None = None,
    report: Callable[[str], None] = lambda what: None,
) -> ScriptMade:
    """Make the script of `config`; `title` is what the run is called, `device` where it was. Never raises.

    `hub` None: one of its own is asked. `report` is told what takes time, and may raise `Left` to end the work.
    """
    if hub is None:
        hub = Hub()
        hub.probe()
    message = "traintop was left before the script was made."
    try:
        import_transformers()
        from engine.export.trainer_script.script import make_script

        made = make_script(config, hub, title=title, device=device, report=report)
        return ScriptMade(title=title, text=made.text, data_name=made.data_name, data=made.data)
    except ConfigError as error:
        message = error.message
    except Left:
        pass
    except Exception:  # a defect of ours must not end the thread
        log.exception("a script could not be made")
        message = "The script could not be made: details are in the log file."
    return ScriptMade(title=title, message=message)
