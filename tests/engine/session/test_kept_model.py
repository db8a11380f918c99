"""The model of the run that has just ended, and runs that go on, through a real session."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.contract.config import ConfigError, RunConfig
from engine.contract.events import Event, RunFinished, Saved, UpdateDone
from engine.contract.records import Outcome
from engine.history.history import History
from engine.session import resumption
from engine.session.session import Session


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINTOP_HOME", str(tmp_path))


def until(session: Session, kind: type[Event], seen: list[Event]) -> Event:
    """The next event of a kind; fails after two minutes without any."""
    while True:
        more = session.wait(120)
        assert more, f"no event came while waiting for {kind.__name__}"
        seen += more
        if found := next((event for event in more if isinstance(event, kind)), None):
            return found


def test_a_model_is_saved_after_the_run_and_a_run_goes_on(tmp_path: Path) -> None:
    config = RunConfig(device="cpu", samples=24, batch_size=4, seq_len=16, save_steps=2)
    seen: list[Event] = []
    with History() as history:
        session = Session(history, keeps_model=True)
        session.open()
        session.start(config)
        finished = until(session, RunFinished, seen)
        assert isinstance(finished, RunFinished)

        folder = tmp_path / "models" / "run-1"
        session.save_model(1, str(folder))
        saved = until(session, Saved, seen)
        assert isinstance(saved, Saved)
        assert (saved.what, saved.update, saved.problem) == ("model", 6, None)
        assert (folder / "model.safetensors").exists()
        for run_id, said in ((1, "holds a model already"), (7, "The model of run 7 is gone")):
            session.save_model(run_id, str(folder))
            again = until(session, Saved, seen)
            assert isinstance(again, Saved)
            assert said in (again.problem or "")

        with pytest.raises(ConfigError, match="came to its end"):
            resumption.find("1", history)
        place = tmp_path / "checkpoints" / "run-1"
        found = resumption.find(str(place / "checkpoint-4"), history)
        assert resumption.find(str(place), history).update == 6
        with pytest.raises(ConfigError, match="--batch-size would change what it learns: leave it out"):
            resumption.config_of(found, {"batch_size": "8"})
        session.resume(found, resumption.config_of(found, {"save_steps": "0"}))
        resumed: list[Event] = []
        ended = until(session, RunFinished, resumed)
        assert isinstance(ended, RunFinished)
        assert ended.record.outcome is Outcome.COMPLETED
        assert (ended.record.resumed_from, ended.record.resumed_at, ended.record.updates) == (1, 4, 6)
        assert ended.record.train_loss == finished.record.train_loss
        session.close()
        stored = [event.loss for _, event in history.series(2) if isinstance(event, UpdateDone)]
        assert stored == [event.loss for _, event in history.series(1) if isinstance(event, UpdateDone)]
        row = history.run(2)
        assert row is not None
        assert row.resumed_from == 1
