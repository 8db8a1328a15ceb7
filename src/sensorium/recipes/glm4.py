"""GLM-4 of 2025 (0414): the parts of GLM-4 with norms before and after each layer.

GLM team 2024, "ChatGLM: A Family of Large Language Models from GLM-130B to GLM-4 All Tools", arXiv:2406.12793; the
place of the norms is that of Ding et al. 2021, arXiv:2105.13290.
"""

from __future__ import annotations

from typing import Any

from ..core.spec import Spec
from ..nn.layers.blocks import Sandwich
from ..weights.card import Card
from ..weights.config import Config
from ..weights.keymap import AnyRule, same, under
from . import glm
from ._parts import Part
from ._trunks import alone, fresh

#: The public config of each size.
SIZES = glm.SIZES


def glm4(size: str = "9b") -> Spec:
    """The System with fresh weights."""
    return fresh("glm4", SIZES, size, TRUNK)


def decoder(config: Config) -> Spec:
    """The language model of a public config."""
    found = glm.decoder(config)
    return found.set("trunk.block", Spec(Sandwich, **found.trunk.block.arguments))


def fields(decoder: Spec) -> dict[str, Any]:
    """The fields of a config from which ``decoder`` makes this."""
    return glm.fields(decoder) | {"model_type": "glm4"}


def keys(decoder: Spec) -> list[AnyRule]:
    """The names of a public checkpoint."""
    norms = [
        same("post_self_attn_layernorm.weight", "norm_attended.weight"),
        same("post_mlp_layernorm.weight", "norm_fed.weight"),
    ]
    return [*under("model.layers.{i}.", "trunk.blocks.{i}.", norms), *glm.keys(decoder)]


TRUNK = Part(("glm4",), decoder, fields, keys, "Glm4ForCausalLM")
FAMILY = alone(
    "glm4",
    TRUNK,
    Card(
        title="GLM-4 (0414)",
        paper="GLM team 2024, arXiv:2406.12793; Ding et al. 2021, arXiv:2105.13290",
        licence="MIT",
        preparation="byte-pair tokens; messages by the checkpoint's own template",
        examples=("zai-org/GLM-4-9B-0414",),
    ),
)
