"""A WordPiece vocabulary in BERT's manner, trained on texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from engine.workloads.standalone.first_texts import first_texts

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""BERT's, in BERT's roles; [PAD] is id 0."""
MAX_ALPHABET = 1_000  # as in tokenizers' WordPieceTrainer


def train_wordpiece(texts: Sequence[str], size: int) -> PreTrainedTokenizerFast:
    """A lower-casing tokenizer of at most `size` entries. The same texts give the same vocabulary."""
    texts = first_texts(texts)
    normalizer, splitter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    letters = _alphabet(texts, normalizer, min(letters_room(size), MAX_ALPHABET))
    # The trainer numbers the inner forms in the order of a randomly seeded hash map and breaks ties by these numbers;
    # naming them beforehand makes its result a function of the texts alone.
    inner = ["##" + letter for letter in letters]
    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        min_frequency=2,
        special_tokens=[*SPECIAL_TOKENS, *inner],
        initial_alphabet=letters,
        limit_alphabet=len(letters),
        show_progress=False,
    )
    learner = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    learner.normalizer, learner.pre_tokenizer = normalizer, splitter
    learner.train_from_iterator(texts, trainer)
    return _bert_tokenizer(learner.get_vocab(with_added_tokens=True), normalizer, splitter)


def letters_room(size: int) -> int:
    """Letters that a vocabulary has room for: each also has a form inside a word."""
    return (size - len(SPECIAL_TOKENS)) // 2


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
