"""SigLIP 2 for pictures in their own shape (NaFlex): each is as many patches as it needs.

Tschannen et al. 2025, "SigLIP 2: Multilingual Vision-Language Encoders with Improved Semantic Understanding,
Localization, and Dense Features", arXiv:2502.14786. Its checkpoints for pictures of one size are read by ``siglip``.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ..core.errors import ConfigError, nearest
from ..core.spec import Spec
from ..modalities import Text
from ..modalities.public_images import image_settings
from ..nn.encoders.native_tower import NativeEmbedding, NativeTower
from ..nn.encoders.pixels import Pixels
from ..nn.layers.norms import LayerNorm
from ..nn.layers.tables import PositionTable
from ..weights.card import Card
from ..weights.config import Config
from ..weights.family import Family, Folder
from ..weights.keymap import AnyRule, layer, same
from ._shared import PREPROCESSOR, blocks
from ._siglip import DEFAULTS, Kin, pooling

_SHAPE = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16}
_TINY = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}
#: The public config of each size, as far as it differs from the defaults of transformers.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "text_config": {**_TINY, "vocab_size": 2048},
        "vision_config": {**_TINY, "patch_size": 8, "num_patches": 64},
    },
    "b16": {"text_config": {"vocab_size": 256000}},
    "so400m16": {"text_config": {**_SHAPE, "vocab_size": 256000}, "vision_config": _SHAPE},
}
PROCESSOR = "Siglip2ImageProcessor"


def siglip2(size: str = "b16") -> Spec:
    """The System with fresh weights; its vocabulary is learnt from your texts.

    There is no public layout for it: others fill texts up to 64 tokens of a vocabulary that is not yours.
    """
    if size not in SIZES:
        raise ConfigError(f"siglip2 has no size {size!r}{nearest(size, SIZES)}")
    config = Config(SIZES[size], file=Path(f"siglip2:{size}"))
    network = KIN.towers(config)
    reading = network.towers["text"].embedding
    image, _ = image_settings(_size(config.section("vision_config")), kind=PROCESSOR)
    text = Spec(Text, vocabulary=reading.vocabulary, max_tokens=reading.length)
    return KIN.system(network, {"image": image, "text": text}).replace(family=None)


def vision(config: Config) -> Spec:
    """The image tower of a public ``vision_config``."""
    width = config.take("hidden_size", int, 768, least=1)
    config.expect("num_channels", 3)
    eps, trunk = blocks(config, width, **DEFAULTS)
    side = math.isqrt(_places(config))
    return Spec(
        NativeTower,
        embedding=Spec(
            NativeEmbedding,
            patch=config.take("patch_size", int, 16, least=1),
            channels=3,
            width=width,
            positions=Spec(
                PositionTable, grid=[side, side], width=width, mode="bilinear", antialias=True, single=True
            ),
            values=Spec(Pixels, mean=[0.5] * 3, std=[0.5] * 3),
        ),
        trunk=trunk,
        norm_out=Spec(LayerNorm, width=width, eps=eps),
        pool=pooling(config, trunk),
    )


def _places(config: Config) -> int:
    """How many there are in the table of positions."""
    found = config.take("num_patches", int, 256, least=1)
    if math.isqrt(found) ** 2 != found:
        raise config.error("num_patches", f"expected a square number, found {found}")
    return found


def _size(config: Config) -> dict[str, Any]:
    return {"patch_size": config.take("patch_size", int, 16, least=1), "max_num_patches": _places(config)}


def _fields(tower: Spec, image: Spec | None) -> dict[str, Any]:
    embedding = tower.embedding
    return {
        "patch_size": embedding.patch,
        "num_patches": math.prod(embedding.positions.grid),
        "num_channels": embedding.channels,
    }


def _embedding_keys(tower: Spec) -> list[AnyRule]:
    return [
        *layer("embeddings.patch_embedding", "embedding.project"),
        same("embeddings.position_embedding.weight", "embedding.positions.weight"),
    ]


def read(folder: Folder) -> Spec:
    """The System of a public checkpoint."""
    spec = KIN.read(folder)
    if (image := spec.modalities.get("image")) is not None:
        tower = spec.model.arguments.get("tower") or spec.model.towers["image"]
        cut, expected = image.geometry[0].patch, tower.embedding.patch
        if cut != expected:
            raise ConfigError(
                f"{folder.path / PREPROCESSOR}: patch_size: expected that of the model, {expected}, found {cut}"
            )
    return spec


KIN = Kin("siglip2", "Siglip2", PROCESSOR, vision, _fields, _embedding_keys, _size)
FAMILY = Family(
    name="siglip2",
    model_types=("siglip2", "siglip2_vision_model", "siglip2_text_model"),
    read=read,
    write=KIN.write,
    keys=KIN.keys,
    card=Card(
        title="SigLIP 2 (NaFlex)",
        paper="Tschannen et al. 2025, arXiv:2502.14786",
        licence="Apache 2.0",
        preparation="at most 256 patches of 16 x 16 in the picture's own shape, bilinear; Gemma's tokens in lower "
        "case, filled up to 64",
        examples=("google/siglip2-base-patch16-naflex", "google/siglip2-so400m-patch16-naflex"),
    ),
)
