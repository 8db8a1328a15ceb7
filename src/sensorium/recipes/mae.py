"""MAE: an image tower that learns by restoring the three quarters of a picture that it does not see.

He et al. 2021, "Masked Autoencoders Are Scalable Vision Learners", arXiv:2111.06377.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.errors import ConfigError, nearest
from ..core.spec import Spec
from ..modalities.public_images import image_config, image_settings
from ..nn.architectures.masked_autoencoder import MaskedAutoencoder
from ..nn.encoders.patch_masking import RandomPatches
from ..nn.encoders.patch_targets import Values
from ..nn.encoders.patch_tower import PatchTower
from ..nn.encoders.pixels import Pixels
from ..nn.heads.pooling import FirstToken, Pool
from ..nn.layers.sin_cos_table import SinCosTable
from ..objectives import MaskedPatches
from ..weights.card import Card
from ..weights.config import Config
from ..weights.family import Family, Folder
from ..weights.keymap import AnyRule, KeyMap, fused, layer, prefixed, same, shaped, under
from ._classes import lone
from ._masked import (
    ALL_SPELLINGS,
    AROUND_ATTENTION,
    decoder,
    decoder_fields,
    idle,
    norm,
    pretraining,
    squares,
    token,
    trunk,
    trunk_fields,
)
from ._shared import PREPROCESSOR, picture
from ._vit import attention, embedding, embedding_keys, fields
from ._words import opened_as

_TINY = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4}
_LARGE = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
_HUGE = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 16}
#: The public config of each size, as far as it differs from that of base.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {**_TINY, "image_size": 64, "patch_size": 8, **{f"decoder_{k}": v for k, v in _TINY.items()},
             "decoder_num_hidden_layers": 2},
    "base": {},
    "large": _LARGE,
    "huge": {**_HUGE, "patch_size": 14},
}  # fmt: skip
PROCESSOR = "ViTImageProcessor"
#: What the public checkpoints say of their pictures, for files that do not.
PREPARATION: dict[str, Any] = {
    "size": {"height": 224, "width": 224},
    "resample": 3,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}
KINDS = ("ForPreTraining", "Model")
_COLUMNS_FIRST = [1, 0]


def mae(size: str = "base") -> Spec:
    """The System with fresh weights, which learns from your pictures alone."""
    if size not in SIZES:
        raise ConfigError(f"mae has no size {size!r}{nearest(size, SIZES)}")
    config = Config(SIZES[size], file=Path(f"mae:{size}"))
    tower = vision(config)
    side = tower.embedding.positions.grid[0] * tower.embedding.patch[0]
    image, pixels = image_settings(PREPARATION | {"size": {"height": side, "width": side}}, kind=PROCESSOR)
    return _learning(config, tower.set("embedding.values", Spec(Pixels, **pixels)), image)


def vision(config: Config) -> Spec:
    """The tower of a public config."""
    width = config.take("hidden_size", int, 768, least=1)
    first = embedding(config, width, 16, how={})
    grid = first.positions.grid
    squares(config, grid)
    positions = Spec(SinCosTable, grid=grid, width=width, prefix=1, order=_COLUMNS_FIRST)
    return Spec(
        PatchTower,
        embedding=first.replace(positions=positions),
        trunk=trunk(config, attention(config, width)),
        norm_out=norm(config, width),
        pool=Spec(Pool, width=width, select=Spec(FirstToken)),
    )


def _learning(config: Config, tower: Spec, image: Spec) -> Spec:
    """The System of a tower with the decoder of a public config."""
    made = decoder(config, tower.trunk, (512, 8, 16, 2048))
    width = made.trunk.width
    grid = tower.embedding.positions.grid
    positions = Spec(SinCosTable, grid=grid, width=width, prefix=1, order=_COLUMNS_FIRST, in_line=True)
    network = Spec(
        MaskedAutoencoder,
        name="image",
        tower=tower,
        decoder=made.replace(positions=positions, norm=norm(config, width)),
        masking=Spec(RandomPatches, ratio=config.take("mask_ratio", float, 0.75, least=0)),
        target=Spec(Values, normalise=config.take("norm_pix_loss", bool, False)),
    )
    return pretraining("mae", network, image, Spec(MaskedPatches), lr=1.5e-4)


def read(folder: Folder) -> Spec:
    """The System of a public checkpoint."""
    config, kind = folder.config, opened_as(folder, "ViTMAE", KINDS)
    image, pixels = picture(folder, PROCESSOR, PREPARATION)
    tower = vision(config).set("embedding.values", pixels)
    if kind == "ForPreTraining":
        system = _learning(config, tower, image)
    else:
        idle(config)
        system = lone("mae", tower, tower.trunk.width, image)
    config.finish()
    return system


def write(spec: Spec) -> dict[str, dict[str, Any]]:
    """The files beside the tensors, as others read them."""
    network, image = spec.model, spec.modalities["image"]
    tower = network.tower
    config = {
        "architectures": ["ViTMAEModel"],
        "model_type": "vit_mae",
        **fields(tower, image),
        **trunk_fields(tower.trunk),
    }
    if network.cls is MaskedAutoencoder:
        config |= {
            "architectures": ["ViTMAEForPreTraining"],
            **decoder_fields(network.decoder),
            "mask_ratio": network.masking.ratio,
            "norm_pix_loss": network.target.normalise,
        }
    prepared = image_config(image, tower.embedding.values, processor=PROCESSOR)
    return {"config.json": config, PREPROCESSOR: prepared}


def keys(spec: Spec) -> KeyMap:
    """The tower, whose names have a prefix where there is a decoder, and the decoder."""
    network = spec.model
    block = [
        *fused([f"attention.attention.{part}" for part in ("query", "key", "value")], "attention.qkv"),
        *AROUND_ATTENTION,
    ]
    tower: list[AnyRule] = [
        *embedding_keys(network.tower),
        *under("encoder.layer.{i}.", "trunk.blocks.{i}.", block),
        *layer("layernorm", "norm_out"),
    ]
    if network.cls is not MaskedAutoencoder:
        return prefixed("vit", "towers.image.", tower, None, ALL_SPELLINGS)
    width = network.decoder.trunk.width
    restoring: list[AnyRule] = [
        *layer("decoder_embed", "embed"),
        token("mask_token", "mask_token"),
        same("decoder_pos_embed", "positions.weight", shaped([1, -1, width], [-1, width])),
        *under("decoder_layers.{i}.", "trunk.blocks.{i}.", block),
        *layer("decoder_norm", "norm"),
        *layer("decoder_pred", "project"),
    ]
    decoder = under("decoder.", "decoder.", restoring)
    return prefixed("vit", "towers.image.", tower, decoder, ALL_SPELLINGS)


FAMILY = Family(
    name="mae",
    model_types=("vit_mae",),
    read=read,
    write=write,
    keys=keys,
    card=Card(
        title="MAE",
        paper="He et al. 2021, arXiv:2111.06377",
        licence="Apache 2.0",
        preparation="224 x 224 bicubic, whatever the shape was",
        examples=("facebook/vit-mae-base", "facebook/vit-mae-large"),
    ),
)
