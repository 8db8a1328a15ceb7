"""ViT: a picture as a sequence of patches through a transformer, with a head of classes if the checkpoint has one.

Dosovitskiy et al. 2020, "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale",
arXiv:2010.11929. Checkpoints of DINO (Caron et al. 2021, arXiv:2104.14294) have this architecture too. Of those that
restored masked patches (SimMIM), the tower is read; the mask token and the decoder are left behind.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.errors import ConfigError, nearest
from ..core.spec import Spec
from ..modalities.public_images import image_config, image_settings
from ..nn.encoders.patch_tower import PatchTower
from ..nn.encoders.pixels import Pixels
from ..nn.heads.pooling import FirstToken, Pool
from ..nn.layers.blocks import PreNorm
from ..nn.layers.drop_path import Dropout
from ..nn.layers.feed_forward import MLP
from ..nn.layers.norms import LayerNorm
from ..nn.layers.transformer import Transformer
from ..weights.card import Card
from ..weights.config import Config
from ..weights.family import Family, Folder
from ..weights.keymap import AnyRule, Drop, KeyMap, layer, prefixed, under
from ..weights.tensors import open_tensors
from ._classes import labels, lone, written
from ._shared import PREPROCESSOR, picture
from ._vit import SPELLINGS, attention, attention_keys, embedding, embedding_keys, fields, sides

_LARGE = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
_HUGE = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 16}
#: The public config of each size, as far as it differs from that of b16.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
             "image_size": 64, "patch_size": 8},
    "s16": {"hidden_size": 384, "intermediate_size": 1536, "num_attention_heads": 6},
    "b16": {},
    "b16-384": {"image_size": 384},
    "b32": {"patch_size": 32},
    "b32-384": {"patch_size": 32, "image_size": 384},
    "l16": _LARGE,
    "l16-384": {**_LARGE, "image_size": 384},
    "l32-384": {**_LARGE, "patch_size": 32, "image_size": 384},
    "h14": {**_HUGE, "patch_size": 14},
}  # fmt: skip
PROCESSOR = "ViTImageProcessor"
_POOLER, _MASK = "pooler.dense.weight", "serves the restoration of masked patches alone"


def vit(size: str = "b16") -> Spec:
    """The System with fresh weights: a tower to pair with another (``sensorium train dual``)."""
    if size not in SIZES:
        raise ConfigError(f"vit has no size {size!r}{nearest(size, SIZES)}")
    config = Config(SIZES[size], file=Path(f"vit:{size}"))
    image, pixels = image_settings(_size(config), kind=PROCESSOR)
    tower = vision(config).set("embedding.values", Spec(Pixels, **pixels))
    return lone("vit", tower, tower.trunk.width, image)


def vision(config: Config, pool: Spec | None = None) -> Spec:
    """The tower of a public config; pictures are pooled by their class token unless otherwise said."""
    width = config.take("hidden_size", int, 768, least=1)
    norm = Spec(LayerNorm, width=width, eps=config.take("layer_norm_eps", float, 1e-12, least=0))
    first = embedding(config, width, 16, how={})
    block = Spec(
        PreNorm,
        norm=norm,
        attention=attention(config, width),
        feed_forward=Spec(
            MLP,
            width=width,
            hidden=config.take("intermediate_size", int, 3072, least=1),
            activation=config.take("hidden_act", str, "gelu"),
        ),
        branch=Spec(Dropout, rate=first.dropout) if first.dropout else None,
    )
    config.ignore("initializer_range", "encoder_stride", "pooler_act", "pooler_output_size")
    return Spec(
        PatchTower,
        embedding=first,
        trunk=Spec(
            Transformer, width=width, depth=config.take("num_hidden_layers", int, 12, least=1), block=block
        ),
        norm_out=norm,
        pool=Spec(Pool, width=width, select=Spec(FirstToken)) if pool is None else pool,
    )


def _size(config: Config) -> dict[str, Any]:
    height, width = sides(config, "image_size", 224)
    return {"size": {"height": height, "width": width}}


def read(folder: Folder) -> Spec:
    """The System of a public checkpoint."""
    config = folder.config
    image, pixels = picture(folder, PROCESSOR, _size(config))
    names = labels(config)
    pool = _pooler(config) if names is None and _has_pooler(folder) else None
    tower = vision(config, pool).set("embedding.values", pixels)
    config.finish()
    return lone("vit", tower, tower.pool.width, image, names=names)


def _has_pooler(folder: Folder) -> bool:
    """Only the weights tell: the config says nothing of it."""
    return any(name.endswith(_POOLER) for name in open_tensors(folder.path))


def _pooler(config: Config) -> Spec:
    width = config.take("hidden_size", int, 768, least=1)
    return Spec(
        Pool,
        width=config.take("pooler_output_size", int | None, None, least=1) or width,
        inner=width,
        select=Spec(FirstToken),
        dense=True,
        activation=config.take("pooler_act", str, "tanh"),
    )


def write(spec: Spec) -> dict[str, dict[str, Any]]:
    """The files beside the tensors, as others read them."""
    image, tower = spec.modalities["image"], spec.model.tower
    pooler = {"pooler_output_size": tower.pool.width, "pooler_act": tower.pool.activation}
    config = {
        **written(spec, "ViT"),
        "model_type": "vit",
        **fields(tower, image),
        "intermediate_size": tower.trunk.block.feed_forward.hidden,
        "hidden_act": tower.trunk.block.feed_forward.activation,
        **(pooler if tower.pool.dense else {}),
    }
    prepared = image_config(image, tower.embedding.values, processor=PROCESSOR)
    return {"config.json": config, PREPROCESSOR: prepared}


def keys(spec: Spec) -> KeyMap:
    """The tower, whose names have a prefix where there is a head, and the head."""
    spellings = [*SPELLINGS, (r"\.mlp\.fc1\.", ".intermediate.dense."), (r"\.mlp\.fc2\.", ".output.dense.")]
    tower = [*embedding_keys(spec.model.tower), Drop("embeddings.mask_token", _MASK), *KEYS]
    head = None if spec.model.head is None else layer("classifier", "head.project")
    if head is None:
        tower += [Drop(f"decoder.0.{part}", _MASK) for part in ("weight", "bias")]
    return prefixed("vit", "towers.image.", tower, head, spellings)


BLOCK: list[AnyRule] = [
    *attention_keys(),
    *layer("layernorm_before", "norm_attention"),
    *layer("layernorm_after", "norm_feed_forward"),
    *layer("intermediate.dense", "feed_forward.up"),
    *layer("output.dense", "feed_forward.down"),
]
KEYS: list[AnyRule] = [
    *under("encoder.layer.{i}.", "trunk.blocks.{i}.", BLOCK),
    *layer("layernorm", "norm_out"),
    *layer("pooler.dense", "pool.dense.0"),
]

FAMILY = Family(
    name="vit",
    model_types=("vit",),
    read=read,
    write=write,
    keys=keys,
    card=Card(
        title="ViT",
        paper="Dosovitskiy et al. 2020, arXiv:2010.11929",
        licence="Apache 2.0",
        preparation="224 x 224 bilinear, whatever the shape was",
        examples=(
            "google/vit-base-patch16-224",
            "google/vit-large-patch16-224-in21k",
            "facebook/dino-vitb16",
        ),
    ),
)
