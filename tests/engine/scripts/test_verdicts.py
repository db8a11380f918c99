"""How a script ended, in a sentence."""

from __future__ import annotations

import pytest

from engine.contract.records import Outcome, Phase
from engine.scripts.messages import Allocator, End
from engine.scripts.verdicts import NOT_WATCHED, Seen, Told, of_end, shell_code

_LOG = "What it printed is in /log."
_TRAINED = Seen(updates=3, torch=True, python=True)


def _end(error: str | None = None, *, phase: Phase | None = Phase.BACKWARD, ran_out: bool = False) -> End:
    return End(
        updates=3, micro_steps=0, phase=phase, error=error, out_of_memory=ran_out, held={}, allocator=Allocator()
    )


def test_out_of_memory_says_where_and_what_was_asked_for() -> None:
    error = (
        "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 7.43 GiB of "
        "which 1.20 GiB is free. Process 17 has 6 GiB memory in use. See documentation"
    )
    told = [
        Told(end=_end("RuntimeError: NCCL"), rank=0, updates=3),
        Told(end=_end(error, ran_out=True), rank=1, updates=3),
    ]
    verdict = of_end(1, told, _TRAINED, [], _LOG)
    assert verdict.message == (
        "Rank 1: out of memory in backward of update 4: CUDA out of memory. Tried to allocate 2.00 GiB. "
        "GPU 0 has a total capacity of 7.43 GiB of which 1.20 GiB is free."
    )
    assert (verdict.outcome, verdict.phase, verdict.rank) == (Outcome.OUT_OF_MEMORY, Phase.BACKWARD, 1)
    alone = of_end(1, [Told(end=_end(error, ran_out=True, phase=None), rank=None, updates=0)], _TRAINED, [], _LOG)
    assert (alone.message or "").startswith("Out of memory before the first update: CUDA out of memory.")


def test_one_that_was_caught_is_none() -> None:
    told = [Told(end=_end("OutOfMemoryError: CUDA", ran_out=True), rank=None, updates=3)]
    assert of_end(0, told, _TRAINED, [], _LOG).outcome is Outcome.COMPLETED


def test_an_error_is_told_with_its_place_and_the_log() -> None:
    told = [Told(end=_end("ValueError: no\nsuch thing."), rank=None, updates=3)]
    verdict = of_end(1, told, _TRAINED, ["ignored"], _LOG)
    assert verdict.message == f"Failed in backward of update 4: ValueError: no such thing. {_LOG}"
    assert (verdict.outcome, verdict.phase) == (Outcome.FAILED, Phase.BACKWARD)


@pytest.mark.parametrize(
    ("code", "said", "words"),
    [
        (3, [], "It ended with exit code 3 after update 3. What"),
        (1, ["KeyError: 'x'"], "It ended with exit code 1 after update 3: KeyError: 'x'. What"),
        (1, ["100%|####| 3/3"], "It ended with exit code 1 after update 3. What"),
        (137, [], "It ended with exit code 137 (a shell's word for SIGKILL) after update 3. What"),
        (-9, [], "Killed by SIGKILL after update 3: the system's out-of-memory killer did it, or somebody. What"),
        (-15, [], "Ended by SIGTERM after update 3, which traintop did not send: somebody did, or the system. What"),
        (-11, [], "It crashed with SIGSEGV after update 3. What"),
        (-64, [], "It crashed with SIGRTMAX after update 3. What"),
    ],
)
def test_codes_and_signals(code: int, said: list[str], words: str) -> None:
    verdict = of_end(code, [], _TRAINED, said, _LOG)
    assert verdict.outcome is Outcome.FAILED
    assert (verdict.message or "").startswith(words)


def test_a_rank_that_was_gone_without_a_word_is_named() -> None:
    seen = Seen(updates=3, torch=True, python=True, lost_rank=1)
    verdict = of_end(1, [], seen, ["======"], _LOG)
    assert (verdict.outcome, verdict.rank) == (Outcome.FAILED, 1)
    assert (verdict.message or "").startswith(
        "Rank 1 was gone without a word after update 3: killed, as by the system's"
    )
    told = [Told(end=_end("ValueError: no"), rank=0, updates=3)]
    verdict = of_end(1, told, seen, [], _LOG)  # it comes of the other
    assert (verdict.outcome, verdict.rank, verdict.phase) == (Outcome.FAILED, 1, None)
    assert "or by itself; then rank 0: failed in " in (verdict.message or "")


def test_what_completed_without_a_training_says_why_there_is_nothing() -> None:
    assert of_end(0, [], _TRAINED, [], _LOG).message is None
    seen = [
        Seen(updates=0, torch=torch, python=python) for torch, python in ((True, True), (False, True), (False, False))
    ]
    lost = of_end(0, [], Seen(updates=0, torch=True, python=True, backward=3), [], _LOG).message
    assert lost == "It called backward 3 times, and no optimizer of PyTorch's stepped: there are no updates to show."
    assert [of_end(0, [], each, [], _LOG).message for each in seen] == [
        "No optimizer stepped: nothing of a training was seen.",
        "It imported no torch: there is nothing to show of a training.",
        NOT_WATCHED,
    ]


def test_codes_as_a_shell_tells_them() -> None:
    assert [shell_code(code) for code in (0, 3, -2, -9, -15)] == [0, 3, 130, 137, 143]
