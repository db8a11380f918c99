"""Instruction tuning from JSON lines, as a user does it: a small Llama in a folder, LoRA, and a loss that falls."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from engine.workloads.generated.instructions import make_talks
from engine.workloads.tokens.byte_bpe import train_byte_bpe

TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.mark.slow
def test_lora_on_json_lines_learns_to_answer(tmp_path: Path) -> None:
    talks = make_talks(9, "train", 400)
    (tmp_path / "talks.jsonl").write_text("\n".join(json.dumps({"id": i, "messages": t}) for i, t in enumerate(talks)))
    tokenizer = train_byte_bpe([message["content"] for talk in talks for message in talk])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.1,  # of a head that is frozen: with the usual 0.02 its logits cannot grow
    )
    LlamaForCausalLM(shape).save_pretrained(tmp_path / "llama")
    tokenizer.save_pretrained(tmp_path / "llama")
    words = "run --json --device cpu --workload instructions --task causal-lm --lora-rank 16 --lora-targets all-linear"
    how = "--batch-size 8 --epochs 2 --learning-rate 1e-2 --seq-len 160 --padding bucketed"
    files = ["--model", str(tmp_path / "llama"), "--data", str(tmp_path / "talks.jsonl")]
    done = subprocess.run(
        [sys.executable, "-m", "tui.cli", *words.split(), *how.split(), *files],
        env=os.environ | {"TRAINTOP_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    events = [json.loads(line) for line in done.stdout.splitlines()]
    losses = [event["loss"] for event in events if event["event"] == "update_done"]
    scored = [event["loss"] for event in events if event["event"] == "eval_done"]
    assert len(losses) == 90
    first, last = sum(losses[:10]) / 10, sum(losses[-10:]) / 10
    assert last < first - 1.0
    assert scored[1] < scored[0] < first
    said = " ".join(event.get("detail", "") for event in events)
    assert "in the model's chat template" in said
    assert "which alone are learned" in said
