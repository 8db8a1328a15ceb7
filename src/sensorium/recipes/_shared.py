"""What several pages of this folder share: how pictures are prepared, and one block in the names of CLIP's kin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.spec import Spec
from ..modalities.geometry import CentreCrop, Resize
from ..modalities.public_clips import clip_settings
from ..modalities.public_images import image_settings
from ..nn.encoders.pixels import Pixels
from ..nn.layers.blocks import block
from ..nn.layers.transformer import Transformer
from ..weights.config import Config
from ..weights.family import Folder
from ..weights.keymap import AnyRule, fused, layer

PREPROCESSOR = "preprocessor_config.json"
CLIP_PREPROCESSOR = "video_preprocessor_config.json"
#: What of a model that reads texts and pictures; files of transformers 5 have all preparation in it.
PROCESSOR_CONFIG = "processor_config.json"


def picture(folder: Folder, kind: str, otherwise: Mapping[str, Any] | None = None) -> tuple[Spec, Spec]:
    """How a checkpoint's pictures are prepared, and how the network brings their bytes into its range.

    ``kind`` is the processor of the family, for files that do not say, or are not there; then ``otherwise`` is what the
    family's public checkpoints have in that file, where it is not what the processor assumes.
    """
    file, found = PREPROCESSOR, folder.json(PREPROCESSOR)
    whole = folder.json(PROCESSOR_CONFIG) or {}
    if not found and "image_processor" in whole:
        file, found = PROCESSOR_CONFIG, whole
    image, pixels = image_settings(found or otherwise or {}, str(folder.path / file), kind=kind)
    return image, Spec(Pixels, **pixels)


def clip(
    folder: Folder, kind: str, otherwise: Mapping[str, Any] | None = None, *, alike: bool = False
) -> tuple[Spec, Spec]:
    """The same of clips; ``alike``: where there is no file about them, the one about pictures says it."""
    file, found = CLIP_PREPROCESSOR, folder.json(CLIP_PREPROCESSOR)
    whole = folder.json(PROCESSOR_CONFIG) or {}
    if not found and "video_processor" in whole:
        file, found = PROCESSOR_CONFIG, whole
    if not found and alike:
        file, found = PREPROCESSOR, folder.json(PREPROCESSOR)
    video, pixels = clip_settings(found or otherwise or {}, str(folder.path / file), kind=kind)
    return video, Spec(Pixels, **pixels)


def picture_size(image: Spec | None, embedding: Spec) -> int | list[int]:
    """The ``image_size`` of a config: that in which pictures come, where the table of positions is for it; one number
    for squares. Pictures may be larger than their whole patches.
    """
    geometry = None if image is None else image.geometry
    last = geometry[-1] if isinstance(geometry, list) else geometry
    came = [last.height, last.width] if last is not None and last.cls in (Resize, CentreCrop) else [0, 0]
    grid, patch = list(embedding.positions.grid), embedding.patch
    whole = [places * side for places, side in zip(grid, patch, strict=True)]
    size = came if [side // p for side, p in zip(came, patch, strict=True)] == grid else whole
    return size[0] if size[0] == size[1] else size


def blocks(
    config: Config, width: int, *, hidden: int, depth: int, heads: int, activation: str, eps: float
) -> tuple[float, Spec]:
    """The eps of the norms and the pre-norm blocks of a public config of CLIP, SigLIP and their kin.

    The other arguments are what such a file may leave out.
    """
    eps = config.take("layer_norm_eps", float, eps, least=0)
    part = block(
        width=width,
        heads=config.take("num_attention_heads", int, heads, least=1),
        hidden=config.take("intermediate_size", int, hidden, least=1),
        activation=config.take("hidden_act", str, activation),
        eps=eps,
        dropout=config.take("attention_dropout", float, 0.0, least=0, most=1),
    )
    depth = config.take("num_hidden_layers", int, depth, least=1)
    return eps, Spec(Transformer, width=width, depth=depth, block=part)


def block_fields(trunk: Spec) -> dict[str, Any]:
    """The fields of a config from which ``blocks`` makes this trunk."""
    return {
        "hidden_size": trunk.width,
        "num_hidden_layers": trunk.depth,
        "num_attention_heads": trunk.block.attention.heads,
        "intermediate_size": trunk.block.feed_forward.hidden,
        "hidden_act": trunk.block.feed_forward.activation,
        "layer_norm_eps": trunk.block.norm.eps,
        "attention_dropout": trunk.block.attention.dropout,
    }


def block_keys() -> list[AnyRule]:
    """One pre-norm block of CLIP, SigLIP and their kin."""
    return [
        *fused([f"self_attn.{part}_proj" for part in "qkv"], "attention.qkv"),
        *layer("self_attn.out_proj", "attention.out"),
        *layer("layer_norm1", "norm_attention"),
        *layer("layer_norm2", "norm_feed_forward"),
        *layer("mlp.fc1", "feed_forward.up"),
        *layer("mlp.fc2", "feed_forward.down"),
    ]
