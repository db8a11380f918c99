"""Train, then ask it: the model of an earlier run by its number, from memory and from its folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.contract.by_job import asked, asking
from engine.contract.config import RunConfig
from engine.contract.events import Event, RequestDone, RunFinished, RunProgress, RunRefused
from engine.contract.records import Outcome, RunRecord
from engine.history.history import History
from engine.session.session import Session

TRAINING = RunConfig(
    model="gpt2-tiny",
    task="causal-lm",
    workload="instructions",
    device="cpu",
    samples=24,
    eval_samples=8,
    batch_size=8,
    seq_len=64,
    learning_rate=0.01,
)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINTOP_HOME", str(tmp_path))


def do(session: Session, config: RunConfig) -> list[Event]:
    """All that a run says until its end; fails after two minutes without a word."""
    seen: list[Event] = []
    session.start(config)
    while not any(isinstance(event, (RunFinished, RunRefused)) for event in seen):
        more = session.wait(120)
        assert more, "the run says nothing"
        seen += more
    return seen


def record_of(events: list[Event]) -> RunRecord:
    [record] = [event.record for event in events if isinstance(event, RunFinished)]
    return record


def answers(events: list[Event]) -> list[str]:
    assert record_of(events).outcome is Outcome.COMPLETED
    return [event.text for event in events if isinstance(event, RequestDone) and not event.warmup]


def says(events: list[Event], words: str) -> bool:
    return any(words in event.detail for event in events if isinstance(event, RunProgress))


def refusal(events: list[Event]) -> str:
    [message] = [event.message for event in events if isinstance(event, RunRefused)]
    return message


@pytest.mark.parametrize("more", [{}, {"lora_rank": 4}])
def test_what_was_trained_answers_from_memory_and_from_its_folder(tmp_path: Path, more: dict[str, int]) -> None:
    if more:
        pytest.importorskip("peft")
    with History() as history:
        session = Session(history, keeps_model=True)
        session.open()
        trained = record_of(do(session, TRAINING.with_values(output_dir=str(tmp_path / "out-{run}"), **more)))
        ask = asking(trained).with_values(requests=2, max_new_tokens=8, ignore_eos=True)
        kept = do(session, ask)
        assert says(kept, "Weights of run 1, which are still in memory.")
        assert len(answers(kept)) == 2
        assert answers(do(session, asked(ask, "What is 2 plus 3?")))
        again = do(session, ask)  # what answers leaves it there
        assert answers(again) == answers(kept)
        assert session.close(60)
    with History() as history:
        session = Session(history)
        session.open()
        from_folder = do(session, ask)
        assert says(from_folder, "Weights of run 1 from out-1.")
        assert answers(from_folder) == answers(kept)
        folder = str(tmp_path / "out-1")
        assert answers(do(session, ask.with_values(model=folder))) == answers(kept)  # by its path as well
        if more:
            wrong = refusal(do(session, TRAINING.with_values(model=folder)))
            assert wrong.endswith("is what LoRA trained, which can be asked but not trained on with: give its base.")
        (tmp_path / "out-1").rename(tmp_path / "elsewhere")
        assert f"the model of run 1 is not in {folder}: " in refusal(do(session, ask))
        assert session.close(60)


def test_a_model_that_is_gone_is_refused_with_the_fix() -> None:
    with History() as history:
        session = Session(history, keeps_model=True)
        session.open()
        first = record_of(do(session, TRAINING))
        ask = asking(first).with_values(requests=1, max_new_tokens=4)
        answered = record_of(do(session, ask))
        do(session, TRAINING)
        assert "the model of run 1 is gone" in refusal(do(session, ask))
        assert "there is no such run" in refusal(do(session, ask.with_values(model="run:99")))
        for name in ("run:abc", "RUN:", "run:-1", "run:1.5"):
            sentence = f"--model {name}: there is no such run. `traintop runs` lists them."
            assert refusal(do(session, ask.with_values(model=name))) == sentence
            assert "is a model to be asked" in refusal(do(session, TRAINING.with_values(model=name)))
        guesses = ask.with_values(model="run:3", speculate="draft", draft_model="run:x")
        assert refusal(do(session, guesses)).startswith("--draft-model run:x: there is no such run.")
        other = ask.with_values(model=f"run:{answered.run_id}")
        assert "answered, and trained no model" in refusal(do(session, other))
        assert "is a model to be asked" in refusal(do(session, TRAINING.with_values(model="run:1")))
        wrong = ask.with_values(model="run:3", task="classification", max_new_tokens=128)
        assert "was trained for --task causal-lm" in refusal(do(session, wrong))
        assert session.close(60)
