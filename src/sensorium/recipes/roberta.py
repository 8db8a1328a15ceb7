"""RoBERTa: BERT's tower, trained longer and on masked words alone; positions begin after the padding token's number.

Liu et al. 2019, "RoBERTa: A Robustly Optimized BERT Pretraining Approach", arXiv:1907.11692.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.errors import ConfigError, nearest
from ..core.spec import Spec
from ..weights.card import Card
from ..weights.config import Config
from ..weights.family import Family, Folder
from ..weights.keymap import AnyRule, KeyMap, layer, prefixed, same
from ._words import (
    CLASS_HEAD,
    OWN_SPECIAL,
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

_USUAL = {"max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
#: The public config of each size, as far as it says what others leave out.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": _USUAL | {"vocab_size": 2048, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
                      "intermediate_size": 256, "max_position_embeddings": 130},
    "base": _USUAL,
    "large": _USUAL | {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
                       "intermediate_size": 4096},
}  # fmt: skip
KINDS = ("ForMaskedLM", "Model", "ForSequenceClassification")
VOCABULARY = 50265


def roberta(size: str = "base") -> Spec:
    """The System with fresh weights; its vocabulary is learnt from your texts."""
    if size not in SIZES:
        raise ConfigError(f"roberta has no size {size!r}{nearest(size, SIZES)}")
    return fresh(
        "roberta", Config(SIZES[size] | {"pad_token_id": OWN_SPECIAL[0]}, file=Path(f"roberta:{size}"))
    )


def fresh(family: str, config: Config, vocabulary: int = VOCABULARY) -> Spec:
    """The System of a size, for texts of our own."""
    shape = sizes(config, vocabulary)
    return system(family, masked_words(shape.tower(), fresh_masking(), shape.head("gelu")), fresh_text(shape))


def sizes(config: Config, vocabulary: int = VOCABULARY) -> Shape:
    """The sizes of a public config."""
    pad = config.take("pad_token_id", int, 1, least=0)
    config.ignore("classifier_dropout")
    return Shape.take(config, offset=pad + 1, vocabulary=vocabulary)


def read_as(folder: Folder, family: str, prefix: str, vocabulary: int) -> Spec:
    """The System of a public checkpoint whose classes begin with ``prefix``."""
    config, kind = folder.config, opened_as(folder, prefix, KINDS)
    shape = sizes(config, vocabulary)
    if kind == "ForMaskedLM":
        network = masked_words(shape.tower(), public_masking(folder), shape.head("gelu"))
    elif kind == "Model":
        network = single(shape.tower("tanh"))
    else:
        network = sorter(config, shape, shape.tower("tanh"))
    config.finish()
    return system(family, network, public_text(folder, shape))


def read(folder: Folder) -> Spec:
    """The System of a public checkpoint."""
    return read_as(folder, "roberta", "Roberta", VOCABULARY)


def fields(spec: Spec) -> dict[str, Any]:
    """The fields of a public config."""
    shape = Shape.of(spec.model.tower)
    return shape.fields() | {"pad_token_id": shape.offset - 1}


def write(spec: Spec) -> dict[str, dict[str, Any]]:
    """The files beside the tensors, as others read them."""
    return config_file(spec, "Roberta", fields(spec))


def keys(spec: Spec) -> KeyMap:
    """The tower, whose names have a prefix where there is a head, and the heads."""
    no_pooler = unused("roberta.pooler.dense")
    head = head_keys(spec, [*WORD_HEAD, *no_pooler], [*CLASS_HEAD, *no_pooler])
    return prefixed("roberta", TOWER, TOWER_KEYS, head, SPELLINGS, "embeddings|encoder|pooler")


WORD_HEAD: list[AnyRule] = [
    *layer("lm_head.dense", "head.dense"),
    *layer("lm_head.layer_norm", "head.norm"),
    same("lm_head.bias", "head.bias"),
    *tied("lm_head.decoder", "lm_head.bias", "roberta.embeddings.word_embeddings.weight"),
]

FAMILY = Family(
    name="roberta",
    model_types=("roberta",),
    read=read,
    write=write,
    keys=keys,
    card=Card(
        title="RoBERTa",
        paper="Liu et al. 2019, arXiv:1907.11692",
        licence="MIT",
        preparation="byte-pair tokens between <s> and </s>, 512 at most",
        examples=("FacebookAI/roberta-base", "distilbert/distilroberta-base"),
    ),
)
