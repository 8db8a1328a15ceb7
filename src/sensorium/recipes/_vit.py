"""What ViT, DINOv2 and their kin share: the embedding of patches, and one block, in the names of transformers."""

from __future__ import annotations

from typing import Any

from ..core.spec import Spec
from ..nn.encoders.patch_tower import PatchEmbedding
from ..nn.layers.attention import SelfAttention
from ..nn.layers.tables import PositionTable
from ..weights.config import Config
from ..weights.keymap import AnyRule, convolution, fused, layer, same, shaped
from ._shared import picture_size

#: Names of transformers 5 in memory, as those of version 4, which both write.
SPELLINGS = [
    (r"(^|\.)layers\.(\d+)\.", r"\1encoder.layer.\2."),
    (r"\.attention\.q_proj\.", ".attention.attention.query."),
    (r"\.attention\.k_proj\.", ".attention.attention.key."),
    (r"\.attention\.v_proj\.", ".attention.attention.value."),
    (r"\.attention\.o_proj\.", ".attention.output.dense."),
]


def sides(config: Config, name: str, default: int) -> list[int]:
    """Height and width, which a file gives as one number or two."""
    value = config.take(name, int | list[int], default, least=1)
    found = [value, value] if isinstance(value, int) else value
    if len(found) != 2:
        raise config.error(name, f"expected one number or two, found {value!r:.80}")
    return found


def embedding(
    config: Config, width: int, patch: int, *, image: int = 224, how: dict[str, Any], **more: Any
) -> Spec:
    """The embedding of a public config with a class token; ``patch`` and ``image`` are the sides where the file says
    none, ``how`` is how the table of positions is stretched.
    """
    whole, part = sides(config, "image_size", image), sides(config, "patch_size", patch)
    grid = [size // p for size, p in zip(whole, part, strict=True)]
    return Spec(
        PatchEmbedding,
        patch=part,
        channels=config.take("num_channels", int, 3, least=1),
        width=width,
        positions=Spec(PositionTable, grid=grid, width=width, prefix=1, **how),
        dropout=config.take("hidden_dropout_prob", float, 0.0, least=0, most=1),
        **more,
    )


def attention(config: Config, width: int) -> Spec:
    """Self-attention of a public config."""
    return Spec(
        SelfAttention,
        width=width,
        heads=config.take("num_attention_heads", int, 12, least=1),
        biases="qkvo" if config.take("qkv_bias", bool, True) else "o",
        dropout=config.take("attention_probs_dropout_prob", float, 0.0, least=0, most=1),
    )


def fields(tower: Spec, image: Spec) -> dict[str, Any]:
    """The fields of a config from which ``embedding`` and ``attention`` are made, and the sizes of the trunk."""
    first, trunk = tower.embedding, tower.trunk
    part = trunk.block.attention
    return {
        "image_size": picture_size(image, first),
        "patch_size": first.patch[0] if first.patch[0] == first.patch[1] else first.patch,
        "num_channels": first.channels,
        "hidden_dropout_prob": first.dropout,
        "hidden_size": trunk.width,
        "num_hidden_layers": trunk.depth,
        "layer_norm_eps": trunk.block.norm.eps,
        "num_attention_heads": part.heads,
        "qkv_bias": "q" in part.biases,
        "attention_probs_dropout_prob": part.dropout,
    }


def embedding_keys(tower: Spec) -> list[AnyRule]:
    """The first layer."""
    first = tower.embedding
    return [
        same("embeddings.cls_token", "embedding.prefix", shaped([1, 1, -1], [1, -1])),
        same(
            "embeddings.position_embeddings",
            "embedding.positions.weight",
            shaped([1, -1, first.width], [-1, first.width]),
        ),
        same(
            "embeddings.patch_embeddings.projection.weight",
            "embedding.project.weight",
            convolution(*first.patch),
        ),
        same("embeddings.patch_embeddings.projection.bias", "embedding.project.bias"),
    ]


def attention_keys() -> list[AnyRule]:
    """Self-attention of one block."""
    return [
        *fused([f"attention.attention.{part}" for part in ("query", "key", "value")], "attention.qkv"),
        *layer("attention.output.dense", "attention.out"),
    ]
