"""SigLIP: an image tower and a text tower whose every pair is judged by itself.

Zhai et al. 2023, "Sigmoid Loss for Language Image Pre-Training", arXiv:2303.15343. The checkpoints of SigLIP 2 for
pictures of one size (Tschannen et al. 2025, arXiv:2502.14786) have this architecture too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.errors import ConfigError, nearest
from ..core.spec import Spec
from ..modalities import Text
from ..modalities.public_images import image_settings
from ..nn.encoders.patch_tower import PatchEmbedding, PatchTower
from ..nn.encoders.pixels import Pixels
from ..nn.heads.pooling import MeanToken, Pool
from ..nn.layers.norms import LayerNorm
from ..nn.layers.tables import PositionTable
from ..weights.card import Card
from ..weights.config import Config
from ..weights.family import Family
from ..weights.keymap import AnyRule, convolution, same
from ._parts import Part
from ._shared import blocks, picture_size
from ._siglip import DEFAULTS, VISION_KEYS, Kin, pooling

_LARGE = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
_SHAPE = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16}
_TINY = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}
#: The public config of each size, as far as it differs from that of b16.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "text_config": {**_TINY, "vocab_size": 2048},
        "vision_config": {**_TINY, "image_size": 64, "patch_size": 8},
    },
    "b16": {},
    "b16-256": {"vision_config": {"image_size": 256}},
    "b16-384": {"vision_config": {"image_size": 384}},
    "b16-512": {"vision_config": {"image_size": 512}},
    "l16-256": {"text_config": _LARGE, "vision_config": {**_LARGE, "image_size": 256}},
    "l16-384": {"text_config": _LARGE, "vision_config": {**_LARGE, "image_size": 384}},
    "so400m14": {"text_config": _SHAPE, "vision_config": {**_SHAPE, "patch_size": 14}},
    "so400m14-384": {"text_config": _SHAPE, "vision_config": {**_SHAPE, "patch_size": 14, "image_size": 384}},
}
PROCESSOR = "SiglipImageProcessor"


def siglip(size: str = "b16") -> Spec:
    """The System with fresh weights; its vocabulary is learnt from your texts.

    There is no public layout for it: others fill texts up to 64 tokens of a vocabulary that is not yours.
    """
    if size not in SIZES:
        raise ConfigError(f"siglip has no size {size!r}{nearest(size, SIZES)}")
    config = Config(SIZES[size], file=Path(f"siglip:{size}"))
    network = KIN.towers(config)
    reading = network.towers["text"].embedding
    image, _ = image_settings(_size(config.section("vision_config")), kind=PROCESSOR)
    text = Spec(Text, vocabulary=reading.vocabulary, max_tokens=reading.length)
    return KIN.system(network, {"image": image, "text": text}).replace(family=None)


def vision(config: Config) -> Spec:
    """The image tower of a public ``vision_config``."""
    tower = headless(config)
    return tower.replace(pool=pooling(config, tower.trunk))


def headless(config: Config, *, width: int = 768, patch: int = 16, heads: int = 12) -> Spec:
    """The image tower with the mean of a picture's patches as its vector. The other arguments are what a config may
    leave out.
    """
    width = config.take("hidden_size", int, width, least=1)
    side, patch = _side(config), config.take("patch_size", int, patch, least=1)
    eps, trunk = blocks(config, width, **DEFAULTS | {"heads": heads})
    return Spec(
        PatchTower,
        embedding=Spec(
            PatchEmbedding,
            patch=[patch, patch],
            channels=config.take("num_channels", int, 3, least=1),
            width=width,
            positions=Spec(PositionTable, grid=[side // patch] * 2, width=width),
            values=Spec(Pixels, mean=[0.5] * 3, std=[0.5] * 3),
            prefix=0,
        ),
        trunk=trunk,
        norm_out=Spec(LayerNorm, width=width, eps=eps),
        pool=Spec(Pool, width=width, select=Spec(MeanToken)),
    )


def _side(config: Config) -> int:
    return config.take("image_size", int, 224, least=1)


def _size(config: Config) -> dict[str, Any]:
    return {"size": {"height": _side(config), "width": _side(config)}}


def vision_keys(tower: Spec) -> list[AnyRule]:
    """The image tower."""
    return [*_embedding_keys(tower), *VISION_KEYS]


def _fields(tower: Spec, image: Spec | None) -> dict[str, Any]:
    return {
        "image_size": picture_size(image, tower.embedding),
        "patch_size": tower.embedding.patch[0],
        "num_channels": tower.embedding.channels,
    }


def _embedding_keys(tower: Spec) -> list[AnyRule]:
    return [
        same(
            "embeddings.patch_embedding.weight",
            "embedding.project.weight",
            convolution(*tower.embedding.patch),
        ),
        same("embeddings.patch_embedding.bias", "embedding.project.bias"),
        same("embeddings.position_embedding.weight", "embedding.positions.weight"),
    ]


KIN = Kin("siglip", "Siglip", PROCESSOR, vision, _fields, _embedding_keys, _size)
#: The image tower as a part of others.
VISION = Part(("siglip_vision_model",), vision, KIN.vision_config, vision_keys)
FAMILY = Family(
    name="siglip",
    model_types=("siglip", "siglip_vision_model", "siglip_text_model"),
    read=KIN.read,
    write=KIN.write,
    keys=KIN.keys,
    card=Card(
        title="SigLIP",
        paper="Zhai et al. 2023, arXiv:2303.15343",
        licence="Apache 2.0",
        preparation="224 x 224 bicubic, whatever the shape was; SentencePiece tokens in lower case, filled up to 64",
        examples=("google/siglip-base-patch16-224", "google/siglip2-base-patch16-224"),
    ),
)
