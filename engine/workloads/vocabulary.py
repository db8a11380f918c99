"""Text -> token ids: a model's tokenizer applied once, up front, and a WordPiece vocabulary where it has none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from engine.contract.config import ConfigError
from engine.workloads.plain_files import go_on

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""BERT's, in BERT's roles; [PAD] is id 0."""
MAX_VOCABULARY = 8_192
MAX_TRAINED_ON = 20_000
"""Texts that a vocabulary is trained on, and no more of them than have `_MAX_CHARACTERS` together: about 2 s."""
_MAX_CHARACTERS = 4_000_000
_MAX_CHARACTERS_OF_ONE = 50_000
_MAX_ALPHABET = 1_000  # as in tokenizers' WordPieceTrainer
_MIN_FREQUENCY = 2
_CHARACTERS_PER_TOKEN = 100  # more than any real text has; keeps a line of megabytes from being tokenised whole
_BATCH = 1_000  # texts


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokenised texts end to end.

    `sequences` holds int32 arrays of shape (total tokens,): `input_ids`, and `token_type_ids` if the tokenizer yields
    them. `offsets`, shape (texts + 1,), are the boundaries; `n_cut` counts texts that were longer than allowed.
    """

    sequences: dict[str, npt.NDArray[np.int32]]
    offsets: npt.NDArray[np.int64]
    n_cut: int


def train_wordpiece(texts: Sequence[str], model_vocab_size: int | None = None) -> PreTrainedTokenizerFast:
    """A lower-casing WordPiece tokenizer in BERT's manner, trained on the first texts (see `MAX_TRAINED_ON`).

    The vocabulary has at most `MAX_VOCABULARY` entries, and no more than the model's embedding has rows. The same
    texts give the same vocabulary. Raises `ConfigError` when the model's vocabulary has no room for letters.
    """
    size = min(MAX_VOCABULARY, model_vocab_size or MAX_VOCABULARY)
    letters_room = (size - len(SPECIAL_TOKENS)) // 2  # each letter also has a form inside a word
    if letters_room < 26:
        raise ConfigError(
            "model", f"the model's vocabulary of {size:,} entries is too small for text: use a larger --model."
        )
    texts = first_texts(texts)
    normalizer, splitter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    letters = _alphabet(texts, normalizer, min(letters_room, _MAX_ALPHABET))
    # The trainer numbers the inner forms in the order of a randomly seeded hash map and breaks ties by these numbers;
    # naming them beforehand makes its result a function of the texts alone.
    inner = ["##" + letter for letter in letters]
    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        min_frequency=_MIN_FREQUENCY,
        special_tokens=[*SPECIAL_TOKENS, *inner],
        initial_alphabet=letters,
        limit_alphabet=len(letters),
        show_progress=False,
    )
    learner = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    learner.normalizer, learner.pre_tokenizer = normalizer, splitter
    learner.train_from_iterator(texts, trainer)
    return _bert_tokenizer(learner.get_vocab(with_added_tokens=True), normalizer, splitter)


def first_texts(texts: Sequence[str]) -> list[str]:
    """As many of the texts, and as much of each, as a vocabulary is trained on."""
    room, first = _MAX_CHARACTERS, []
    for text in texts[:MAX_TRAINED_ON]:
        if room <= 0:
            break
        first.append(text[:_MAX_CHARACTERS_OF_ONE])
        room -= len(first[-1])
    return first


def _alphabet(texts: Sequence[str], normalizer: normalizers.Normalizer, limit: int) -> list[str]:
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(normalizer.normalize_str(text))
    common = sorted((c for c in counts if not c.isspace()), key=lambda c: (-counts[c], c))
    return sorted(common[:limit])


def _bert_tokenizer(
    vocabulary: dict[str, int], normalizer: normalizers.Normalizer, splitter: pre_tokenizers.PreTokenizer
) -> PreTrainedTokenizerFast:
    pad, unknown, first, last, mask = SPECIAL_TOKENS
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=unknown))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    tokenizer.post_processor = processors.BertProcessing((last, vocabulary[last]), (first, vocabulary[first]))
    tokenizer.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pad,
        unk_token=unknown,
        cls_token=first,
        sep_token=last,
        mask_token=mask,
    )


def tokenise(
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    seq_len: int,
    pad_token_id: int,
    ask: Callable[[], None] = go_on,
) -> Tokens:
    """Every text as at most `seq_len` tokens with the tokenizer's special ones; `pad_token_id` stands for no token.

    `ask` is called now and then, and may raise to end the work.
    """
    parts: dict[str, list[npt.NDArray[np.int32]]] = {}
    lengths: list[int] = []
    n_cut, room = 0, seq_len * _CHARACTERS_PER_TOKEN
    for start in range(0, len(texts), _BATCH):
        ask()
        batch = [text[:room] for text in texts[start : start + _BATCH]]
        encoded = tokenizer(batch, truncation=True, max_length=seq_len, return_attention_mask=False)
        for i, (text, ids) in enumerate(zip(texts[start : start + _BATCH], encoded["input_ids"], strict=True)):
            row = {name: encoded[name][i] for name in ("input_ids", "token_type_ids") if name in encoded}
            if not ids:  # a text that the tokenizer's normaliser leaves nothing of
                row = {name: [pad_token_id if name == "input_ids" else 0] for name in row}
            for name, values in row.items():
                parts.setdefault(name, []).append(np.array(values, dtype=np.int32))
            lengths.append(len(row["input_ids"]))
            overflows = encoded.encodings is not None and bool(encoded.encodings[i].overflowing)
            n_cut += overflows or len(text) > room
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Tokens({name: np.concatenate(rows) for name, rows in parts.items()}, offsets, n_cut)


def pad_token_id_of(tokenizer: PreTrainedTokenizerBase, model_pad_token_id: int | None) -> int:
    """The tokenizer's padding token, else the model's, else the one that ends a text."""
    known = (tokenizer.pad_token_id, model_pad_token_id, tokenizer.eos_token_id)
    return next((int(token_id) for token_id in known if token_id is not None), 0)


def check_ids(ids: Sequence[npt.NDArray[np.int32]], model_vocab_size: int | None) -> None:
    """Raises `ConfigError` when a token has no row in the model's embedding."""
    highest = max(int(part.max(initial=0)) for part in ids)
    if model_vocab_size is not None and highest >= model_vocab_size:
        raise ConfigError(
            "model",
            f"the model's tokenizer yields token {highest:,} and its embedding has {model_vocab_size:,} rows: "
            "they do not belong together; use another --model.",
        )
