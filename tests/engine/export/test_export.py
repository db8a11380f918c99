"""Tables of runs in four formats, read back, compiled, and fed with hostile text."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from engine.compare.scaling import OneGpu
from engine.contract.config import RunConfig
from engine.contract.text import columns_of
from engine.export.export import read_csv, to_csv, to_json, to_latex, to_markdown
from engine.export.table import build
from engine.gpus.units import MIB
from tests.engine.compare.test_answers import lookup
from tests.engine.compare.test_answers import run as answering
from tests.engine.lecture_runs import BASE, HOSTILE, V100, VIRTUAL, lecture, run, virtual


def cells(markdown: str) -> list[dict[str, str]]:
    """A Markdown table as dictionaries; a cell ends at a pipe that is not escaped."""
    rows = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in markdown.splitlines()
        if line.startswith("|")
    ]
    assert {len(row) for row in rows} == {len(rows[0])}
    return [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]


def test_markdown_of_the_lecture() -> None:
    first, second, third = cells(to_markdown(lecture(), [lecture()[0]]))
    assert first == {
        "#": "1",
        "model": "bert-base-uncased",
        "batch": "8",
        "acc": "1",
        "ckpt": "off",
        "prec": "fp32",
        "time s": "66.67",
        "samples/s": "7.68 ±0.03",
        "VRAM MiB": "7069",
        "%": "92.9",
        "loss": "0.029",
        "accuracy": "–",
        "status": "completed",
        "Δ VRAM %": "",
        "Δ samples/s %": "",
        "Δ time %": "",
        "Δ loss": "",
    }
    assert second["ckpt"] == "on"
    assert (second["Δ VRAM %"], second["Δ time %"], second["Δ loss"]) == ("−48.8", "+39.6", "±0.000 ?")
    assert (third["time s"], third["VRAM MiB"], third["Δ VRAM %"]) == ("–", "–", "–")
    assert third["status"] == "out of memory"


def test_tables_of_a_virtual_gpu_say_whose_time_is_whose() -> None:
    text = to_markdown(virtual(), [virtual()[0]])
    first, second = cells(text)
    assert (first["CPU time s"], first["CPU samples/s"]) == ("256.00", "2.00 ±0.03")
    assert (first["card time s"], first["card samples/s"]) == (r"\~68.3", r"\~7.50")
    assert (second["Δ CPU samples/s %"], second["Δ card samples/s %"]) == ("−60.0", "−33.3")
    note = "a virtual GPU, so time and samples/s are those of the CPU in its place; card: the card's own, by forecast"
    assert f"\n{note} (\\~), without evaluation.\n" in text
    latex = to_latex(virtual())
    assert "CPU samples/s & card time s & card samples/s &" in latex
    assert note in latex


def test_a_table_of_both_kinds_names_the_virtual_rows() -> None:
    text = to_markdown([*virtual(), run(3), run(4, device=VIRTUAL)])
    assert "\nruns 1, 2, 4: a virtual GPU, so time and samples/s are those of the CPU" in text
    assert [row["card samples/s"] for row in cells(text)] == [r"\~7.50", r"\~5.00", "–", "–"]
    assert "virtual" not in to_markdown([run()])


def test_markdown_is_aligned() -> None:
    lines = [line for line in to_markdown([run(), run(200, BASE.with_values(model="模型"))]).splitlines() if line]
    assert len({columns_of(line) for line in lines if line.startswith("|")}) == 1
    assert re.match(r"\|\s+# \| model\s+\|", lines[0])
    assert re.match(r"\| -+: \| -+ \|", lines[1])


def test_knobs_that_differ_have_a_column() -> None:
    plain, other = cells(to_markdown([run(), run(2, BASE.with_values(seq_len=128, dropout=False))]))
    assert (plain["sequence length tokens"], other["sequence length tokens"]) == ("512", "128")
    assert (plain["dropout"], other["dropout"]) == ("on", "off")
    assert "seed" not in plain
    assert [row["device"] for row in cells(to_markdown([run(), run(2, device=V100)]))] == ["Tesla P4", "Tesla V100"]


def test_small_numbers_keep_their_digits() -> None:
    (row,) = cells(to_markdown([run(train_loss=0.00029, eval_accuracy=0.0)]))
    assert (row["loss"], row["accuracy"]) == ("2.9e−04", "0.000")
    (row,) = cells(to_markdown([run(train_loss=math.nan, peak_used=0)]))
    assert (row["loss"], row["VRAM MiB"]) == ("nan", "0")


def test_noise_is_marked_and_explained() -> None:
    text = to_markdown([run(), run(2, rate=7.69)], [run()])
    assert cells(text)[1]["Δ samples/s %"] == "+0.1 ≈"
    assert "Δ: difference to run 1; ≈ within noise, ? no verdict: not enough data, or disturbed." in text
    assert "Δ" not in to_markdown([run()])


def test_a_baseline_outside_the_selection() -> None:
    (row,) = cells(to_markdown([lecture()[1]], [run(7)]))
    assert row["Δ VRAM %"] == "−48.8"


def test_time_is_per_sample_for_all_rows_or_none() -> None:
    rows = cells(
        to_markdown([run(), run(2, BASE.with_values(samples=1024), train_runtime_s=2 * 512 / 7.68), run(3)], [run()])
    )
    assert [row["Δ time per sample %"] for row in rows] == ["", "±0.0 ≈", "±0.0 ≈"]


def test_repeats_as_one_row() -> None:
    records = [run(i, BASE.with_values(seed=i), train_loss=0.1 * i) for i in (1, 2, 3)]
    (row,) = cells(to_markdown([*records, run(7, BASE.with_values(seed=9), train_loss=0.2)], repeats_as_one=True))
    assert row["#"] == "1–3, 7"
    assert row["loss"] == "0.200 ±0.082"
    assert "seed" not in row
    assert len(cells(to_markdown(records))) == 3


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("google-bert/bert-base-uncased", "google-bert/bert-base-uncased"),
        ("/home/someone/models/mine", "mine"),
        ("./mine/", "mine"),
        ("C:\\models\\mine", "mine"),
        ("/", "/"),
    ],
)
def test_folders_are_not_told(name: str, wanted: str) -> None:
    assert cells(to_markdown([run(config=RunConfig(model=name))]))[0]["model"] == wanted


def test_no_runs_make_an_empty_table() -> None:
    assert cells(to_markdown([])) == []
    assert json.loads(to_json([])) == []
    assert read_csv(to_csv([])) == []
    assert r"\end{tabular}" in to_latex([])


def test_hostile_text_in_markdown() -> None:
    text = to_markdown([run(config=RunConfig(model=HOSTILE))])
    (row,) = cells(text)
    assert row["model"].startswith(r"\[bold\]\|\\\|\`x\`\*\_%\$#&amp;{}\~^&lt;b&gt;")
    assert "&#64;team https&#58;//x.y" in row["model"]
    assert all(line.isprintable() for line in text.splitlines())
    text.encode()


def test_latex_is_a_booktabs_table() -> None:
    lines = to_latex(lecture(), [run()], caption="Cost & gain: 50 %", label="tab:cost_1}").splitlines()
    assert lines[1:5] == [
        r"\begin{table}",
        r"\centering",
        r"\caption{Cost \& gain: 50 \%}",
        r"\label{tab:cost_1}",
    ]
    assert lines[-1] == r"\end{table}"
    body = lines[lines.index(r"\midrule") + 1 : lines.index(r"\bottomrule")]
    n_columns = len(re.search(r"\\begin\{tabular\}\{([lr]+)\}", "\n".join(lines)).group(1))  # type: ignore[union-attr]
    assert len(body) == 3
    assert all(line.endswith(r" \\") and line.count(" & ") == n_columns - 1 for line in body)
    assert body[1].startswith("2 & bert-base-uncased & 8 & 1 & on & fp32 & 93.07 & 5.50 $\\pm$0.03 & 3619 & 47.5")
    assert "$-$48.8" in body[1]
    assert r"\begin{table}" not in to_latex(lecture())


def test_latex_escapes_what_tex_obeys() -> None:
    hostile = RunConfig(model="x\\input{x}&%$#_^~ --flag [x] 中 é \x1b\n")
    text = to_latex([run(config=hostile)])
    wanted = (
        r"x\textbackslash{}input\{x\}\&\%\$\#\_\textasciicircum{}\textasciitilde{} "
        r"-{}-flag {[}x{]} {[}U+4E2D{]} \'{e} ?"
    )
    assert f" & {wanted} & " in text
    assert text.isascii()


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex and booktabs")
def test_latex_compiles(tmp_path: Path) -> None:
    printable = "".join(map(chr, range(32, 127)))
    letters = "".join(chr(code) for code in range(0xA1, 0x180)) + "–—…±−×≈Δµμ²³°?`!`<<>>,,''\"\"[*]"
    records = [
        *lecture(),
        run(4, RunConfig(model=printable)),
        run(5, RunConfig(model=letters)),
        run(6, RunConfig(model=HOSTILE)),
    ]
    tables = [
        to_latex(records, [run()], caption=printable, label=f"tab:{printable}"),
        to_latex(records, [run()], caption=HOSTILE + letters),
        to_latex([]),
        to_latex(records, repeats_as_one=True),
    ]
    document = "\n".join(
        [r"\documentclass{article}", r"\usepackage{booktabs}", r"\begin{document}", *tables, r"\end{document}"]
    )
    (tmp_path / "report.tex").write_text(document, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "report.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "LaTeX Warning: Command" not in done.stdout
    assert "Missing character" not in (tmp_path / "report.log").read_text(errors="replace")


def test_several_gpus_are_told_with_the_memory_of_the_fullest_and_how_well_they_scale() -> None:
    two = run(
        2,
        BASE.with_values(gpus=2),
        14.0,
        peak_used=7100 * MIB,
        peak_used_by_rank=(6000 * MIB, 7100 * MIB),
        wait_share=0.1,
    )
    records = [run(rate=8.0), two]
    written = to_markdown(records, scaling=OneGpu(records).scaling)
    one, several = cells(written)
    told = ("GPUs", "parallel", "VRAM MiB/GPU", "waiting", "scaling", "samples/s")
    assert [several[name] for name in told] == ["2", "ddp", "7100 r1", "10 %", "88 %", "14.0 ±0.0"]
    assert [one[name] for name in told] == ["1", "–", "7069", "–", "–", "8.00 ±0.03"]
    assert "Several GPUs: batch and memory are per GPU, the fullest's where they differ (r1: rank 1)" in written
    assert "GPU" not in to_markdown([run()]).replace("GPUs", "")
    (alone,) = cells(to_markdown([two], scaling=lambda record: 0.875))
    assert (alone["GPUs"], alone["scaling"]) == ("2", "88 %")


def test_json_of_several_gpus_has_their_scaling() -> None:
    two = run(2, BASE.with_values(gpus=2), 14.0)
    assert [each["scaling"] for each in json.loads(to_json([run(), two], OneGpu([run(rate=8.0)]).scaling))] == [
        None,
        0.875,
    ]


def test_jobs_have_a_table_each() -> None:
    rows = [*lecture(), answering(11), lookup()]
    training, answers = to_markdown(rows, [rows[0]]).split("### ")[1:]
    assert training.startswith("Training\n\n|   # | model")
    assert "tg tokens/s" not in training
    assert "Δ time %" in training
    assert answers.startswith("Answering\n\n|   # | model")
    assert "loss" not in answers.partition("\n\n")[2].splitlines()[0]
    assert "152 ±2" in answers
    assert "TTFT: time to first token" in answers
    assert "No differences to run 1, whose job is to train." in answers
    assert "Δ tg tokens/s %" in to_markdown(rows, [rows[0], answering(11)]).split("### ")[2]
    assert to_markdown(rows[:2], [rows[0]]).startswith("|   # | model")
    latex = to_latex(rows, [rows[0]], caption="Both", label="tab:both")
    assert latex.count(r"\begin{table}") == 2
    assert r"\caption{Both (answering)}" in latex
    assert r"\label{tab:both-answering}" in latex


def test_a_table_of_answers_compares_them() -> None:
    faster = lookup(generation_tokens_per_s=259.4)
    table = build([answering(1), faster], answering(1))
    columns = {column.heading: column.cells for column in table.columns}
    assert columns["tg tokens/s"] == ("152 ±2", "259 ±2")
    assert columns["speculate"] == ("off", "lookup 10")
    assert columns["acceptance"] == ("–", "19 %")
    assert columns["Δ tg tokens/s %"] == ("", "+70.2")
    assert columns["Δ TPOT p50 %"] == ("", "±0.0 ≈")
