"""Run as a script by the tests of watching: a process that drives runs in a history, told what to do line by line."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from engine.contract.config import RunConfig
from engine.contract.records import Outcome, RunRecord
from engine.history.history import History
from tests.engine.history.history_process import DEVICE, say, update


def main(path: Path) -> None:
    """Obey `begin BATCH`, `updates N`, `finish`, `drop` and answer each with the run's number or the last update's."""
    number, run_id, config = 0, 0, RunConfig()
    with History(path) as history:
        say("ready")
        for line in sys.stdin:
            command, *words = line.split()
            if command == "begin":
                config, number = RunConfig(batch_size=int(words[0])), 0
                run_id = history.writer.begin_run(config, DEVICE, started_at=1000.0, planned_updates=100)
            elif command == "updates":
                for number in range(number + 1, number + 1 + int(words[0])):  # noqa: B020 (counts on)
                    history.writer.append(update(run_id, number))
                    if number % 3 == 0:
                        history.writer.flush()
                history.writer.flush()
            elif command == "finish":
                record = RunRecord(run_id=run_id, config=config, outcome=Outcome.COMPLETED, updates=number)
                history.writer.finish_run(record)
            elif command == "drop":
                history.writer.drop_run(run_id)
            assert history.writer.failure is None
            assert not history.writer._pending
            say(number if command == "updates" else run_id)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
