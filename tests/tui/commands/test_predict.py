"""`traintop predict`: what is wrong with its flags is told before anything heavy is imported."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.programs import environment, traintop
from tui.cli import main
from tui.command_line import exit_codes


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "--model is missing: traintop predict --model DIR --data FILE."),
        (("--model", "m"), "--data is missing"),
        (("--model", "m", "--data", "gone.csv"), "--data 'gone.csv' does not exist: check the path."),
        (
            ("--model", "m", "--data", "a.csv", "--batch-size", "0"),
            "--batch-size '0' is out of bounds: use 1 to 65,536.",
        ),
        (("--model", "m", "--data", "a.csv", "--out", "b.pdf"), "use .csv, .tsv or .jsonl."),
        (("--model", "m", "--data", "a.csv", "--out", "./a.csv"), "--out is the file of --data"),
        (("--modell", "m"), "did you mean --model?"),
    ],
)
def test_wrong_usage_is_a_sentence(
    words: tuple[str, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text("text\ngood\n")
    assert main(["predict", *words]) == exit_codes.WRONG_USAGE
    told = capsys.readouterr()
    assert said in told.err
    assert told.out == ""
    assert told.err.count("\n") == 1


@pytest.mark.slow
def test_a_model_that_a_run_left_predicts_in_another_process(tmp_path: Path) -> None:
    env = environment(tmp_path / "home", OMP_NUM_THREADS="1")
    out, data = tmp_path / "model", tmp_path / "texts.csv"
    data.write_text("id,text\n" + "".join(f'{i},"it was good, they say"\n' for i in range(100)))
    knobs = ("--samples", "16", "--seq-len", "16", "--eval-samples", "10", "--workload", "reviews", "--device", "cpu")
    trained = traintop("run", *knobs, "--output-dir", str(out), env=env)
    assert trained.returncode == 0, trained.stderr
    done = traintop("predict", "--model", str(out), "--data", str(data), "--device", "cpu", env=env)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("id,text,predicted,probability,p_1 star,")
    assert len(lines) == 101
    assert "100 texts in " in done.stderr
    to_file = traintop("predict", "--model", str(out), "--data", str(data), "--out", str(tmp_path / "a.jsonl"), env=env)
    assert (to_file.returncode, to_file.stdout) == (0, "")
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 100
    refused = traintop("predict", "--model", str(tmp_path), "--data", str(data), env=env)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "has no config.json" in refused.stderr
