"""BERT and its descendants: encoders. Numbers of each repository's config.json."""

from __future__ import annotations

from engine.models.architecture import BASE, CLASSES, MASKED, PRETRAINING, Architecture

_CLASSIFIED = "transformers' and peft's print of the classifier with two labels, in public fine-tunings of it"
_ELECTRA = "`ElectraForPreTraining`, in public prints of it"


def _sizes(hidden_size: int, layers: int) -> dict[str, int]:
    """64 units per head and a feed-forward of 4 × hidden, as all of them have it (Turc et al. 2019, table 1)."""
    return {
        "hidden_size": hidden_size,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden_size // 64,
        "intermediate_size": 4 * hidden_size,
    }


def _bert(hub_name: str, hidden_size: int, layers: int, n_parameters: int | None = None, **more: int) -> Architecture:
    settings = _sizes(hidden_size, layers) | more
    return Architecture(
        hub_name=hub_name, model_type="bert", settings=settings, head=PRETRAINING, n_parameters=n_parameters
    )


def _sentences(hub_name: str, layers: int, n_parameters: int) -> Architecture:
    settings = {"hidden_size": 384, "num_hidden_layers": layers, "num_attention_heads": 12, "intermediate_size": 1536}
    return Architecture(hub_name=hub_name, model_type="bert", settings=settings, head=BASE, n_parameters=n_parameters)


def _roberta(
    hub_name: str, n_parameters: int, hidden_size: int = 768, layers: int = 12, vocab_size: int = 50_265
) -> Architecture:
    fixed = {"max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
    model_type = "roberta" if vocab_size == 50_265 else "xlm-roberta"
    settings = {"vocab_size": vocab_size, **_sizes(hidden_size, layers), **fixed}
    return Architecture(
        hub_name=hub_name, model_type=model_type, settings=settings, head=MASKED, n_parameters=n_parameters
    )


def _albert(hub_name: str, n_parameters: int | None, hidden_size: int, heads: int, layers: int = 12) -> Architecture:
    settings = {
        "hidden_size": hidden_size,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * hidden_size,
    }
    return Architecture(
        hub_name=hub_name, model_type="albert", settings=settings, head=PRETRAINING, n_parameters=n_parameters
    )


def _electra(
    hub_name: str, n_parameters: int, hidden_size: int, layers: int, heads: int, embedding: int
) -> Architecture:
    settings = {
        "embedding_size": embedding,
        "hidden_size": hidden_size,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * hidden_size,
    }
    return Architecture(
        hub_name=hub_name,
        model_type="electra",
        settings=settings,
        head=PRETRAINING,
        n_parameters=n_parameters,
        source=_ELECTRA,
    )


def _deberta(
    hub_name: str, n_parameters: int | None, hidden_size: int, layers: int, vocab_size: int = 128_100
) -> Architecture:
    settings = {
        "vocab_size": vocab_size,
        **_sizes(hidden_size, layers),
        "relative_attention": True,
        "position_biased_input": False,
        "position_buckets": 256,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"],
    }
    return Architecture(
        hub_name=hub_name,
        model_type="deberta-v2",
        settings=settings,
        head=CLASSES,
        n_parameters=n_parameters,
        source=_CLASSIFIED,
    )


def _modernbert(hub_name: str, n_parameters: int, **settings: int) -> Architecture:
    return Architecture(
        hub_name=hub_name, model_type="modernbert", settings=settings, head=MASKED, n_parameters=n_parameters
    )


_DISTILBERT = Architecture(
    hub_name="distilbert/distilbert-base-uncased",
    model_type="distilbert",
    settings={},
    head=MASKED,
    n_parameters=66_985_530,
)

BERT: dict[str, Architecture] = {
    "bert-tiny": _bert("google/bert_uncased_L-2_H-128_A-2", 128, 2),
    "bert-mini": _bert("google/bert_uncased_L-4_H-256_A-4", 256, 4),
    "bert-small": _bert("google/bert_uncased_L-4_H-512_A-8", 512, 4),
    "bert-base-uncased": _bert("google-bert/bert-base-uncased", 768, 12, 110_106_428),
    "bert-large-uncased": _bert("google-bert/bert-large-uncased", 1024, 24, 336_226_108),
    "bert-base-cased": _bert("google-bert/bert-base-cased", 768, 12, 108_932_934, vocab_size=28_996),
    "bert-base-multilingual-cased": _bert(
        "google-bert/bert-base-multilingual-cased", 768, 12, 178_566_653, vocab_size=119_547
    ),
    "distilbert-base-uncased": _DISTILBERT,
    "roberta-base": _roberta("FacebookAI/roberta-base", 124_697_433),
    "roberta-large": _roberta("FacebookAI/roberta-large", 355_412_057, 1024, 24),
    "distilroberta-base": _roberta("distilbert/distilroberta-base", 82_170_201, layers=6),
    "xlm-roberta-base": _roberta("FacebookAI/xlm-roberta-base", 278_295_186, vocab_size=250_002),
    "xlm-roberta-large": _roberta("FacebookAI/xlm-roberta-large", 560_142_482, 1024, 24, vocab_size=250_002),
    "albert-base-v2": _albert("albert/albert-base-v2", 11_813_810, 768, 12),
    "albert-large-v2": _albert("albert/albert-large-v2", None, 1024, 16, 24),
    "electra-small": _electra("google/electra-small-discriminator", 13_549_057, 256, 12, 4, 128),
    "electra-base": _electra("google/electra-base-discriminator", 109_483_009, 768, 12, 12, 768),
    "electra-large": _electra("google/electra-large-discriminator", 335_142_913, 1024, 24, 16, 1024),
    "minilm-l6": _sentences("sentence-transformers/all-MiniLM-L6-v2", 6, 22_713_216),
    "minilm-l12": _sentences("sentence-transformers/all-MiniLM-L12-v2", 12, 33_360_000),
    "mpnet-base": Architecture(
        hub_name="sentence-transformers/all-mpnet-base-v2",
        model_type="mpnet",
        settings={"max_position_embeddings": 514, "layer_norm_eps": 1e-5},
        head=BASE,
        n_parameters=109_486_464,
        also=("microsoft/mpnet-base",),
    ),
    "deberta-v3-xsmall": _deberta("microsoft/deberta-v3-xsmall", 70_830_722, 384, 12),
    "deberta-v3-small": _deberta("microsoft/deberta-v3-small", 141_896_450, 768, 6),
    "deberta-v3-base": _deberta("microsoft/deberta-v3-base", 184_423_682, 768, 12),
    "deberta-v3-large": _deberta("microsoft/deberta-v3-large", 435_063_810, 1024, 24),
    "mdeberta-v3-base": _deberta("microsoft/mdeberta-v3-base", 278_810_882, 768, 12, 251_000),
    "modernbert-base": _modernbert("answerdotai/ModernBERT-base", 149_655_232),
    "modernbert-large": _modernbert(
        "answerdotai/ModernBERT-large",
        395_881_664,
        hidden_size=1024,
        intermediate_size=2624,
        num_hidden_layers=28,
        num_attention_heads=16,
    ),
}
