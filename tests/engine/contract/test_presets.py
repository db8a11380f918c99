"""How a model is called."""

from __future__ import annotations

import pytest

from engine.contract.presets import model_name


@pytest.mark.parametrize(
    ("model", "called"),
    [
        ("bert-base-uncased", "bert-base-uncased"),
        ("google-bert/bert-base-uncased", "google-bert/bert-base-uncased"),
        ("/home/me/runs/checkpoint-500/", "checkpoint-500"),
        ("./out", "out"),
        ("~/models/mine", "mine"),
        ("runs/out/checkpoint-500", "checkpoint-500"),
        (r"C:\models\mine", "mine"),
        (".", "."),
        ("..", ".."),
        ("~", "~"),
        ("/", "/"),
    ],
)
def test_a_folder_is_called_by_its_last_part(model: str, called: str) -> None:
    assert model_name(model) == called
