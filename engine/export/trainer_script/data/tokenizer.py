"""The script's tokenizer: the model's, or a vocabulary trained as the run trained it."""

from __future__ import annotations

from dataclasses import dataclass

from engine.export.trainer_script.embedding import embedded
from engine.export.trainer_script.parts import Part, literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokenizer:
    """Whose tokenizer the run used."""

    location: str | None
    """A folder or hub name; None: a vocabulary was trained on the texts."""
    size: int
    """The most entries of a vocabulary that is trained."""
    pad_token_id: int


def tokenizer_part(tokenizer: Tokenizer, kind: str, texts: str) -> tuple[Part, list[str]]:
    """What the script needs for its tokenizer, and the lines that make it.

    `kind` of vocabulary that is trained on `texts`: wordpiece, byte_level, or ending with the end of each text.
    """
    if tokenizer.location is not None:
        made = [
            f"tokenizer = AutoTokenizer.from_pretrained({literal(tokenizer.location)})",
            'tokenizer.padding_side = "right"',
            "if tokenizer.pad_token is None:",
            f"    tokenizer.pad_token = tokenizer.convert_ids_to_tokens({tokenizer.pad_token_id})",
        ]
        return Part(imports=("from transformers import AutoTokenizer",)), made
    from engine.workloads.standalone import byte_level, first_texts, wordpiece

    if kind == "wordpiece":
        return embedded(first_texts, wordpiece), [f"tokenizer = train_wordpiece({texts}, {tokenizer.size})"]
    trained = f"train_byte_bpe({texts}, {tokenizer.size})"
    trained = f"ending({trained})" if kind == "ending" else trained
    return embedded(first_texts, byte_level), [f"tokenizer = {trained}"]
