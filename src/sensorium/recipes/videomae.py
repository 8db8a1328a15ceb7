"""VideoMAE: a video tower that learns by restoring the nine tenths of a film that it does not see.

Tong et al. 2022, "VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video Pre-Training",
arXiv:2203.12602.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ..core.errors import ConfigError, nearest
from ..core.spec import Spec
from ..modalities.public_images import image_config, image_settings
from ..nn.architectures.masked_autoencoder import MaskedAutoencoder
from ..nn.encoders.patch_masking import Tubes
from ..nn.encoders.patch_targets import ChannelValues
from ..nn.encoders.patch_tower import PatchEmbedding, PatchTower
from ..nn.encoders.pixels import Pixels
from ..nn.heads.pooling import FirstToken, MeanToken, Pool
from ..nn.layers.attention import SelfAttention
from ..nn.layers.norms import LayerNorm
from ..nn.layers.positions import Waves
from ..objectives import MaskedPatches
from ..weights.card import Card
from ..weights.config import Config
from ..weights.family import Family, Folder
from ..weights.keymap import AnyRule, KeyMap, convolution, fuse, layer, prefixed, same, under
from ._classes import labels, lone, written
from ._masked import (
    ALL_SPELLINGS,
    AROUND_ATTENTION,
    decoder,
    decoder_fields,
    idle,
    norm,
    pretraining,
    token,
    trunk,
    trunk_fields,
)
from ._shared import PREPROCESSOR, picture
from ._vit import sides
from ._words import opened_as

_TINY = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4}
_DECODER = {"hidden_size": 192, "intermediate_size": 768, "num_attention_heads": 3}
_LARGE = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
#: The public config of each size, as far as it differs from that of base.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {**_TINY, "image_size": 32, "patch_size": 8, "num_frames": 8,
             **{f"decoder_{k}": v for k, v in _TINY.items()}, "decoder_num_hidden_layers": 2},
    "small": {"hidden_size": 384, "intermediate_size": 1536, "num_attention_heads": 6,
              **{f"decoder_{k}": v for k, v in _DECODER.items()}},
    "base": {},
    "large": {**_LARGE, "decoder_hidden_size": 512, "decoder_intermediate_size": 2048,
              "decoder_num_attention_heads": 8, "decoder_num_hidden_layers": 12},
}  # fmt: skip
PROCESSOR = "VideoMAEImageProcessor"
#: What the public checkpoints say of their frames, for files that do not.
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
PREPARATION: dict[str, Any] = {"image_mean": MEAN, "image_std": STD}
VIDEOS = "ForVideoClassification"
KINDS = ("ForPreTraining", "Model", VIDEOS)


def videomae(size: str = "base") -> Spec:
    """The System with fresh weights, which learns from your films alone."""
    if size not in SIZES:
        raise ConfigError(f"videomae has no size {size!r}{nearest(size, SIZES)}")
    config = Config(SIZES[size], file=Path(f"videomae:{size}"))
    side = sides(config, "image_size", 224)[0]
    video, pixels = image_settings(
        PREPARATION | {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}},
        kind=PROCESSOR,
    )
    tower = vision(config).set("embedding.values", Spec(Pixels, **pixels))
    system = _learning(config, tower, _framed(config, video))
    return system.replace(public={"image_size": side})


def _framed(config: Config, video: Spec) -> Spec:
    """As many frames as the config says."""
    return video.replace(frames=config.take("num_frames", int, 16, least=1))


def vision(config: Config, *, headed: bool = False) -> Spec:
    """The tower of a public config; ``headed`` says that the mean of the patches has a norm."""
    width = config.take("hidden_size", int, 768, least=1)
    side = config.take("patch_size", int, 16, least=1)
    patch = [config.take("tubelet_size", int, 2, least=1), side, side]
    frames = config.take("num_frames", int, 16, least=patch[0])
    whole = [frames, *sides(config, "image_size", 224)]
    config.ignore("image_size")  # places are counted
    biased = config.take("qkv_bias", bool, config.take("qv_bias", bool, True))
    pooled = config.take("use_mean_pooling", bool, True)
    attention = Spec(
        SelfAttention,
        width=width,
        heads=config.take("num_attention_heads", int, 12, least=1),
        biases="qvo" if biased else "o",
        dropout=config.take("attention_probs_dropout_prob", float, 0.0, least=0, most=1),
    )
    return Spec(
        PatchTower,
        embedding=Spec(
            PatchEmbedding,
            patch=patch,
            channels=config.take("num_channels", int, 3, least=1),
            width=width,
            positions=_waves(math.prod(size // p for size, p in zip(whole, patch, strict=True)), width),
            prefix=0,
        ),
        trunk=trunk(config, attention),
        norm_out=None if pooled else norm(config, width),
        pool=Spec(
            Pool,
            width=width,
            select=Spec(MeanToken if pooled else FirstToken),
            norm=Spec(LayerNorm, width=width) if pooled and headed else None,
        ),
    )


def _waves(length: int, width: int) -> Spec:
    return Spec(Waves, length=length, width=width, alternating=True)


def _learning(config: Config, tower: Spec, video: Spec) -> Spec:
    """The System of a tower with the decoder of a public config."""
    first = tower.embedding
    made = decoder(config, tower.trunk, (384, 4, 6, 1536))
    width = made.trunk.width
    known = first.channels == len(MEAN)
    network = Spec(
        MaskedAutoencoder,
        name="video",
        tower=tower,
        decoder=made.replace(
            positions=_waves(first.positions.length, width), norm=Spec(LayerNorm, width=width), bias=False
        ),
        masking=Spec(Tubes),
        target=Spec(
            ChannelValues,
            normalise=config.take("norm_pix_loss", bool, True),
            mean=MEAN if known else [0.0] * first.channels,
            std=STD if known else [1.0] * first.channels,
        ),
    )
    return pretraining("videomae", network, video, Spec(MaskedPatches), lr=1.5e-4)


def read(folder: Folder) -> Spec:
    """The System of a public checkpoint."""
    config, kind = folder.config, opened_as(folder, "VideoMAE", KINDS)
    video, pixels = picture(folder, PROCESSOR, PREPARATION)
    video = _framed(config, video)
    tower = vision(config, headed=kind == VIDEOS).set("embedding.values", pixels)
    if kind == "ForPreTraining":
        system = _learning(config, tower, video)
    else:
        idle(config)
        names = labels(config, VIDEOS)
        system = lone("videomae", tower, tower.trunk.width, video, names=names, modality="video")
    config.finish()
    return system


def write(spec: Spec) -> dict[str, dict[str, Any]]:
    """The files beside the tensors, as others read them."""
    network, video = spec.model, spec.modalities["video"]
    tower = network.tower
    first = tower.embedding
    config = {
        "model_type": "videomae",
        **trunk_fields(tower.trunk),
        "tubelet_size": first.patch[0],
        "patch_size": first.patch[1],
        "num_frames": video.frames,
        "num_channels": first.channels,
        "qkv_bias": "q" in tower.trunk.block.attention.biases,
        "use_mean_pooling": tower.norm_out is None,
    }
    if network.cls is MaskedAutoencoder:
        config |= {
            "architectures": ["VideoMAEForPreTraining"],
            **decoder_fields(network.decoder),
            "norm_pix_loss": network.target.normalise,
        }
    else:
        config |= written(spec, "VideoMAE", VIDEOS)
    return {"config.json": config, PREPROCESSOR: image_config(video, first.values)}


BLOCK: list[AnyRule] = [
    fuse(
        [f"attention.attention.{part}.weight" for part in ("query", "key", "value")], "attention.qkv.weight"
    ),
    fuse([f"attention.attention.{part}_bias" for part in "qv"], "attention.qkv.bias"),
    *AROUND_ATTENTION,
]
SPELLINGS = [
    *ALL_SPELLINGS,
    (r"\.attention\.attention\.query\.bias$", ".attention.attention.q_bias"),
    (r"\.attention\.attention\.value\.bias$", ".attention.attention.v_bias"),
]


def keys(spec: Spec) -> KeyMap:
    """The tower, whose names have a prefix where there is a decoder or head, and those."""
    network = spec.model
    cut = convolution(*network.tower.embedding.patch)
    tower: list[AnyRule] = [
        same("embeddings.patch_embeddings.projection.weight", "embedding.project.weight", cut),
        same("embeddings.patch_embeddings.projection.bias", "embedding.project.bias"),
        *under("encoder.layer.{i}.", "trunk.blocks.{i}.", BLOCK),
        *layer("layernorm", "norm_out"),
    ]
    head: list[AnyRule] | None = None
    if network.cls is MaskedAutoencoder:
        head = [
            same("encoder_to_decoder.weight", "decoder.embed.weight"),
            token("mask_token", "decoder.mask_token"),
            *under("decoder.decoder_layers.{i}.", "decoder.trunk.blocks.{i}.", BLOCK),
            *layer("decoder.norm", "decoder.norm"),
            *layer("decoder.head", "decoder.project"),
        ]
    elif network.head is not None:
        head = [*layer("fc_norm", "towers.video.pool.norm"), *layer("classifier", "head.project")]
    return prefixed("videomae", "towers.video.", tower, head, SPELLINGS)


FAMILY = Family(
    name="videomae",
    model_types=("videomae",),
    read=read,
    write=write,
    keys=keys,
    card=Card(
        title="VideoMAE",
        paper="Tong et al. 2022, arXiv:2203.12602",
        licence="CC BY-NC 4.0",
        preparation="16 frames, shortest side 224 bilinear, central 224 x 224",
        examples=("MCG-NJU/videomae-base", "MCG-NJU/videomae-base-finetuned-kinetics"),
    ),
)
