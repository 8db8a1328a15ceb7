"""Qwen2-VL: pictures and clips in their own shape, and words, all with places in time, rows and columns.

Wang et al. 2024, "Qwen2-VL: Enhancing Vision-Language Model's Perception of the World at Any Resolution",
arXiv:2409.12191.
"""

from __future__ import annotations

from typing import Any

from ..core.spec import Spec
from ..nn.layers.feed_forward import MLP
from ..nn.layers.norms import LayerNorm
from ..weights.card import Card
from ..weights.config import Config
from ..weights.keymap import AnyRule, layer
from ._fresh import fresh
from ._parts import Part
from ._qwen_vl import EPS, Kin, tower, tower_fields, tower_keys, trunk
from ._shared import CLIP_PREPROCESSOR

#: The public config of each size.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 3, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 2048,
        "rope_scaling": {"type": "mrope", "mrope_section": [4, 6, 6]},
        "vision_config": {"embed_dim": 64, "hidden_size": 128, "depth": 2, "num_heads": 4},
    },
    "2b": {
        "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12,
        "num_key_value_heads": 2, "vocab_size": 151_936, "rms_norm_eps": 1e-6, "tie_word_embeddings": True,
        "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
        "vision_config": {"hidden_size": 1536},
    },
}  # fmt: skip
#: What the tiny size prepares smaller than others do.
PREPARED = {"tiny": {CLIP_PREPROCESSOR: {"size": {"shortest_edge": 56**2, "longest_edge": 112**2}}}}


def qwen2_vl(size: str = "2b") -> Spec:
    """The System with fresh weights; its vocabulary is learnt from your texts."""
    return fresh(FAMILY, SIZES, size, prepared=PREPARED.get(size))


def vision(config: Config) -> Spec:
    """The tower of a public ``vision_config``."""
    width = config.take("embed_dim", int, 1280, least=1)
    return tower(
        config,
        width=width,
        norm=Spec(LayerNorm, width=width, eps=EPS),
        feed_forward=Spec(
            MLP,
            width=width,
            hidden=int(width * config.take("mlp_ratio", float, 4.0, least=0)),
            activation=config.take("hidden_act", str, "quick_gelu"),
        ),
    )


def vision_fields(tower: Spec) -> dict[str, Any]:
    """The ``vision_config`` from which ``vision`` makes this tower."""
    width, hidden = tower.trunk.width, tower.trunk.block.feed_forward.hidden
    return tower_fields(tower) | {
        "model_type": "qwen2_vl_vision",
        "embed_dim": width,
        "mlp_ratio": hidden // width if hidden % width == 0 else hidden / width,
    }


def vision_keys(tower: Spec) -> list[AnyRule]:
    """The names of the tower."""
    return tower_keys(tower, [*layer("fc1", "up"), *layer("fc2", "down")])


#: The tower, by the names that files of several ages have for it.
VISION = Part(("qwen2_vl_vision", "qwen2_vl"), vision, vision_fields, vision_keys)
TRUNK = trunk("qwen2_vl_text")
KIN = Kin("qwen2_vl", "Qwen2VL", TRUNK, VISION, "hidden_size")
FAMILY = KIN.family(
    Card(
        title="Qwen2-VL",
        paper="Wang et al. 2024, arXiv:2409.12191",
        licence="Apache-2.0, or terms of Qwen; see the file",
        preparation="patches of 14 in about the picture's own shape, one row for four of them; clips at 2 frames/s",
        examples=("Qwen/Qwen2-VL-2B-Instruct", "Qwen/Qwen2-VL-7B-Instruct"),
    )
)
