"""DistilBERT: half of BERT's layers, without types and pooler, taught by BERT itself.

Sanh et al. 2019, "DistilBERT, a distilled version of BERT: smaller, faster, cheaper and lighter", arXiv:1910.01108.
Its teacher is no part of this recipe, which trains on masked words alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.errors import ConfigError, nearest
from ..core.spec import Spec
from ..weights.card import Card
from ..weights.config import Config
from ..weights.family import Family, Folder
from ..weights.keymap import AnyRule, KeyMap, fused, layer, prefixed, same, under
from ._classes import TEXTS, labels
from ._words import (
    EMBEDDING,
    SPELLINGS,
    TOWER,
    Shape,
    config_file,
    fresh_masking,
    fresh_text,
    head_keys,
    masked_words,
    opened_as,
    public_masking,
    public_text,
    single,
    system,
    tied,
)

#: The public config of each size, as far as it differs from that of base.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"vocab_size": 2048, "dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 256,
             "max_position_embeddings": 128},
    "base": {},
}  # fmt: skip
KINDS = ("ForMaskedLM", "Model", "ForSequenceClassification")
DROPOUT = 0.2  # before the classes


def distilbert(size: str = "base") -> Spec:
    """The System with fresh weights; its vocabulary is learnt from your texts."""
    if size not in SIZES:
        raise ConfigError(f"distilbert has no size {size!r}{nearest(size, SIZES)}")
    shape = sizes(Config(SIZES[size], file=Path(f"distilbert:{size}")))
    return system("distilbert", masked_words(shape.tower(), fresh_masking(), shape.head()), fresh_text(shape))


def sizes(config: Config) -> Shape:
    """The sizes of a public config."""
    config.expect("tie_word_embeddings", True)
    config.expect("tie_weights_", True)
    # How the table of positions was begun is no matter once there are weights.
    config.ignore("sinusoidal_pos_embds", "initializer_range", "pad_token_id", "eos_token_id", "output_past")
    config.ignore("qa_dropout", "seq_classif_dropout")
    return Shape(
        vocabulary=config.take("vocab_size", int, 30522, least=1),
        width=config.take("dim", int, 768, least=1),
        depth=config.take("n_layers", int, 6, least=0),
        heads=config.take("n_heads", int, 12, least=1),
        hidden=config.take("hidden_dim", int, 3072, least=1),
        length=config.take("max_position_embeddings", int, 512, least=1),
        types=0,
        activation=config.take("activation", str, "gelu"),
        dropout=config.take("dropout", float, 0.1, least=0, most=1),
        attention_dropout=config.take("attention_dropout", float, 0.1, least=0, most=1),
    )


def read(folder: Folder) -> Spec:
    """The System of a public checkpoint."""
    config, kind = folder.config, opened_as(folder, "DistilBert", KINDS)
    shape = sizes(config)
    if kind == "ForMaskedLM":
        network = masked_words(shape.tower(), public_masking(folder), shape.head())
    elif kind == "Model":
        network = single(shape.tower())
    else:
        rate = config.take("seq_classif_dropout", float, DROPOUT, least=0, most=1)
        network = single(shape.tower("relu"), labels(config, TEXTS), rate)
    config.finish()
    return system("distilbert", network, public_text(folder, shape))


def write(spec: Spec) -> dict[str, dict[str, Any]]:
    """The files beside the tensors, as others read them."""
    shape = Shape.of(spec.model.tower)
    fields = {
        "vocab_size": shape.vocabulary,
        "dim": shape.width,
        "n_layers": shape.depth,
        "n_heads": shape.heads,
        "hidden_dim": shape.hidden,
        "max_position_embeddings": shape.length,
        "activation": shape.activation,
        "dropout": shape.dropout,
        "attention_dropout": shape.attention_dropout,
    }
    return config_file(spec, "DistilBert", fields)


def keys(spec: Spec) -> KeyMap:
    """The tower, whose names have a prefix where there is a head, and the heads."""
    head = head_keys(spec, WORD_HEAD, CLASS_HEAD)
    return prefixed("distilbert", TOWER, TOWER_KEYS, head, SPELLINGS, "embeddings|transformer")


BLOCK: list[AnyRule] = [
    *fused([f"attention.{part}_lin" for part in "qkv"], "attention.qkv"),
    *layer("attention.out_lin", "attention.out"),
    *layer("sa_layer_norm", "norm_attention"),
    *layer("ffn.lin1", "feed_forward.up"),
    *layer("ffn.lin2", "feed_forward.down"),
    *layer("output_layer_norm", "norm_feed_forward"),
]
TOWER_KEYS: list[AnyRule] = [
    *under("embeddings.", "embedding.", EMBEDDING),
    *under("transformer.layer.{i}.", "trunk.blocks.{i}.", BLOCK),
]
WORD_HEAD: list[AnyRule] = [
    *layer("vocab_transform", "head.dense"),
    *layer("vocab_layer_norm", "head.norm"),
    same("vocab_projector.bias", "head.bias"),
    *tied("vocab_projector", "vocab_projector.bias", "distilbert.embeddings.word_embeddings.weight"),
]
CLASS_HEAD: list[AnyRule] = [
    *layer("pre_classifier", f"{TOWER}pool.dense.0"),
    *layer("classifier", "head.project"),
]

FAMILY = Family(
    name="distilbert",
    model_types=("distilbert",),
    read=read,
    write=write,
    keys=keys,
    card=Card(
        title="DistilBERT",
        paper="Sanh et al. 2019, arXiv:1910.01108",
        licence="Apache 2.0",
        preparation="WordPiece tokens between [CLS] and [SEP], 512 at most",
        examples=(
            "distilbert/distilbert-base-uncased",
            "distilbert/distilbert-base-uncased-finetuned-sst-2-english",
        ),
    ),
)
