"""Qwen2.5-VL: pictures and clips in their own shape through a tower with windows, and places in rows, columns and
seconds.

Bai et al. 2025, "Qwen2.5-VL Technical Report", arXiv:2502.13923.
"""

from __future__ import annotations

from typing import Any

from ..core.spec import Spec
from ..nn.layers.feed_forward import GatedMLP
from ..nn.layers.norms import RMSNorm
from ..weights.card import Card
from ..weights.config import Config
from ..weights.keymap import AnyRule, fused, layer
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
        "vision_config": {"hidden_size": 64, "intermediate_size": 128, "depth": 2, "num_heads": 4,
                          "window_size": 56, "fullatt_block_indexes": [1], "out_hidden_size": 128},
    },
    "3b": {
        "hidden_size": 2048, "intermediate_size": 11_008, "num_hidden_layers": 36, "num_attention_heads": 16,
        "num_key_value_heads": 2, "vocab_size": 151_936, "rms_norm_eps": 1e-6, "tie_word_embeddings": True,
        "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
        "vision_config": {"hidden_size": 1280, "out_hidden_size": 2048, "tokens_per_second": 2},
    },
}  # fmt: skip
#: What the tiny size prepares smaller than others do.
PREPARED = {"tiny": {CLIP_PREPROCESSOR: {"size": {"shortest_edge": 56**2, "longest_edge": 112**2}}}}


def qwen2_5_vl(size: str = "3b") -> Spec:
    """The System with fresh weights; its vocabulary is learnt from your texts."""
    return fresh(FAMILY, SIZES, size, prepared=PREPARED.get(size))


def vision(config: Config) -> Spec:
    """The tower of a public ``vision_config``."""
    width = config.take("hidden_size", int, 3584, least=1)
    return tower(
        config,
        width=width,
        norm=Spec(RMSNorm, width=width, eps=EPS),
        feed_forward=Spec(
            GatedMLP,
            width=width,
            hidden=config.take("intermediate_size", int, 3420, least=1),
            activation=config.take("hidden_act", str, "silu"),
            bias=True,
        ),
        side=config.take("window_size", int, 112, least=1),
        whole=config.take("fullatt_block_indexes", list[int], [7, 15, 23, 31], least=0),
    )


def vision_fields(tower: Spec) -> dict[str, Any]:
    """The ``vision_config`` from which ``vision`` makes this tower."""
    return tower_fields(tower) | {
        "model_type": "qwen2_5_vl_vision",
        "hidden_size": tower.trunk.width,
        "intermediate_size": tower.trunk.block.feed_forward.hidden,
        "window_size": tower.window * tower.embedding.patch,
        "fullatt_block_indexes": list(tower.whole),
    }


def vision_keys(tower: Spec) -> list[AnyRule]:
    """The names of the tower."""
    return tower_keys(tower, [*fused(["gate_proj", "up_proj"], "gate_up"), *layer("down_proj", "down")])


#: The tower, by the names that files of several ages have for it.
VISION = Part(("qwen2_5_vl_vision", "qwen2_5_vl"), vision, vision_fields, vision_keys)
TRUNK = trunk("qwen2_5_vl_text")
KIN = Kin("qwen2_5_vl", "Qwen2_5_VL", TRUNK, VISION, "out_hidden_size", rate=4)
FAMILY = KIN.family(
    Card(
        title="Qwen2.5-VL",
        paper="Bai et al. 2025, arXiv:2502.13923",
        licence="Apache-2.0, or terms of Qwen; see the file",
        preparation="patches of 14 in about the picture's own shape, one row for four of them; clips at 2 frames/s",
        examples=("Qwen/Qwen2.5-VL-3B-Instruct", "Qwen/Qwen2.5-VL-7B-Instruct"),
    )
)
