"""GPT-2: the decoder-only language model with learned positions and norms before each layer.

Radford et al. 2019, "Language Models are Unsupervised Multitask Learners". GPT-3 (Brown et al. 2020, "Language Models
are Few-Shot Learners", arXiv:2005.14165) has the same parts in other sizes, except that every other layer attends
sparsely in bands; it has no public weights, and that pattern is not built here.
"""

from __future__ import annotations

from typing import Any

from ..core.spec import Spec
from ..modalities.chat.templates import CONTINUED
from ..nn.decoders.language_model import PlaceEmbedding
from ..nn.layers.blocks import block
from ..nn.layers.drop_path import Dropout
from ..nn.layers.norms import LayerNorm
from ..nn.layers.transformer import Transformer
from ..weights.card import Card
from ..weights.config import Config
from ..weights.keymap import TRANSPOSED, AnyRule, Drop, layer, same, under
from ._parts import Part
from ._trunks import alone, fresh, head_keys, language_model

#: The public config of each size.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"n_embd": 128, "n_layer": 4, "n_head": 4, "n_positions": 512, "vocab_size": 2048},
    "124m": {},
    "xl": {"n_embd": 1600, "n_layer": 48, "n_head": 25},
}


def gpt2(size: str = "124m") -> Spec:
    """The System with fresh weights."""
    return fresh("gpt2", SIZES, size, TRUNK)


def decoder(config: Config) -> Spec:
    """The language model of a public config. Its ``embd_pdrop`` is kept, but not applied."""
    config.assume({"vocab_size": 50_257})
    width = config.take("n_embd", int, 768, least=1)
    rate = config.take("resid_pdrop", float, 0.1, least=0, most=1)
    eps = config.take("layer_norm_epsilon", float, 1e-5, least=0)
    one = block(
        width=width,
        heads=config.take("n_head", int, 12, least=1),
        hidden=config.take("n_inner", int | None, None, least=1) or 4 * width,
        activation=config.take("activation_function", str, "gelu_new"),
        eps=eps,
        branch=Spec(Dropout, rate=rate) if rate else None,
        dropout=config.take("attn_pdrop", float, 0.1, least=0, most=1),
    )
    if not config.take("scale_attn_weights", bool, True):
        one = one.set("attention.scale", 1.0)
    config.expect("scale_attn_by_inverse_layer_idx", False)
    config.ignore("embd_pdrop", "n_ctx", "reorder_and_upcast_attn", "summary_activation", "summary_type")
    config.ignore("summary_first_dropout", "summary_proj_to_labels", "summary_use_proj")
    depth = config.take("n_layer", int, 12, least=1)
    length = config.take("n_positions", int, 1024, least=1)
    trunk, norm = (
        Spec(Transformer, width=width, depth=depth, block=one),
        Spec(LayerNorm, width=width, eps=eps),
    )
    model = language_model(config, trunk, norm, tied=True)
    return model.replace(positions=Spec(PlaceEmbedding, length=length, width=width))


def fields(decoder: Spec) -> dict[str, Any]:
    """The fields of a config from which ``decoder`` makes this."""
    trunk, one = decoder.trunk, decoder.trunk.block
    hidden = one.feed_forward.hidden
    return {
        "model_type": "gpt2",
        "n_embd": trunk.width,
        "n_layer": trunk.depth,
        "n_head": one.attention.heads,
        "n_inner": None if hidden == 4 * trunk.width else hidden,
        "n_positions": decoder.positions.length,
        "activation_function": one.feed_forward.activation,
        "layer_norm_epsilon": decoder.norm.eps,
        "resid_pdrop": one.branch.rate if one.branch is not None else 0.0,
        "attn_pdrop": one.attention.dropout,
        "scale_attn_weights": one.attention.scale is None,
        "vocab_size": decoder.embedding.vocabulary,
        "tie_word_embeddings": decoder.head is None,
    }


def keys(decoder: Spec) -> list[AnyRule]:
    """The names of a public checkpoint. Its matrices are stored the other way round."""
    block: list[AnyRule] = [
        *_turned("attn.c_attn", "attention.qkv"),
        *_turned("attn.c_proj", "attention.out"),
        *_turned("mlp.c_fc", "feed_forward.up"),
        *_turned("mlp.c_proj", "feed_forward.down"),
        *layer("ln_1", "norm_attention"),
        *layer("ln_2", "norm_feed_forward"),
        Drop("attn.bias", "the mask is computed"),
        Drop("attn.masked_bias", "the mask is computed"),
    ]
    return [
        same("transformer.wte.weight", "embedding.token.weight"),
        same("transformer.wpe.weight", "positions.place.weight"),
        *under("transformer.h.{i}.", "trunk.blocks.{i}.", block),
        *layer("transformer.ln_f", "norm"),
        *head_keys(decoder, "transformer.wte.weight"),
    ]


def _turned(public: str, own: str) -> list[AnyRule]:
    return [same(f"{public}.weight", f"{own}.weight", TRANSPOSED), same(f"{public}.bias", f"{own}.bias")]


TRUNK = Part(
    ("gpt2",),
    decoder,
    fields,
    keys,
    "GPT2LMHeadModel",
    spellings=[(r"^(wte|wpe|h|ln_f)\.", r"transformer.\1.")],
)
FAMILY = alone(
    "gpt2",
    TRUNK,
    Card(
        title="GPT-2",
        paper="Brown et al. 2020, arXiv:2005.14165",
        licence="MIT",
        preparation="byte-pair tokens; what is said stands one after the other",
        examples=("openai-community/gpt2",),
    ),
    template=CONTINUED,
)
