"""A byte-level BPE vocabulary as GPT-2's, trained on running text, and text in pieces that are soon tokenised."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from engine.workloads.standalone.first_texts import first_texts

END_OF_TEXT = "<|endoftext|>"
"""GPT-2's only special token: ends a document, and pads."""
PIECE = 20_000  # characters; longer documents are tokenised in pieces cut before a blank


def train_byte_bpe(texts: Sequence[str], size: int) -> PreTrainedTokenizerFast:
    """A tokenizer of at most `size` entries, in which every text can be written.

    The same texts give the same vocabulary.
    """
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=letters,
        show_progress=False,
    )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(first_texts([piece for text in texts for piece in pieces_of(text)]), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT, pad_token=END_OF_TEXT
    )


def ending(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """The tokenizer, which from now on puts the end-of-text token behind each text."""
    end = (END_OF_TEXT, tokenizer.convert_tokens_to_ids(END_OF_TEXT))
    template = processors.TemplateProcessing(single=f"$A {END_OF_TEXT}", special_tokens=[end])
    tokenizer.backend_tokenizer.post_processor = template
    return tokenizer


def pieces_of(document: str) -> list[str]:
    """A document in parts that together are it."""
    pieces: list[str] = []
    start = 0
    while len(document) - start > PIECE:
        cut = max(document.rfind(" ", start + 1, start + PIECE), document.rfind("\n", start + 1, start + PIECE))
        cut = cut if cut > start else start + PIECE
        pieces.append(document[start:cut])
        start = cut
    return [*pieces, document[start:]]
