"""What the machine is asked for the doctor; here without a GPU."""

from __future__ import annotations

import json

from engine.process.machine import Machine
from engine.training.probe import probe


def test_it_says_what_ranks_talk_by() -> None:
    (part,) = [part for part in probe() if part["section"] == "several"]
    assert json.loads(json.dumps(part)) == part
    assert part["gloo"] is True
    assert part["cores"] == Machine().threads()
    assert part["shm_free"] is None or part["shm_free"] > 0
