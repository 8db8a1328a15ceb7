"""OPT: GPT-3 rebuilt in the open, with learned positions, ReLU, and norms before or after each layer.

Zhang et al. 2022, "OPT: Open Pre-trained Transformer Language Models", arXiv:2205.01068. The size of 350 million has
its norms after each layer and a narrower table of words.
"""

from __future__ import annotations

from typing import Any

from ..core.spec import Spec
from ..modalities.chat.templates import CONTINUED
from ..nn.decoders.language_model import LanguageModel, PlaceEmbedding, VocabularyHead, WordEmbedding
from ..nn.layers.blocks import PostNorm, PreNorm, block
from ..nn.layers.drop_path import Dropout
from ..nn.layers.linear import Linear
from ..nn.layers.norms import LayerNorm
from ..nn.layers.transformer import Transformer
from ..weights.card import Card
from ..weights.config import Config
from ..weights.keymap import AnyRule, fused, layer, same, under
from ._parts import Part
from ._trunks import alone, fresh, head_keys

#: The public config of each size.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 128, "ffn_dim": 512, "num_hidden_layers": 4, "num_attention_heads": 4,
             "vocab_size": 2048, "max_position_embeddings": 512},
    "125m": {},
}  # fmt: skip
#: The first rows of the table of positions are not used: places were once counted from the padding token.
FIRST = 2


def opt(size: str = "125m") -> Spec:
    """The System with fresh weights."""
    return fresh("opt", SIZES, size, TRUNK)


def decoder(config: Config) -> Spec:
    """The language model of a public config."""
    width = config.take("hidden_size", int, 768, least=1)
    before = config.take("do_layer_norm_before", bool, True)
    biased = config.take("enable_bias", bool, True)
    rate = config.take("dropout", float, 0.1, least=0, most=1)
    one = block(
        width=width,
        heads=config.take("num_attention_heads", int, 12, least=1),
        hidden=config.take("ffn_dim", int, 3072, least=1),
        activation=config.take("activation_function", str, "relu"),
        biases="qkvo" if biased else "",
        placement=PreNorm if before else PostNorm,
        branch=Spec(Dropout, rate=rate) if rate else None,
        dropout=config.take("attention_dropout", float, 0.0, least=0, most=1),
    )
    depth = config.take("num_hidden_layers", int, 12, least=1)
    vocabulary = config.take("vocab_size", int, 50_272, least=1)
    narrow = config.take("word_embed_proj_dim", int | None, None, least=1) or width
    tied = config.take("tie_word_embeddings", bool, True)
    bare = config.take("_remove_final_layer_norm", bool, False)
    config.expect("layer_norm_elementwise_affine", True)
    config.expect("layerdrop", 0.0)
    config.ignore("bos_token_id", "eos_token_id", "pad_token_id")  # the vocabulary has them
    config.ignore("activation_dropout", "init_std", "use_cache")
    return Spec(
        LanguageModel,
        embedding=Spec(WordEmbedding, vocabulary=vocabulary, width=narrow, project=_between(narrow, width)),
        trunk=Spec(Transformer, width=width, depth=depth, block=one.set("feed_forward.bias", biased)),
        norm=Spec(LayerNorm, width=width) if before and not bare else None,
        positions=Spec(
            PlaceEmbedding,
            length=config.take("max_position_embeddings", int, 2048, least=1),
            width=width,
            first=FIRST,
        ),
        narrow=_between(width, narrow),
        head=None if tied else Spec(VocabularyHead, width=narrow, vocabulary=vocabulary),
    )


def _between(inner: int, outer: int) -> Spec | None:
    """What brings rows from one width to another."""
    return None if inner == outer else Spec(Linear, in_features=inner, out_features=outer, bias=False)


def fields(decoder: Spec) -> dict[str, Any]:
    """The fields of a config from which ``decoder`` makes this."""
    trunk, one = decoder.trunk, decoder.trunk.block
    return {
        "model_type": "opt",
        "hidden_size": trunk.width,
        "num_hidden_layers": trunk.depth,
        "num_attention_heads": one.attention.heads,
        "ffn_dim": one.feed_forward.hidden,
        "activation_function": one.feed_forward.activation,
        "enable_bias": one.feed_forward.bias,
        "do_layer_norm_before": one.cls is PreNorm,
        "_remove_final_layer_norm": one.cls is PreNorm and decoder.norm is None,
        "dropout": one.branch.rate if one.branch is not None else 0.0,
        "attention_dropout": one.attention.dropout,
        "max_position_embeddings": decoder.positions.length,
        "vocab_size": decoder.embedding.vocabulary,
        "word_embed_proj_dim": decoder.embedding.width,
        "tie_word_embeddings": decoder.head is None,
    }


def keys(decoder: Spec) -> list[AnyRule]:
    """The names of a public checkpoint."""
    block: list[AnyRule] = [
        *fused([f"self_attn.{part}_proj" for part in "qkv"], "attention.qkv"),
        *layer("self_attn.out_proj", "attention.out"),
        *layer("self_attn_layer_norm", "norm_attention"),
        *layer("fc1", "feed_forward.up"),
        *layer("fc2", "feed_forward.down"),
        *layer("final_layer_norm", "norm_feed_forward"),
    ]
    return [
        same("model.decoder.embed_tokens.weight", "embedding.token.weight"),
        same("model.decoder.project_in.weight", "embedding.project.weight"),
        same("model.decoder.embed_positions.weight", "positions.place.weight"),
        *under("model.decoder.layers.{i}.", "trunk.blocks.{i}.", block),
        *layer("model.decoder.final_layer_norm", "norm"),
        same("model.decoder.project_out.weight", "narrow.weight"),
        *head_keys(decoder, "model.decoder.embed_tokens.weight"),
    ]


TRUNK = Part(("opt",), decoder, fields, keys, "OPTForCausalLM", spellings=[(r"^decoder\.", "model.decoder.")])
FAMILY = alone(
    "opt",
    TRUNK,
    Card(
        title="OPT",
        paper="Zhang et al. 2022, arXiv:2205.01068",
        licence="OPT licence, research only",
        preparation="byte-pair tokens, each text begun by the token that ends one",
        examples=("facebook/opt-125m", "facebook/opt-2.7b"),
    ),
    template=CONTINUED,
)
