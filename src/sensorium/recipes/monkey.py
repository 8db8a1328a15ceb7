"""Monkey: a large picture in windows, each read by the same encoder with small changes of its own.

Li et al. 2023, "Monkey: Image Resolution and Text Label Are Important Things for Large Multi-modal Models",
arXiv:2311.06607.

A composition: the published weights come with code of their own, and are not read here. The eye has the size of
Qwen-VL's, with CLIP's class token, which is left out behind it; the resampler is Flamingo's, where Qwen-VL has a
single layer of attention with positions in two axes; the language model is LLaMA, where it has Qwen. Tiles and the
ranks of the changes are those of the paper. The parts are compared with others on their own pages, the whole is not.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ..core.errors import ConfigError, nearest
from ..core.spec import Spec
from ..modalities.chat.placeholders import PerPiece
from ..modalities.image import Image
from ..modalities.tiles import FixedWindows
from ..nn.connectors.composed import PieceByPiece
from ..nn.connectors.projector import Projector
from ..nn.connectors.resampler import Resampler, resampler_block
from ..nn.encoders.layer_features import LayerFeatures
from ..nn.encoders.window_adapters import WindowAdapters
from ..nn.layers.norms import LayerNorm
from ..weights.card import Card
from ..weights.config import Config
from ._joined import Joined, joined
from .clip import vision
from .llama import llama

#: The size of LLaMA, the public config of CLIP's eye, rows and columns of windows, and the rows that a tile becomes.
SIZES: dict[str, tuple[str, dict[str, Any], tuple[int, int], int]] = {
    "tiny": (
        "tiny",
        {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
         "image_size": 32, "patch_size": 8},
        (2, 3),
        8,
    ),
    "7b": (
        "7b",
        {"hidden_size": 1664, "intermediate_size": 8192, "num_hidden_layers": 48, "num_attention_heads": 16,
         "image_size": 448, "patch_size": 14, "hidden_act": "gelu"},
        (2, 3),
        256,
    ),
}  # fmt: skip
#: The ranks of the changes to the layers of each part.
RANKS = {"attention": 16, "feed_forward": 32}
IMAGE, BEGIN, END = "<image>", "<img>", "</img>"

CARD = Card(
    title="Monkey",
    paper="Li et al. 2023, arXiv:2311.06607",
    licence="that of the parts",
    preparation="896 x 1344 bicubic in 6 windows of 448 pixels and the whole picture; 256 rows each",
)


def monkey(size: str = "7b") -> Spec:
    """The System with fresh weights."""
    if size not in SIZES:
        raise ConfigError(f"monkey has no size {size!r}{nearest(size, SIZES)}")
    reader, eye, windows, rows = SIZES[size]
    config = Config(eye, file=Path(f"monkey:{size}"))
    tower = vision(config)
    config.finish()
    return of_parts(llama(reader), tower, windows=windows, rows=rows)


def of_parts(trunk: Spec, tower: Spec, *, windows: tuple[int, int] = (2, 3), rows: int = 256) -> Spec:
    """The System of a language model's System and of a tower of patches, which reads ``windows``, rows and columns of
    pictures of its own size, and makes ``rows`` of each.
    """
    (down, across), grid = windows, tower.embedding.positions.grid
    inner, side = tower.trunk.width, grid[0] * tower.embedding.patch[0]
    heads = tower.trunk.block.attention.heads
    resampler = Spec(
        Resampler,
        width=inner,
        latents=rows,
        depth=1,
        block=resampler_block(width=inner, heads=heads, head_width=inner // heads),
        norm_out=Spec(LayerNorm, width=inner),
        projector=Spec(Projector, inner=inner, width=trunk.model.decoder.trunk.width),
    )
    medium = Joined(
        modality=Spec(
            Image,
            geometry=[Spec(FixedWindows, height=down * side, width=across * side, side=side)],
            mean=None,
        ),
        tower=Spec(
            WindowAdapters,
            tower=Spec(LayerFeatures, tower=tower, layers=[-1]),
            windows=down * across,
            ranks=RANKS,
        ),
        connector=Spec(PieceByPiece, tokens=math.prod(grid), connector=resampler),
        placeholder=Spec(PerPiece, written=IMAGE, token=IMAGE, count=rows, before=BEGIN, after=END),
    )
    return joined(trunk, {"image": medium})
