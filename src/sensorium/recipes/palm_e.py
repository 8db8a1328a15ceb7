"""PaLM-E: states of a robot and pictures as tokens among the words of a language model, which writes a plan.

Driess et al. 2023, "PaLM-E: An Embodied Multimodal Language Model", arXiv:2303.03378.

A composition: there are no public weights of it, nor of PaLM. The language model has PaLM's shape on the page of
Command R, the eye is a ViT; both are compared with others there, the whole is not. A state is one step of a series: of
each, an MLP makes one token or several. The object-centred encoders of the paper (OSRT) are not here.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ..core.errors import ConfigError, nearest
from ..core.spec import Spec
from ..modalities.chat.placeholders import PerPiece, Repeated
from ..modalities.public_images import image_settings
from ..modalities.series import Series
from ..nn.connectors.projector import Projector
from ..nn.connectors.several import Several
from ..nn.encoders.patch_tower import PatchTower
from ..nn.encoders.pixels import Pixels
from ..nn.encoders.vectors import Vectors
from ..weights.card import Card
from ..weights.config import Config
from ._joined import Joined, joined
from .cohere import cohere
from .vit import PROCESSOR, vision

#: The sizes of Command R's page, the public config of a ViT, and the width of what encodes states.
SIZES: dict[str, tuple[str, dict[str, Any], int]] = {
    "tiny": (
        "tiny",
        {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
         "image_size": 64, "patch_size": 8},
        64,
    ),
    "12b": (  # PaLM 8B and ViT-e
        "palm-8b",
        {"hidden_size": 1792, "intermediate_size": 15_360, "num_hidden_layers": 56, "num_attention_heads": 16,
         "patch_size": 14},
        1024,
    ),
}  # fmt: skip
#: What holds the place of a row of a picture, and of a state.
IMAGE, STATE = "<image>", "<state>"

CARD = Card(
    title="PaLM-E",
    paper="Driess et al. 2023, arXiv:2303.03378",
    licence="none: no public weights",
    preparation="pictures warped to a square; states normalised number by number; a vocabulary learnt from your texts",
)


def palm_e(size: str = "12b") -> Spec:
    """The System with fresh weights. How many numbers a state has: ``modalities.series.channels``."""
    if size not in SIZES:
        raise ConfigError(f"palm_e has no size {size!r}{nearest(size, SIZES)}")
    reader, eye, width = SIZES[size]
    config = Config(eye, file=Path(f"palm_e:{size}"))
    side = {"height": eye.get("image_size", 224), "width": eye.get("image_size", 224)}
    image, pixels = image_settings({"size": side}, kind=PROCESSOR)
    tower = vision(config).set("embedding.values", Spec(Pixels, **pixels))
    config.finish()
    return of_parts(cohere(reader), tower, image, Spec(Series), width=width)


def of_parts(trunk: Spec, tower: Spec, image: Spec, states: Spec, *, width: int, rows: int = 1) -> Spec:
    """The System of a language model's System, of a tower of patches with its modality, and of ``states``, a modality
    of vectors. An MLP with a hidden layer of ``width`` makes ``rows`` tokens of each state.
    """
    if tower.cls is not PatchTower:
        raise ConfigError(f"expected a tower of patches, found a {tower.cls.__qualname__}")
    wide, patches = trunk.model.decoder.trunk.width, tower.embedding
    lead = (patches.prefix or 0) + patches.registers
    seen = Joined(
        modality=image,
        tower=tower,
        connector=Spec(Projector, inner=tower.trunk.width, width=wide),
        placeholder=Spec(
            Repeated,
            written=IMAGE,
            token=IMAGE,
            count=lead + math.prod(patches.positions.grid),
        ),
    )
    felt = Joined(
        modality=states,
        tower=Spec(Vectors, channels=states.channels, width=width),
        connector=Spec(Several, projector=Spec(Projector, inner=width, width=rows * wide), rows=rows),
        placeholder=Spec(PerPiece, written=STATE, token=STATE, count=rows),
    )
    return joined(trunk, {"image": seen, "series": felt})
