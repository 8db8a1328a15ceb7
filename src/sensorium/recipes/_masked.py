"""What MAE, BEiT and VideoMAE share: blocks and decoders of public configs, and training on what is hidden."""

from __future__ import annotations

from typing import Any

from ..core.errors import CapabilityError
from ..core.spec import Spec
from ..core.system import System
from ..nn.heads.patch_decoder import PatchDecoder
from ..nn.layers.blocks import PreNorm
from ..nn.layers.feed_forward import MLP
from ..nn.layers.norms import LayerNorm
from ..nn.layers.transformer import Transformer
from ..training.optimizer import AdamW
from ..training.settings import Loading
from ..training.trainer import Training
from ..weights.config import Config
from ..weights.keymap import AnyRule, layer, same, shaped
from ._vit import SPELLINGS

#: Names of transformers 5 in memory and as it writes them, as those of version 4.
ALL_SPELLINGS = [
    (r"\.decoder_encoder\.layer\.", ".decoder_layers."),
    *SPELLINGS,
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
]
#: A block but for its attention.
AROUND_ATTENTION: list[AnyRule] = [
    *layer("attention.output.dense", "attention.out"),
    *layer("layernorm_before", "norm_attention"),
    *layer("layernorm_after", "norm_feed_forward"),
    *layer("intermediate.dense", "feed_forward.up"),
    *layer("output.dense", "feed_forward.down"),
]
_DECODER = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")


def trunk(config: Config, attention: Spec, *, branch: Spec | None = None, drop_path: float = 0.0) -> Spec:
    """The pre-norm blocks of a public config."""
    width = attention.width
    config.expect("hidden_dropout_prob", 0.0)
    config.ignore("initializer_range")
    block = Spec(
        PreNorm,
        norm=norm(config, width),
        attention=attention,
        feed_forward=Spec(
            MLP,
            width=width,
            hidden=config.take("intermediate_size", int, 3072, least=1),
            activation=config.take("hidden_act", str, "gelu"),
        ),
        branch=branch,
    )
    depth = config.take("num_hidden_layers", int, 12, least=1)
    return Spec(Transformer, width=width, depth=depth, block=block, drop_path=drop_path)


def norm(config: Config, width: int) -> Spec:
    """A norm of a public config."""
    return Spec(LayerNorm, width=width, eps=config.take("layer_norm_eps", float, 1e-12, least=0))


def trunk_fields(blocks: Spec) -> dict[str, Any]:
    """The fields of a config from which ``trunk`` is made, but for what attention alone has."""
    return {
        "hidden_size": blocks.width,
        "num_hidden_layers": blocks.depth,
        "num_attention_heads": blocks.block.attention.heads,
        "intermediate_size": blocks.block.feed_forward.hidden,
        "hidden_act": blocks.block.feed_forward.activation,
        "layer_norm_eps": blocks.block.norm.eps,
        "attention_probs_dropout_prob": blocks.block.attention.dropout,
    }


def squares(config: Config, grid: list[int]) -> None:
    """Raise CapabilityError unless the grid of patches is square: the reference mistakes height for width else."""
    if grid[0] != grid[1]:
        found = f"only squares are supported, found {grid[0]} x {grid[1]} patches"
        raise CapabilityError(str(config.error("image_size", found)))


def decoder(config: Config, encoder: Spec, defaults: tuple[int, int, int, int]) -> Spec:
    """A decoder without positions and norm, whose blocks are as those of the ``encoder`` in other sizes: width, depth,
    heads and hidden layer, for which ``defaults`` stand where the file says nothing.
    """
    width, depth, heads, hidden = (
        config.take(f"decoder_{name}", int, default, least=1)
        for name, default in zip(_DECODER, defaults, strict=True)
    )
    old = encoder.block
    block = old.replace(
        norm=old.norm.replace(width=width),
        attention=old.attention.replace(width=width, heads=heads),
        feed_forward=old.feed_forward.replace(width=width, hidden=hidden),
    )
    return Spec(PatchDecoder, trunk=encoder.replace(width=width, depth=depth, block=block))


def decoder_fields(made: Spec) -> dict[str, Any]:
    """The fields of a config from which ``decoder`` is made."""
    fields = trunk_fields(made.trunk)
    return {f"decoder_{name}": fields[name] for name in _DECODER}


def idle(config: Config) -> None:
    """Fields of training that a checkpoint without a decoder carries along."""
    config.ignore(*(f"decoder_{name}" for name in _DECODER), "norm_pix_loss", "mask_ratio")


def token(public: str, own: str) -> AnyRule:
    """One vector that others keep with two more axes."""
    return same(public, own, shaped([1, 1, -1], [-1]))


def pretraining(family: str, network: Spec, modality: Spec, objective: Spec, *, lr: float) -> Spec:
    """The System of a network that learns from what is hidden of every segment.

    ``lr`` is the learning rate of 256 segments a step at a width of 768; narrower towers take longer steps.
    """
    return Spec(
        System,
        modalities={network.name: modality},
        model=network,
        objectives={"masked": objective},
        contrastive=None,
        training=Spec(
            Training,
            loading=Spec(Loading, batch=256, withhold=0.0, corrupt=1.0),
            optimizer=Spec(AdamW, lr=lr * 768 / network.tower.trunk.width, weight_decay=0.05, beta2=0.95),
        ),
        family=family,
    )
