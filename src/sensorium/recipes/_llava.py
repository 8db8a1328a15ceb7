"""What LLaVA and its kin share: a tower read before its end, and a projector of two layers."""

from __future__ import annotations

import math
from typing import Any

from ..core.errors import CapabilityError
from ..core.spec import Spec
from ..nn.connectors.projector import Projector
from ..nn.encoders.layer_features import LayerFeatures
from ..weights.config import Config
from ..weights.keymap import AnyRule, layer
from ._parts import part_of

#: What a chat template writes for a picture, and what holds the place of each of its rows.
IMAGE = "<image>"


def seen(config: Config, section: Config, otherwise: str) -> Spec:
    """What reads pictures: the layers that ``config`` chooses of the tower that a ``section`` of it describes."""
    tower = part_of(section, otherwise).read(section)
    section.ignore("vocab_size")  # of the texts that the tower was trained with
    found = config.take("vision_feature_layer", int | list[int], -2)
    strategy = config.take("vision_feature_select_strategy", str, "default", among=("default", "full"))
    if strategy == "default" and not tower.embedding.prefix:
        raise CapabilityError(
            str(
                config.error(
                    "vision_feature_select_strategy",
                    "'default' leaves out the first patch of a tower without a class token: only 'full' is supported",
                )
            )
        )
    layers = found if isinstance(found, list) else [found]
    return Spec(LayerFeatures, tower=tower, layers=layers, leading=strategy == "full")


def seen_fields(reader: Spec) -> dict[str, Any]:
    """The fields of a config that choose the layers."""
    layers = list(reader.layers)
    return {
        "vision_feature_layer": layers[0] if len(layers) == 1 else layers,
        "vision_feature_select_strategy": "full" if reader.leading else "default",
    }


def processor_config(name: str, reader: Spec) -> dict[str, Any]:
    """What the processor of that ``name`` is told of a reader, to count the rows of pictures."""
    embedding = reader.tower.embedding
    return {
        "processor_class": name,
        "image_token": IMAGE,
        "patch_size": embedding.patch[0],
        "num_additional_image_tokens": embedding.prefix or 0,
        "vision_feature_select_strategy": seen_fields(reader)["vision_feature_select_strategy"],
    }


def tokens(reader: Spec) -> int:
    """How many rows a picture of the tower's own size becomes."""
    embedding = reader.tower.embedding
    lead = (embedding.prefix or 0) if reader.leading else 0
    return math.prod(embedding.positions.grid) + lead


def projector(config: Config, reader: Spec, width: int) -> Spec:
    """Two layers between what is read and a language model of this ``width``."""
    return Spec(
        Projector,
        inner=reader.tower.trunk.width * len(reader.layers),
        width=width,
        depth=2,
        activation=config.take("projector_hidden_act", str, "gelu"),
        bias=config.take("multimodal_projector_bias", bool, True),
    )


def projector_fields(connector: Spec) -> dict[str, Any]:
    """The fields of a config from which ``projector`` makes this."""
    return {"multimodal_projector_bias": connector.bias, "projector_hidden_act": connector.activation}


def projector_keys(own: str) -> list[AnyRule]:
    """The names of both layers; ``own`` is that of ours."""
    return [
        *layer("multi_modal_projector.linear_1", f"{own}.layers.0"),
        *layer("multi_modal_projector.linear_2", f"{own}.layers.1"),
    ]
