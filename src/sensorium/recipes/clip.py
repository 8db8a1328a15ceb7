"""CLIP: an image tower and a text tower that meet in a dot product.

Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision", arXiv:2103.00020.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..core.errors import ConfigError, nearest
from ..core.spec import Spec
from ..core.system import System
from ..modalities import PretrainedText, Text
from ..modalities.public_images import image_config, image_settings
from ..nn.architectures.towers import Towers
from ..nn.encoders.patch_tower import PatchEmbedding, PatchTower
from ..nn.encoders.pixels import Pixels
from ..nn.encoders.token_tower import TokenEmbedding, TokenTower
from ..nn.heads.pooling import FirstToken, LastToken, Pool
from ..nn.heads.projection import LinearProjection
from ..nn.heads.similarity import Similarity
from ..nn.layers.norms import LayerNorm
from ..nn.layers.tables import PositionTable
from ..objectives import Contrastive
from ..training.optimizer import AdamW
from ..training.settings import Loading
from ..training.trainer import Training
from ..weights.card import Card
from ..weights.config import Config
from ..weights.family import Family, Folder
from ..weights.keymap import AnyRule, Drop, KeyMap, convolution, layer, same, shaped, under
from . import _open_clip
from ._parts import Part
from ._shared import PREPROCESSOR, block_fields, block_keys, blocks, picture

#: The public config of each size, as far as it differs from that of b32.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "projection_dim": 64,
        "text_config": {"vocab_size": 2048, "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2,
                        "num_attention_heads": 4, "max_position_embeddings": 64},
        "vision_config": {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2,
                          "num_attention_heads": 4, "image_size": 64, "patch_size": 8},
    },
    "b32": {},
    "b16": {"vision_config": {"patch_size": 16}},
    "l14": {
        "projection_dim": 768,
        "text_config": {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12},
        "vision_config": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
                          "num_attention_heads": 16, "patch_size": 14},
    },
}  # fmt: skip
PROCESSOR = "CLIPImageProcessor"
#: What a config may leave out.
DEFAULTS: dict[str, Any] = {"depth": 12, "activation": "quick_gelu", "eps": 1e-5}
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


def clip(size: str = "b32") -> Spec:
    """The System with fresh weights; its vocabulary is learnt from your texts.

    There is no public layout for it: others look for the end of a text by a token that is not in that vocabulary.
    """
    if size not in SIZES:
        raise ConfigError(f"clip has no size {size!r}{nearest(size, SIZES)}")
    config = Config(SIZES[size], file=Path(f"clip:{size}"))
    network = towers(config)
    sight, reading = network.towers["image"].embedding, network.towers["text"].embedding
    side = sight.positions.grid[0] * sight.patch[0]
    image, _ = image_settings({"size": {"shortest_edge": side}, "crop_size": side}, kind=PROCESSOR)
    text = Spec(Text, vocabulary=reading.vocabulary, max_tokens=reading.length)
    return system(network, {"image": image, "text": text}).replace(family=None)


def system(network: Spec, modalities: Mapping[str, Spec]) -> Spec:
    """A dual encoder with the objective and the training that CLIP was published with."""
    return Spec(
        System,
        modalities=dict(modalities),
        model=network,
        objectives={},
        contrastive=Spec(Contrastive),
        training=Spec(
            Training,
            loading=Spec(Loading, batch=256, withhold=0.0, corrupt=0.0),
            optimizer=Spec(AdamW, lr=5e-4, weight_decay=0.2),
        ),
        family="clip",
    )


def towers(config: Config) -> Spec:
    """Both towers of a public config."""
    embedding = config.take("projection_dim", int, 512, least=1)
    config.ignore("logit_scale_init_value", "initializer_factor")
    seen = vision(config.section("vision_config", "vision_config_dict"))
    read = text(config.section("text_config", "text_config_dict"))
    config.finish()
    return Spec(
        Towers,
        towers={"image": seen, "text": read},
        projections={
            "image": Spec(LinearProjection, width=seen.trunk.width, embedding=embedding),
            "text": Spec(LinearProjection, width=read.trunk.width, embedding=embedding),
        },
        similarity=Spec(Similarity),
        language="text",
    )


def vision(config: Config, mean: list[float] = MEAN, std: list[float] = STD) -> Spec:
    """The image tower of a public ``vision_config``."""
    width = config.take("hidden_size", int, 768, least=1)
    side, patch = config.take("image_size", int, 224, least=1), config.take("patch_size", int, 32, least=1)
    channels = config.take("num_channels", int, 3, least=1)
    eps, trunk = blocks(config, width, hidden=3072, heads=12, **DEFAULTS)
    config.ignore("projection_dim", "initializer_range", "initializer_factor", "dropout")
    return Spec(
        PatchTower,
        embedding=Spec(
            PatchEmbedding,
            patch=[patch, patch],
            channels=channels,
            width=width,
            positions=Spec(PositionTable, grid=[side // patch] * 2, width=width, prefix=1),
            values=Spec(Pixels, mean=mean, std=std),
            bias=False,
        ),
        norm_in=Spec(LayerNorm, width=width, eps=eps),
        trunk=trunk,
        pool=Spec(Pool, width=width, select=Spec(FirstToken), norm=Spec(LayerNorm, width=width, eps=eps)),
    )


def text(config: Config) -> Spec:
    """The text tower of a public ``text_config``."""
    width = config.take("hidden_size", int, 512, least=1)
    vocabulary = config.take("vocab_size", int, 49408, least=1)
    length = config.take("max_position_embeddings", int, 77, least=1)
    eps, trunk = blocks(config, width, hidden=2048, heads=8, **DEFAULTS)
    config.ignore("projection_dim", "initializer_range", "initializer_factor", "dropout")
    config.ignore("pad_token_id", "bos_token_id", "eos_token_id")  # a text ends where its tokens end
    return Spec(
        TokenTower,
        embedding=Spec(TokenEmbedding, vocabulary=vocabulary, width=width, length=length),
        trunk=trunk,
        norm_out=Spec(LayerNorm, width=width, eps=eps),
        pool=Spec(Pool, width=width, select=Spec(LastToken)),
        causal=True,
    )


def read(folder: Folder) -> Spec:
    """The System of a public checkpoint."""
    image, pixels = picture(folder, PROCESSOR)
    network = towers(folder.config).set("towers.image.embedding.values", pixels)
    return system(network, {"image": image, "text": words(network)})


def words(network: Spec) -> Spec:
    """How texts are prepared: as the tokenizer beside the weights says, up to the length of the context."""
    return Spec(PretrainedText, max_tokens=network.towers["text"].embedding.length)


def write(spec: Spec) -> dict[str, dict[str, Any]]:
    """The files beside the tensors, as others read them."""
    network = spec.model
    seen, words = network.towers["image"], network.towers["text"]
    config = {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": network.projections["image"].embedding,
        "text_config": block_fields(words.trunk)
        | {
            "model_type": "clip_text_model",
            "vocab_size": words.embedding.vocabulary,
            "max_position_embeddings": words.embedding.length,
        },
        "vision_config": vision_fields(seen),
    }
    prepared = image_config(spec.modalities["image"], seen.embedding.values, PROCESSOR)
    return {"config.json": config, PREPROCESSOR: prepared}


def vision_fields(tower: Spec) -> dict[str, Any]:
    """The ``vision_config`` from which ``vision`` makes this tower."""
    grid, patch = tower.embedding.positions.grid, tower.embedding.patch
    return block_fields(tower.trunk) | {
        "model_type": "clip_vision_model",
        "image_size": grid[0] * patch[0],
        "patch_size": patch[0],
        "num_channels": tower.embedding.channels,
    }


def keys(spec: Spec) -> KeyMap:
    """Both towers; older files hold the counted positions too."""
    seen = spec.model.towers["image"]
    return KeyMap(
        [
            *under("vision_model.", "towers.image.", vision_keys(seen)),
            *under("text_model.", "towers.text.", TEXT_KEYS),
            same("visual_projection.weight", "projections.image.project.weight"),
            same("text_projection.weight", "projections.text.project.weight"),
            same("logit_scale", "similarity.log_scale"),
        ]
    )


def vision_keys(tower: Spec) -> list[AnyRule]:
    """The image tower."""
    return [
        same("embeddings.class_embedding", "embedding.prefix", shaped([-1], [1, -1])),
        same(
            "embeddings.patch_embedding.weight",
            "embedding.project.weight",
            convolution(*tower.embedding.patch),
        ),
        same("embeddings.position_embedding.weight", "embedding.positions.weight"),
        Drop("embeddings.position_ids", "places are counted"),
        *layer("pre_layrnorm", "norm_in"),
        *under("encoder.layers.{i}.", "trunk.blocks.{i}.", block_keys()),
        *layer("post_layernorm", "pool.norm"),
    ]


TEXT_KEYS: list[AnyRule] = [
    same("embeddings.token_embedding.weight", "embedding.token.weight"),
    same("embeddings.position_embedding.weight", "embedding.position.weight"),
    Drop("embeddings.position_ids", "places are counted"),
    *under("encoder.layers.{i}.", "trunk.blocks.{i}.", block_keys()),
    *layer("final_layer_norm", "norm_out"),
]


def read_open_clip(folder: Folder) -> Spec:
    """The System of a checkpoint of open_clip."""
    whole = folder.read(_open_clip.CONFIG)
    public, prepared = _open_clip.as_public(whole.section("model_cfg")), whole.section("preprocess_cfg")
    mean = prepared.take("mean", list[float], MEAN)
    std = prepared.take("std", list[float], STD)
    prepared.expect("resize_mode", "shortest")
    prepared.ignore("size", "mode", "fill_color")
    side = public["vision_config"]["image_size"]
    settings = {"size": {"shortest_edge": side}, "crop_size": side, "image_mean": mean, "image_std": std}
    resample = prepared.take("interpolation", str, "bicubic", among=("bicubic", "bilinear"))
    image, pixels = image_settings(
        settings | {"resample": {"bilinear": 2, "bicubic": 3}[resample]}, kind=PROCESSOR
    )
    whole.finish()
    network = towers(Config(public, file=folder.path / _open_clip.CONFIG))
    network = network.set("towers.image.embedding.values", Spec(Pixels, **pixels))
    return system(network, {"image": image, "text": words(network)})


def write_open_clip(spec: Spec) -> dict[str, dict[str, Any]]:
    """The file beside the tensors, as open_clip reads it."""
    pixels = spec.model.towers["image"].embedding.values
    return {_open_clip.CONFIG: _open_clip.written(spec.model, pixels.mean, pixels.std)}


#: The image tower as a part of others.
VISION = Part(("clip_vision_model",), vision, vision_fields, vision_keys)
FAMILY = Family(
    name="clip",
    model_types=("clip",),
    read=read,
    write=write,
    keys=keys,
    card=Card(
        title="CLIP",
        paper="Radford et al. 2021, arXiv:2103.00020",
        licence="MIT",
        preparation="shortest side 224 bicubic, central 224 x 224; byte-pair tokens in lower case, 77 at most",
        examples=("openai/clip-vit-base-patch32", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"),
    ),
)
OPEN_CLIP = replace(
    FAMILY,
    layout="open_clip",
    model_types=(),
    read=read_open_clip,
    write=write_open_clip,
    keys=_open_clip.keys,
    config_file=_open_clip.CONFIG,
    weights_files=("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
    claims=_open_clip.claims,
)
