"""What the pages of Gemma share: norms around zero, words times the root of the width, and norms on both sides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..core.spec import Spec
from ..nn.layers.blocks import Sandwich
from ..weights.config import Config
from ..weights.keymap import AnyRule, same, under
from ._layers import layers
from ._rope import rotary
from ._trunks import gated, gated_fields, gated_keys, language_model


def gemma_trunk(
    config: Config, *, head_norm: bool = False, turned: Callable[[Config, int], Spec] = rotary
) -> Spec:
    """That of LLaMA, with norms whose weights are stored around zero."""
    config.expect("use_bidirectional_attention", False, None)
    config.ignore("cache_implementation")
    biased = config.take("attention_bias", bool, False)
    trunk = gated(config, biases="qkvo" if biased else "", head_norm=head_norm, turned=turned)
    norms = ["block.norm", *["block.attention.norm_query", "block.attention.norm_key"] * head_norm]
    for norm in norms:
        trunk = trunk.set(f"{norm}.offset", 1.0)
    return trunk


def between(config: Config, trunk: Spec) -> Spec:
    """The same with norms after each layer too, and products of attention that are scaled by a number of the config."""
    config.ignore("hidden_act")  # given beside the one that is used
    scalar = config.take("query_pre_attn_scalar", float, 256, least=1e-6)
    activation = config.take("hidden_activation", str, "gelu_pytorch_tanh")
    block = Spec(Sandwich, **trunk.block.arguments)
    block = block.set("attention.scale", scalar**-0.5).set("feed_forward.activation", activation)
    return trunk.replace(block=block)


def gemma_model(config: Config, trunk: Spec) -> Spec:
    """The language model around a trunk."""
    model = language_model(config, trunk, layers(trunk)[0].norm, tied=True, scale=trunk.width**0.5)
    softcap = config.take("final_logit_softcapping", float | None, None, least=1e-6)
    return model if softcap is None else model.replace(softcap=softcap)


def gemma_fields(decoder: Spec) -> dict[str, Any]:
    """The fields that configs of all Gemmas have."""
    return gated_fields(decoder) | {"attention_bias": bool(layers(decoder.trunk)[0].attention.biases)}


def between_fields(decoder: Spec) -> dict[str, Any]:
    """The fields of those with norms on both sides."""
    block = layers(decoder.trunk)[0]
    fields = gemma_fields(decoder) | {
        "hidden_activation": block.feed_forward.activation,
        "query_pre_attn_scalar": _whole(block.attention.scale**-2),
        "final_logit_softcapping": decoder.softcap,
    }
    del fields["hidden_act"]
    return fields


def between_keys(decoder: Spec) -> list[AnyRule]:
    """The names of those with norms on both sides."""
    norms: list[AnyRule] = [
        same("post_attention_layernorm.weight", "norm_attended.weight"),
        same("pre_feedforward_layernorm.weight", "norm_feed_forward.weight"),
        same("post_feedforward_layernorm.weight", "norm_fed.weight"),
    ]
    return [*under("model.layers.{i}.", "trunk.blocks.{i}.", norms), *gated_keys(decoder)]


def _whole(number: float) -> float:
    """As a whole number, as it is published, where it is one but for rounding."""
    near = round(number)
    return near if abs(number - near) < 1e-9 * near else number
