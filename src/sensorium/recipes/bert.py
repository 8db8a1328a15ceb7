"""BERT: a text encoder that restores masked words and tells whether one text follows another.

Devlin et al. 2018, "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding",
arXiv:1810.04805.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.errors import ConfigError, nearest
from ..core.spec import Spec
from ..nn.architectures.masked_words import MaskedWords
from ..weights.card import Card
from ..weights.config import Config
from ..weights.family import Family, Folder
from ..weights.keymap import AnyRule, KeyMap, layer, prefixed, same
from ._words import (
    SPELLINGS,
    TOWER,
    TOWER_KEYS,
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
    sorter,
    system,
    tied,
    unused,
)

#: The public config of each size, as far as it differs from that of base.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"vocab_size": 2048, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
             "intermediate_size": 256, "max_position_embeddings": 128},
    "base": {},
    "large": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
}  # fmt: skip
KINDS = ("ForPreTraining", "ForMaskedLM", "Model", "ForSequenceClassification")


def bert(size: str = "base") -> Spec:
    """The System with fresh weights; its vocabulary is learnt from your texts, of which two to a sample teach order."""
    if size not in SIZES:
        raise ConfigError(f"bert has no size {size!r}{nearest(size, SIZES)}")
    shape = sizes(Config(SIZES[size], file=Path(f"bert:{size}")))
    network = masked_words(shape.tower("tanh"), fresh_masking(), shape.head(), shape.relation())
    return system("bert", network, fresh_text(shape))


def sizes(config: Config) -> Shape:
    """The sizes of a public config."""
    config.expect("directionality", "bidi")
    config.ignore("classifier_dropout", "pooler_fc_size", "pooler_num_attention_heads")
    config.ignore("pooler_num_fc_layers", "pooler_size_per_head", "pooler_type")
    return Shape.take(config, vocabulary=30522)


def read(folder: Folder) -> Spec:
    """The System of a public checkpoint."""
    config, kind = folder.config, opened_as(folder, "Bert", KINDS)
    shape = sizes(config)
    if kind == "ForPreTraining":
        network = masked_words(shape.tower("tanh"), public_masking(folder), shape.head(), shape.relation())
    elif kind == "ForMaskedLM":
        network = masked_words(shape.tower(), public_masking(folder), shape.head())
    elif kind == "Model":
        network = single(shape.tower("tanh"))
    else:
        network = sorter(config, shape, shape.tower("tanh"))
    config.finish()
    return system("bert", network, public_text(folder, shape))


def write(spec: Spec) -> dict[str, dict[str, Any]]:
    """The files beside the tensors, as others read them."""
    tower, relation = spec.model.tower, spec.model.cls is MaskedWords and spec.model.relation is not None
    return config_file(
        spec, "Bert", Shape.of(tower).fields(), "ForPreTraining" if relation else "ForMaskedLM"
    )


def keys(spec: Spec) -> KeyMap:
    """The tower, whose names have a prefix where there is a head, and the heads."""
    head = head_keys(spec, HEADS, layer("classifier", "head.project"))
    return prefixed("bert", TOWER, TOWER_KEYS, head, SPELLINGS, "embeddings|encoder|pooler")


HEADS: list[AnyRule] = [
    *layer("cls.predictions.transform.dense", "head.dense"),
    *layer("cls.predictions.transform.LayerNorm", "head.norm"),
    same("cls.predictions.bias", "head.bias"),
    *tied("cls.predictions.decoder", "cls.predictions.bias", "bert.embeddings.word_embeddings.weight"),
    *layer("cls.seq_relationship", "relation.project"),
    *unused("cls.seq_relationship", "bert.pooler.dense"),
]

FAMILY = Family(
    name="bert",
    model_types=("bert",),
    read=read,
    write=write,
    keys=keys,
    card=Card(
        title="BERT",
        paper="Devlin et al. 2018, arXiv:1810.04805",
        licence="Apache 2.0",
        preparation="WordPiece tokens between [CLS] and [SEP], 512 at most",
        examples=("google-bert/bert-base-uncased", "google-bert/bert-base-multilingual-cased"),
    ),
)
