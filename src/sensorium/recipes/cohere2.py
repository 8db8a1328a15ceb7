"""Command R7B: the parts of Command R, in layers that see only what is near and, in turn, layers that see everything.

Cohere team 2025, "Command A: An Enterprise-Ready Large Language Model", arXiv:2504.00698. In layers that see everything
nothing is turned: tokens there have no positions.
"""

from __future__ import annotations

from typing import Any

from ..core.spec import Spec
from ..weights.card import Card
from ..weights.config import Config
from . import cohere
from ._layers import in_turn, layer_types, layers, sliding_fields
from ._parts import Part
from ._rope import FULL, SLIDING
from ._trunks import alone, fresh

#: The public config of each size.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": cohere.SIZES["tiny"] | {"sliding_window": 64},
    "7b": {"hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 32, "num_attention_heads": 32,
           "num_key_value_heads": 8, "logit_scale": 0.25, "rope_theta": 50_000.0},
}  # fmt: skip
#: What the files of the first models say besides; of these, transformers reads none.
ORIGINAL = {
    "order_of_interleaved_layers": "local_attn_first",
    "position_embedding_type": "rope_gptj",
    "rotary_pct": 1.0,
    "use_embedding_sharing": True,
    "use_gated_activation": True,
    "use_parallel_block": True,
    "use_qk_norm": False,
}


def cohere2(size: str = "7b") -> Spec:
    """The System with fresh weights."""
    return fresh("cohere2", SIZES, size, TRUNK)


def decoder(config: Config) -> Spec:
    """The language model of a public config."""
    for name, value in ORIGINAL.items():
        config.expect(name, value)
    config.ignore("layer_switch", "use_parallel_embedding", *ORIGINAL)
    found = cohere.parallel(config, base=10_000.0)
    trunk = found.trunk
    window = config.take("sliding_window", int, 4096, least=1)
    every = config.take("sliding_window_pattern", int, 4, least=1)
    config.ignore("sliding_window_pattern")  # where versions before 4.54 look for it
    usual = [SLIDING if (index + 1) % every else FULL for index in range(trunk.depth)]
    kinds = layer_types(config, usual, window)
    if SLIDING not in kinds:
        raise config.error("layer_types", f"expected at least one layer of {SLIDING!r}, found none")
    made = {
        SLIDING: trunk.block.set("attention.window", window),
        FULL: trunk.block.set("attention.rotary", None),
    }
    return found.set("trunk.block", in_turn(kinds, made.__getitem__))


def fields(decoder: Spec) -> dict[str, Any]:
    """The fields of a config from which ``decoder`` makes this."""
    # How much heads are turned, only layers that slide say.
    slides = next(block for block in layers(decoder.trunk) if block.attention.window is not None)
    found = cohere.parallel_fields(decoder.set("trunk.block", slides))
    return found | sliding_fields(decoder.trunk) | {"model_type": "cohere2"}


TRUNK = Part(("cohere2",), decoder, fields, cohere.keys, "Cohere2ForCausalLM")
FAMILY = alone(
    "cohere2",
    TRUNK,
    Card(
        title="Command R7B, Command A",
        paper="Cohere team 2025, arXiv:2504.00698",
        licence="CC BY-NC 4.0",
        preparation="byte-pair tokens; messages by the checkpoint's own template",
        examples=("CohereLabs/c4ai-command-r7b-12-2024",),
    ),
)
