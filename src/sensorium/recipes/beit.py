"""BEiT: an image tower that learns by naming hidden patches in the words of a vocabulary of patches.

Bao et al. 2021, "BEiT: BERT Pre-Training of Image Transformers", arXiv:2106.08254. The words of the public checkpoints
are those of a variational autoencoder (DALL-E's) that is not among the weights; what is trained here takes the words
of a fixed random projection instead (BEST-RQ, Chiu et al. 2022, arXiv:2202.01855).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ..core.errors import ConfigError, nearest
from ..core.spec import Spec
from ..modalities.public_images import image_config, image_settings
from ..nn.architectures.masked_codes import MaskedCodes
from ..nn.encoders.patch_masking import Blocks
from ..nn.encoders.patch_tower import PatchTower
from ..nn.encoders.pixels import Pixels
from ..nn.encoders.random_codes import RandomCodes
from ..nn.heads.pooling import FirstToken, MeanToken, Pool
from ..nn.layers.drop_path import LayerScale
from ..nn.layers.relative import RelativeTable
from ..objectives import MaskedTokens
from ..weights.card import Card
from ..weights.config import Config
from ..weights.family import Family, Folder
from ..weights.keymap import AnyRule, Drop, KeyMap, fuse, layer, prefixed, same, under
from ._classes import labels, lone, written
from ._masked import ALL_SPELLINGS, AROUND_ATTENTION, norm, pretraining, squares, token, trunk, trunk_fields
from ._shared import PREPROCESSOR, picture, picture_size
from ._vit import attention, embedding, embedding_keys
from ._words import opened_as

_PRETRAINING = {"use_mask_token": True, "use_shared_relative_position_bias": True}
_LARGE = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
#: The public config of each size, as far as it differs from that of base.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4,
             "image_size": 64, "patch_size": 8, "vocab_size": 512, "drop_path_rate": 0.0},
    "base": {},
    "large": {**_LARGE, "layer_scale_init_value": 1e-5},
}  # fmt: skip
PROCESSOR = "BeitImageProcessor"
KINDS = ("ForMaskedImageModeling", "Model", "ForImageClassification")
#: Of segmentation and of detectors' backbones.
_ELSEWHERE = (
    "pool_scales", "use_auxiliary_head", "auxiliary_loss_weight", "auxiliary_channels", "auxiliary_num_convs",
    "auxiliary_concat_input", "semantic_loss_ignore_index", "add_fpn", "reshape_hidden_states", "out_features",
    "out_indices", "_out_features", "_out_indices", "stage_names", "segmentation_indices",
)  # fmt: skip


def beit(size: str = "base") -> Spec:
    """The System with fresh weights, which learns from your pictures alone, in words of a random projection."""
    if size not in SIZES:
        raise ConfigError(f"beit has no size {size!r}{nearest(size, SIZES)}")
    config = Config(_PRETRAINING | SIZES[size], file=Path(f"beit:{size}"))
    tower = vision(config, headed=False)
    first = tower.embedding
    side = tower.relative.grid[0] * first.patch[0]
    image, pixels = image_settings({"size": {"height": side, "width": side}}, kind=PROCESSOR)
    system = _learning(config, tower.set("embedding.values", Spec(Pixels, **pixels)), image)
    patch_width = math.prod(first.patch) * first.channels
    return system.set(
        "model.targets", Spec(RandomCodes, patch_width=patch_width, entries=system.model.vocabulary)
    )


def vision(config: Config, *, headed: bool) -> Spec:
    """The tower of a public config; ``headed`` says that the mean of the patches has a norm."""
    width = config.take("hidden_size", int, 768, least=1)
    first = embedding(config, width, 16, how={})
    if not config.take("use_absolute_position_embeddings", bool, False):
        first = first.replace(positions=None)
    part = attention(config, width).replace(biases="qvo")
    if config.take("use_relative_position_bias", bool, False):
        part = part.replace(relative=_table(config, width))
    shared = config.take("use_shared_relative_position_bias", bool, False)
    scale = config.take("layer_scale_init_value", float, 0.1)
    pooled = config.take("use_mean_pooling", bool, True)
    last = norm(config, width)
    config.ignore("image_size", *_ELSEWHERE)
    return Spec(
        PatchTower,
        embedding=first.replace(mask_token=config.take("use_mask_token", bool, False)),
        trunk=trunk(
            config,
            part,
            branch=Spec(LayerScale, width=width, value=scale) if scale > 0 else None,
            drop_path=config.take("drop_path_rate", float, 0.1, least=0, most=1),
        ),
        norm_out=None if pooled else last,
        relative=_table(config, width) if shared else None,
        pool=Spec(Pool, width=width, select=Spec(MeanToken, skip=1), norm=last if headed else None)
        if pooled
        else Spec(Pool, width=width, select=Spec(FirstToken)),
    )


def _table(config: Config, width: int) -> Spec:
    """Of relative positions, with the class token."""
    positions = embedding(config, width, 16, how={}).positions
    squares(config, positions.grid)
    heads = config.take("num_attention_heads", int, 12, least=1)
    return Spec(RelativeTable, grid=positions.grid, heads=heads, leading=True)


def _learning(config: Config, tower: Spec, image: Spec) -> Spec:
    """The System of a tower with the head of a public config; nothing says what the words are."""
    network = Spec(
        MaskedCodes,
        name="image",
        tower=tower,
        norm=norm(config, tower.trunk.width),
        vocabulary=config.take("vocab_size", int, 8192, least=1),
        masking=Spec(Blocks),
    )
    return pretraining("beit", network, image, Spec(MaskedTokens, stream="image"), lr=1.5e-4)


def read(folder: Folder) -> Spec:
    """The System of a public checkpoint."""
    config, kind = folder.config, opened_as(folder, "Beit", KINDS)
    image, pixels = picture(folder, PROCESSOR)
    tower = vision(config, headed=kind != "ForMaskedImageModeling").set("embedding.values", pixels)
    if kind == "ForMaskedImageModeling":
        system = _learning(config, tower, image)
    else:
        config.ignore("vocab_size")
        system = lone("beit", tower, tower.trunk.width, image, names=labels(config))
    config.finish()
    return system


def write(spec: Spec) -> dict[str, dict[str, Any]]:
    """The files beside the tensors, as others read them."""
    network, image = spec.model, spec.modalities["image"]
    tower = network.tower
    first, block = tower.embedding, tower.trunk.block
    tables = [
        table for table in (first.positions, block.attention.relative, tower.relative) if table is not None
    ]
    config = {
        "model_type": "beit",
        **trunk_fields(tower.trunk),
        "patch_size": first.patch[0],
        "num_channels": first.channels,
        "use_mask_token": first.mask_token,
        "use_absolute_position_embeddings": first.positions is not None,
        "use_relative_position_bias": block.attention.relative is not None,
        "use_shared_relative_position_bias": tower.relative is not None,
        "layer_scale_init_value": block.branch.value if block.branch is not None else 0.0,
        "drop_path_rate": tower.trunk.drop_path,
        "use_mean_pooling": tower.norm_out is None,
    }
    if tables:
        config["image_size"] = picture_size(image, first.replace(positions=tables[0]))
    if network.cls is MaskedCodes:
        config |= {"architectures": ["BeitForMaskedImageModeling"], "vocab_size": network.vocabulary}
    else:
        config |= written(spec, "Beit")
    prepared = image_config(image, first.values, processor=PROCESSOR)
    return {"config.json": config, PREPROCESSOR: prepared}


_RELATIVE = "relative_position_bias.relative_position"
_COUNTED = "distances are counted"
BLOCK: list[AnyRule] = [
    fuse(
        [f"attention.attention.{part}.weight" for part in ("query", "key", "value")], "attention.qkv.weight"
    ),
    fuse([f"attention.attention.{part}.bias" for part in ("query", "value")], "attention.qkv.bias"),
    *AROUND_ATTENTION,
    same("lambda_1", "branch_attention.weight"),
    same("lambda_2", "branch_feed_forward.weight"),
    same(f"attention.attention.{_RELATIVE}_bias_table", "attention.relative.weight"),
    Drop(f"attention.attention.{_RELATIVE}_index", _COUNTED),
]
SPELLINGS = [
    *ALL_SPELLINGS,
    (r"(encoder\.layer\.\d+)\.relative_position_bias\.", r"\1.attention.attention.relative_position_bias."),
    (r"(^|\.)shared_position_bias\.", r"\1encoder.relative_position_bias."),
]


def keys(spec: Spec) -> KeyMap:
    """The tower, whose names have a prefix where there is a head, and the head."""
    network = spec.model
    rules: list[AnyRule] = [
        *embedding_keys(network.tower),
        token("embeddings.mask_token", "embedding.mask_token"),
        *under("encoder.layer.{i}.", "trunk.blocks.{i}.", BLOCK),
        same(f"encoder.{_RELATIVE}_bias_table", "relative.weight"),
        Drop(f"encoder.{_RELATIVE}_index", _COUNTED),
        *layer("layernorm", "norm_out"),
        *layer("pooler.layernorm", "pool.norm"),
    ]
    head = None
    if network.cls is MaskedCodes:
        head = [*layer("layernorm", "norm"), *layer("lm_head", "project")]
    elif network.head is not None:
        head = layer("classifier", "head.project")
    return prefixed("beit", "towers.image.", rules, head, SPELLINGS)


FAMILY = Family(
    name="beit",
    model_types=("beit",),
    read=read,
    write=write,
    keys=keys,
    card=Card(
        title="BEiT",
        paper="Bao et al. 2021, arXiv:2106.08254",
        licence="Apache 2.0",
        preparation="224 x 224 bicubic, whatever the shape was; the words of its patches are not public",
        examples=("microsoft/beit-base-patch16-224-pt22k", "microsoft/beit-base-patch16-224"),
    ),
)
