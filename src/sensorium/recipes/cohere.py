"""Command R: attention and feed-forward read the same normalised stream and are added together.

Cohere 2024, with the parallel blocks of PaLM (Chowdhery et al. 2022, "PaLM: Scaling Language Modeling with Pathways",
arXiv:2204.02311). PaLM has no public weights: its shape is that of a config with ``num_key_value_heads`` 1 (all queries
share one head of keys and values), ``logit_scale`` 1 and ``tie_word_embeddings``, as in the size ``palm-8b``.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from ..core.spec import Spec
from ..nn.layers.blocks import Parallel
from ..nn.layers.norms import HeadNorm, LayerNorm
from ..weights.card import Card
from ..weights.config import Config
from ..weights.keymap import AnyRule, same
from ._parts import Part
from ._rope import rotary
from ._trunks import alone, fresh, gated, gated_fields, gated_keys, language_model

#: The public config of each size.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4, "num_attention_heads": 4,
             "num_key_value_heads": 2, "vocab_size": 2048, "logit_scale": 1.0},
    "palm-8b": {"hidden_size": 4096, "intermediate_size": 16_384, "num_hidden_layers": 32,
                "num_attention_heads": 16, "num_key_value_heads": 1, "logit_scale": 1.0,
                "rope_theta": 10_000.0},
    "35b": {"rope_theta": 8_000_000.0},
}  # fmt: skip
#: What a config may leave out.
USUAL = {
    "hidden_size": 8192,
    "intermediate_size": 22_528,
    "num_hidden_layers": 40,
    "num_attention_heads": 64,
    "vocab_size": 256_000,
}


def cohere(size: str = "35b") -> Spec:
    """The System with fresh weights."""
    return fresh("cohere", SIZES, size, TRUNK)


def decoder(config: Config) -> Spec:
    """The language model of a public config."""
    config.expect("pretraining_tp", 1)
    normed = config.take("use_qk_norm", bool, False)
    found = parallel(config, base=500_000.0)
    return found if not normed else _normed(found)


def parallel(config: Config, *, base: float) -> Spec:
    """The language model of both generations, whose heads turn channels and their neighbours together; ``base`` is what
    the config may leave out.
    """
    config.assume(USUAL)
    config.ignore("cache_implementation", "model_max_length")
    biased = config.take("attention_bias", bool, False)
    trunk = gated(config, biases="qkvo" if biased else "", turned=partial(rotary, base=base, neighbours=True))
    eps = config.take("layer_norm_eps", float, 1e-5, least=0)
    norm = Spec(LayerNorm, width=trunk.width, eps=eps, bias=False)
    trunk = trunk.replace(block=Spec(Parallel, **trunk.block.arguments).replace(norm=norm))
    scale = config.take("logit_scale", float, 0.0625)
    return language_model(config, trunk, norm, tied=True).replace(scale=scale)


def _normed(decoder: Spec) -> Spec:
    """The same with queries and keys normalised, by a weight for each channel of each head."""
    attention = decoder.trunk.block.attention
    query, key = (
        Spec(HeadNorm, heads=heads, width=attention.head_width, eps=decoder.norm.eps)
        for heads in (attention.heads, attention.groups)
    )
    return decoder.set("trunk.block.attention", attention.replace(norm_query=query, norm_key=key))


def fields(decoder: Spec) -> dict[str, Any]:
    """The fields of a config from which ``decoder`` makes this."""
    normed = decoder.trunk.block.attention.norm_query is not None
    return parallel_fields(decoder) | {"model_type": "cohere", "use_qk_norm": normed}


def parallel_fields(decoder: Spec) -> dict[str, Any]:
    """The fields from which ``parallel`` makes this."""
    found = gated_fields(decoder) | {
        "attention_bias": bool(decoder.trunk.block.attention.biases),
        "layer_norm_eps": decoder.norm.eps,
        "logit_scale": decoder.scale,
    }
    del found["rms_norm_eps"]
    return found


def keys(decoder: Spec) -> list[AnyRule]:
    """The names of a public checkpoint."""
    norm = same("model.layers.{i}.input_layernorm.weight", "trunk.blocks.{i}.norm.weight")
    return [norm, *gated_keys(decoder)]


TRUNK = Part(("cohere",), decoder, fields, keys, "CohereForCausalLM")
FAMILY = alone(
    "cohere",
    TRUNK,
    Card(
        title="Command R",
        paper="Chowdhery et al. 2022, arXiv:2204.02311",
        licence="CC BY-NC 4.0",
        preparation="byte-pair tokens; messages by the checkpoint's own template",
        examples=("CohereLabs/c4ai-command-r-v01", "CohereLabs/aya-23-8B"),
    ),
)
