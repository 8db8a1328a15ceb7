"""What the pages of Qwen share: which layers slide, and a mixture of experts in place of a feed-forward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..core.spec import Spec
from ..nn.layers.experts import Experts
from ..nn.layers.feed_forward import GatedMLP
from ..weights.config import Config
from ..weights.keymap import AnyRule, Rule, fused, layer, same, shaped, under
from ._layers import in_turn, layers, sliding_fields, types_of
from ._rope import FULL, SLIDING
from ._trunks import gated_fields, gated_keys


def window(config: Config) -> int | None:
    """How far layers that slide look; None where a config does not use what it gives."""
    used = config.take("use_sliding_window", bool, False)
    size: int | None = config.take("sliding_window", int | None, 4096, least=0)
    config.ignore("sliding_window", "max_window_layers")
    config.expect("use_mrope", False)
    if used and not size:
        raise config.error("sliding_window", f"expected at least 1 with use_sliding_window, found {size}")
    return size if used else None


def upper(config: Config, size: int | None, depth: int) -> list[str]:
    """The kinds of layers of dense models, of which those from ``max_window_layers`` on slide."""
    first = config.take("max_window_layers", int, 28, least=0)
    return [SLIDING if size is not None and index >= first else FULL for index in range(depth)]


def window_fields(trunk: Spec) -> dict[str, Any]:
    """The fields of a config that say which layers slide."""
    used = SLIDING in types_of(trunk)
    return {"use_sliding_window": used} | (sliding_fields(trunk) if used else {})


def _sparse(config: Config, depth: int) -> list[bool]:
    """Which layers have experts."""
    every = config.take("decoder_sparse_step", int, 1, least=1)
    never = config.take("mlp_only_layers", list[int] | None, None, least=0) or []
    return [index not in never and (index + 1) % every == 0 for index in range(depth)]


def mixed(
    config: Config, trunk: Spec, kinds: Sequence[str], size: int | None, shared: int | None = None
) -> Spec:
    """The trunk whose layers are of these ``kinds``, with experts in those that are to have them; one of ``shared``
    hidden width serves every token.
    """
    where = _sparse(config, trunk.depth)
    if not any(where):
        raise config.error("decoder_sparse_step", f"none of {trunk.depth} layers would have experts")
    mixture = _experts(config, trunk.block.feed_forward, shared)

    def block(kind: tuple[str, bool]) -> Spec:
        slides, has = kind
        one: Spec = trunk.block.set("attention.window", size) if slides == SLIDING else trunk.block
        return one.replace(feed_forward=mixture) if has else one

    return trunk.replace(block=in_turn(list(zip(kinds, where, strict=True)), block))


def _experts(config: Config, dense: Spec, shared: int | None) -> Spec:
    """What stands in place of a ``dense`` feed-forward."""
    # Whether they are all busy is a matter of objectives.
    config.ignore("output_router_logits", "router_aux_loss_coef", "intermediate_size")
    count = "num_local_experts" if "num_local_experts" in config else "num_experts"
    return Spec(
        Experts,
        width=dense.width,
        hidden=config.take("moe_intermediate_size", int, least=1),
        experts=config.take(count, int, least=1),
        chosen=config.take("num_experts_per_tok", int, least=1),
        activation=dense.activation,
        normalised=config.take("norm_topk_prob", bool, False),
        shared=shared,
    )


def expert_fields(decoder: Spec) -> dict[str, Any]:
    """The fields of a config with experts, besides those that say which layers slide."""
    found = [block.feed_forward for block in layers(decoder.trunk)]
    mixed = next(one for one in found if one.cls is Experts)
    dense = [index for index, one in enumerate(found) if one.cls is GatedMLP]
    fields = gated_fields(decoder) | {
        "moe_intermediate_size": mixed.hidden,
        "num_experts": mixed.experts,
        "num_experts_per_tok": mixed.chosen,
        "norm_topk_prob": mixed.normalised,
        "decoder_sparse_step": 1,
        "mlp_only_layers": dense,
    }
    del fields["intermediate_size"]  # no layer need have it
    return fields | ({"intermediate_size": found[dense[0]].hidden} if dense else {})


def expert_keys(decoder: Spec) -> list[AnyRule]:
    """The names of a checkpoint with experts: one by one as they are published, or stacked as transformers 5 holds
    them.
    """
    found = next(one for block in layers(decoder.trunk) if (one := block.feed_forward).cls is Experts)
    each = [f"mlp.experts.{index}" for index in range(found.experts)]
    pairs = [f"{name}.{part}.weight" for name in each for part in ("gate_proj", "up_proj")]
    downs = [f"{name}.down_proj.weight" for name in each]
    mixture: list[AnyRule] = [
        same("mlp.gate.weight", "feed_forward.router.weight"),
        _stacked(pairs, "feed_forward.gate_up", found.experts, found.width),
        _stacked(downs, "feed_forward.down", found.experts, found.hidden),
        same("mlp.experts.gate_up_proj", "feed_forward.gate_up"),
        same("mlp.experts.down_proj", "feed_forward.down"),
        *fused([f"mlp.shared_expert.{part}_proj" for part in ("gate", "up")], "feed_forward.shared.gate_up"),
        *layer("mlp.shared_expert.down_proj", "feed_forward.shared.down"),
        *layer("mlp.shared_expert_gate", "feed_forward.shared_gate"),
    ]
    return [*under("model.layers.{i}.", "trunk.blocks.{i}.", mixture), *gated_keys(decoder)]


def _stacked(public: Sequence[str], own: str, count: int, columns: int) -> Rule:
    """Matrices one after the other as those of ``count`` experts, in one tensor."""
    return Rule(tuple(public), own, shaped((-1, columns), (count, -1, columns)))
