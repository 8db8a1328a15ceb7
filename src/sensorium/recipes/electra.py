"""ELECTRA: a text encoder that tells replaced tokens from original ones; a small generator replaces them.

Clark et al. 2020, "ELECTRA: Pre-training Text Encoders as Discriminators Rather Than Generators", arXiv:2003.10555.
A public checkpoint is one of the two networks. What is trained here is saved as the one that judges.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ..core.errors import ConfigError, nearest
from ..core.spec import Spec
from ..nn.architectures.replaced_tokens import ReplacedTokens
from ..nn.heads.replaced import ReplacedTokenHead
from ..objectives import MaskedTokens, ReplacedTokenDetection
from ..weights.card import Card
from ..weights.config import Config
from ..weights.family import Family, Folder
from ..weights.keymap import AnyRule, Fresh, KeyMap, layer, prefixed, same
from ._words import (
    CLASS_HEAD,
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

#: The public config of each size, as far as it differs from that of small, and the generator's share of the width.
SIZES: dict[str, tuple[dict[str, Any], float]] = {
    "tiny": ({"vocab_size": 2048, "embedding_size": 32, "hidden_size": 64, "num_hidden_layers": 2,
              "num_attention_heads": 4, "intermediate_size": 256, "max_position_embeddings": 128}, 0.5),
    "small": ({}, 1 / 4),
    "base": ({"embedding_size": 768, "hidden_size": 768, "num_attention_heads": 12,
              "intermediate_size": 3072}, 1 / 3),
    "large": ({"embedding_size": 1024, "hidden_size": 1024, "num_hidden_layers": 24,
               "num_attention_heads": 16, "intermediate_size": 4096}, 1 / 4),
}  # fmt: skip
KINDS = ("ForPreTraining", "ForMaskedLM", "Model", "ForSequenceClassification")
#: The generator's masking: the rest of the 15 % stays what it is.
SHARES = {"masked": 0.85, "random": 0.0}


def electra(size: str = "small") -> Spec:
    """The System with fresh weights, generator and judge; its vocabulary is learnt from your texts."""
    if size not in SIZES:
        raise ConfigError(f"electra has no size {size!r}{nearest(size, SIZES)}")
    fields, share = SIZES[size]
    shape = sizes(Config(fields, file=Path(f"electra:{size}")))
    small = generator(shape, share)
    network = judge(shape, fresh_masking(**SHARES)).replace(generator=small.tower(), head=small.head("gelu"))
    objectives = {
        "masked_tokens": Spec(MaskedTokens, ratio=network.masking.ratio),
        "replaced_tokens": Spec(ReplacedTokenDetection),
    }
    return system("electra", network, fresh_text(shape), objectives=objectives)


def sizes(config: Config) -> Shape:
    """The sizes of a public config."""
    config.ignore("classifier_dropout", "summary_type", "summary_use_proj", "summary_activation")
    config.ignore("summary_last_dropout", "generator_size")
    shape = Shape.take(config, vocabulary=30522, width=256, heads=4, hidden=1024)
    embedding = config.take("embedding_size", int, 128, least=1)
    return replace(shape, embedding=embedding if embedding != shape.width else None)


def generator(shape: Shape, share: float) -> Shape:
    """The generator of a judge of that shape: as deep, a ``share`` as wide, with heads of 64."""
    width = round(shape.width * share)
    embedding = shape.width if shape.embedding is None else shape.embedding
    return replace(
        shape,
        width=width,
        heads=max(1, width // 64),
        hidden=4 * width,
        embedding=embedding if embedding != width else None,
    )


def judge(shape: Shape, masking: Spec) -> Spec:
    """The network that tells replaced tokens, without a generator."""
    return Spec(
        ReplacedTokens,
        language="text",
        tower=shape.tower(),
        judge=Spec(ReplacedTokenHead, width=shape.width, activation=shape.activation),
        masking=masking,
    )


def read(folder: Folder) -> Spec:
    """The System of a public checkpoint."""
    config, kind = folder.config, opened_as(folder, "Electra", KINDS)
    shape = sizes(config)
    if kind == "ForPreTraining":
        network = judge(shape, public_masking(folder, **SHARES))
    elif kind == "ForMaskedLM":
        network = masked_words(shape.tower(), public_masking(folder, **SHARES), shape.head("gelu"))
    elif kind == "Model":
        network = single(shape.tower())
    else:
        network = sorter(config, shape, shape.tower("gelu"))
    config.finish()
    return system("electra", network, public_text(folder, shape))


def write(spec: Spec) -> dict[str, dict[str, Any]]:
    """The files beside the tensors, as others read them."""
    tower = spec.model.tower
    fields = Shape.of(tower).fields() | {"embedding_size": tower.embedding.width}
    judges = spec.model.cls is ReplacedTokens
    return config_file(spec, "Electra", fields, "ForPreTraining" if judges else "ForMaskedLM")


def keys(spec: Spec) -> KeyMap:
    """The tower, whose names have a prefix where there is a head, and the heads."""
    head = head_keys(spec, JUDGE if spec.model.cls is ReplacedTokens else WORD_HEAD, CLASS_HEAD)
    return prefixed("electra", TOWER, TOWER_KEYS, head, SPELLINGS, "embeddings|embeddings_project|encoder")


APART = "the generator is a checkpoint of its own"
JUDGE: list[AnyRule] = [
    *layer("discriminator_predictions.dense", "judge.dense"),
    *layer("discriminator_predictions.dense_prediction", "judge.project"),
    Fresh("generator.embedding.project.{part}", APART),
    Fresh("generator.trunk.blocks.{i}.{layer}.{part}", APART),
    Fresh("generator.trunk.blocks.{i}.{layer}.{inner}.{part}", APART),
    Fresh("head.{layer}.{part}", APART),
    Fresh("head.bias", APART),
]
WORD_HEAD: list[AnyRule] = [
    *layer("generator_predictions.dense", "head.dense"),
    *layer("generator_predictions.LayerNorm", "head.norm"),
    same("generator_lm_head.bias", "head.bias"),
    *tied("generator_lm_head", "generator_lm_head.bias", "electra.embeddings.word_embeddings.weight"),
    *unused("discriminator_predictions.dense", "discriminator_predictions.dense_prediction"),
]

FAMILY = Family(
    name="electra",
    model_types=("electra",),
    read=read,
    write=write,
    keys=keys,
    card=Card(
        title="ELECTRA",
        paper="Clark et al. 2020, arXiv:2003.10555",
        licence="Apache 2.0",
        preparation="WordPiece tokens between [CLS] and [SEP], 512 at most",
        examples=("google/electra-small-discriminator", "google/electra-small-generator"),
    ),
)
