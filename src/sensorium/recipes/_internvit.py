"""InternViT, the image tower of InternVL: a vision transformer whose layers add with learned scales.

Chen et al. 2023, "InternVL: Scaling up Vision Foundation Models and Aligning for Generic Visual-Linguistic Tasks",
arXiv:2312.14238.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from ..core.spec import Spec
from ..nn.encoders.patch_tower import PatchTower
from ..nn.heads.pooling import MeanToken, Pool
from ..nn.layers.attention import SelfAttention
from ..nn.layers.blocks import PreNorm
from ..nn.layers.drop_path import LayerScale
from ..nn.layers.feed_forward import MLP
from ..nn.layers.norms import JointRMSNorm, LayerNorm, RMSNorm
from ..nn.layers.transformer import Transformer
from ..weights.config import Config
from ..weights.keymap import AnyRule, fused, layer, same, under
from ._masked import token
from ._parts import Part
from ._shared import picture_size
from ._vit import embedding, embedding_keys

EYE = "internvl_vision"
NORMS: dict[str, type[nn.Module]] = {"layer_norm": LayerNorm, "rms_norm": RMSNorm}


def vision(config: Config) -> Spec:
    """The image tower of a public ``vision_config``: InternViT."""
    width = config.take("hidden_size", int, 1024, least=1)
    biased = config.take("attention_bias", bool, False)
    norm = Spec(
        NORMS[config.take("norm_type", str, "layer_norm", among=NORMS)],
        width=width,
        eps=config.take("layer_norm_eps", float, 1e-6, least=0),
    )
    joint = Spec(JointRMSNorm, width=width) if config.take("use_qk_norm", bool, False) else None
    block = Spec(
        PreNorm,
        norm=norm,
        attention=Spec(
            SelfAttention,
            width=width,
            heads=config.take("num_attention_heads", int, 16, least=1),
            biases="qkvo" if biased else "o",
            norm_query=joint,
            norm_key=joint,
            dropout=config.take("attention_dropout", float, 0.0, least=0, most=1),
        ),
        feed_forward=Spec(
            MLP,
            width=width,
            hidden=config.take("intermediate_size", int, 4096, least=1),
            activation=config.take("hidden_act", str, "gelu"),
        ),
        branch=Spec(LayerScale, width=width, value=config.take("layer_scale_init_value", float, 0.1)),
    )
    config.expect("hidden_dropout_prob", 0.0)
    config.expect("projection_dropout", 0.0)
    config.expect("use_mean_pooling", True)  # else there is a norm, which some choices of layers pass by
    config.expect("use_absolute_position_embeddings", True)
    config.ignore("initializer_range", "initializer_factor", "dropout")
    first = embedding(config, width, 14, image=448, how={})
    return Spec(
        PatchTower,
        embedding=first.replace(mask_token=config.take("use_mask_token", bool, False)),
        trunk=Spec(
            Transformer,
            width=width,
            depth=config.take("num_hidden_layers", int, 24, least=1),
            block=block,
        ),
        pool=Spec(Pool, width=width, select=Spec(MeanToken, skip=1)),
    )


def vision_fields(tower: Spec) -> dict[str, Any]:
    """The ``vision_config`` from which ``vision`` makes this tower."""
    first, trunk = tower.embedding, tower.trunk
    block = trunk.block
    size = picture_size(None, first)
    return {
        "model_type": EYE,
        "hidden_size": trunk.width,
        "num_hidden_layers": trunk.depth,
        "num_attention_heads": block.attention.heads,
        "attention_bias": "q" in block.attention.biases,
        "use_qk_norm": block.attention.norm_query is not None,
        "attention_dropout": block.attention.dropout,
        "intermediate_size": block.feed_forward.hidden,
        "hidden_act": block.feed_forward.activation,
        "norm_type": next(name for name, norm in NORMS.items() if norm is block.norm.cls),
        "layer_norm_eps": block.norm.eps,
        "layer_scale_init_value": block.branch.value,
        "image_size": [size, size] if isinstance(size, int) else size,
        "patch_size": first.patch,
        "num_channels": first.channels,
        "use_mask_token": first.mask_token,
    }


def vision_keys(tower: Spec) -> list[AnyRule]:
    """The image tower."""
    block: list[AnyRule] = [
        *fused([f"attention.{part}_proj" for part in "qkv"], "attention.qkv"),
        *layer("attention.projection_layer", "attention.out"),
        same("attention.q_norm.weight", "attention.norm_query.weight"),
        same("attention.k_norm.weight", "attention.norm_key.weight"),
        same("lambda_1", "branch_attention.weight"),
        same("lambda_2", "branch_feed_forward.weight"),
        *layer("layernorm_before", "norm_attention"),
        *layer("layernorm_after", "norm_feed_forward"),
        *layer("mlp.fc1", "feed_forward.up"),
        *layer("mlp.fc2", "feed_forward.down"),
    ]
    return [
        *embedding_keys(tower),
        token("embeddings.mask_token", "embedding.mask_token"),
        *under("encoder.layer.{i}.", "trunk.blocks.{i}.", block),
    ]


#: The image tower as a part of others.
VISION = Part((EYE,), vision, vision_fields, vision_keys)
