"""T5: every task as text to text, with one stack that reads and one that writes.

Raffel et al. 2019, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer",
arXiv:1910.10683; Flan-T5: Chung et al. 2022, arXiv:2210.11416.
"""

from __future__ import annotations

from typing import Any

from ..core.spec import Spec
from ..nn.decoders.language_model import VocabularyHead, WordEmbedding
from ..nn.decoders.seq2seq import CrossBlock, Reader, Seq2Seq
from ..nn.layers.attention import CrossAttention, SelfAttention
from ..nn.layers.blocks import PreNorm
from ..nn.layers.drop_path import Dropout
from ..nn.layers.feed_forward import MLP, GatedMLP
from ..nn.layers.norms import RMSNorm
from ..nn.layers.relative import BucketBias
from ..nn.layers.transformer import Transformer
from ..weights.card import Card
from ..weights.config import Config
from ..weights.keymap import AnyRule, Drop, fuse, same, under
from ._parts import Part
from ._trunks import alone, fresh

_FORM = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}  # of version 1.1
#: The public config of each size.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": _FORM
    | {"vocab_size": 2048, "d_model": 128, "d_kv": 32, "d_ff": 256, "num_layers": 3, "num_heads": 4},
    "small": _FORM | {"d_ff": 1024, "num_layers": 8, "num_heads": 6},
    "base": _FORM | {"d_model": 768, "num_layers": 12, "num_heads": 12},
}
#: What is asked ends as an answer does. Checkpoints have no template of their own.
TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] if part['type'] == 'text' %}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ part['text'] }}{{ eos_token }}{% endgeneration %}"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "{% if message['role'] != 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
)
_GELU = {"gelu": "gelu_new"}  # of a gated layer


def t5(size: str = "small") -> Spec:
    """The System with fresh weights, in the form of version 1.1."""
    return fresh("t5", SIZES, size, TRUNK)


def decoder(config: Config) -> Spec:
    """The language model of a public config."""
    width = config.take("d_model", int, 512, least=1)
    heads, depth = config.take("num_heads", int, 8, least=1), config.take("num_layers", int, 6, least=1)
    vocabulary = config.take("vocab_size", int, 32_128, least=1)
    dropout = config.take("dropout_rate", float, 0.1, least=0, most=1)
    norm = Spec(RMSNorm, width=width, eps=config.take("layer_norm_epsilon", float, 1e-6, least=0))
    looks = {
        "width": width,
        "heads": heads,
        "head_width": config.take("d_kv", int, 64, least=1),
        "biases": "",
        "scale": 1.0,
        "dropout": dropout,
    }
    attention = Spec(SelfAttention, **looks)
    parts = {
        "norm": norm,
        "attention": attention,
        "feed_forward": _feed_forward(config, width, dropout),
        "branch": Spec(Dropout, rate=dropout),
    }
    cross = Spec(CrossAttention, context_width=width, **looks)
    distances = Spec(
        BucketBias,
        heads=heads,
        buckets=config.take("relative_attention_num_buckets", int, 32, least=2),
        farthest=config.take("relative_attention_max_distance", int, 128, least=1),
    )
    config.expect("is_encoder_decoder", True)
    config.ignore("bos_token_id", "eos_token_id", "pad_token_id")  # the vocabulary has them
    config.ignore(
        "n_positions", "output_past", "classifier_dropout", "initializer_factor", "initializer_range"
    )
    # Version 1.1 has a head of its own and no scale. transformers 5 says so in a field of its own.
    tied = config.take("tie_word_embeddings", bool, True)
    tied = config.take("scale_decoder_outputs", bool, tied)
    return Spec(
        Seq2Seq,
        embedding=Spec(WordEmbedding, vocabulary=vocabulary, width=width),
        reader=Spec(
            Reader,
            trunk=Spec(Transformer, width=width, depth=depth, block=Spec(PreNorm, **parts)),
            norm=norm,
            distances=distances,
            dropout=dropout,
        ),
        trunk=Spec(
            Transformer,
            width=width,
            depth=config.take("num_decoder_layers", int | None, depth, least=1) or depth,
            block=Spec(CrossBlock, cross=cross, **parts),
        ),
        norm=norm,
        distances=distances.replace(causal=True),
        head=None if tied else Spec(VocabularyHead, width=width, vocabulary=vocabulary),
        scale=width**-0.5 if tied else 1.0,
        start=config.take("decoder_start_token_id", int | None, 0, least=0) or 0,
        dropout=dropout,
    )


def _feed_forward(config: Config, width: int, dropout: float) -> Spec:
    gate, _, name = config.take("feed_forward_proj", str, "relu").rpartition("-")
    if gate not in ("", "gated"):
        raise config.error("feed_forward_proj", f"expected gated-... or an activation, found '{gate}-{name}'")
    activation = _GELU.get(name, name) if gate else name
    config.expect("is_gated_act", bool(gate))
    config.expect("dense_act_fn", activation)
    sizes = {"width": width, "hidden": config.take("d_ff", int, 2048, least=1)}
    return Spec(GatedMLP if gate else MLP, activation=activation, bias=False, dropout=dropout, **sizes)


def fields(decoder: Spec) -> dict[str, Any]:
    """The fields of a config from which ``decoder`` makes this."""
    reader, block = decoder.reader, decoder.trunk.block
    fed = block.feed_forward
    plain = {theirs: ours for ours, theirs in _GELU.items()}
    return {
        "model_type": "t5",
        "vocab_size": decoder.embedding.vocabulary,
        "d_model": decoder.trunk.width,
        "d_kv": block.attention.head_width,
        "d_ff": fed.hidden,
        "num_layers": reader.trunk.depth,
        "num_decoder_layers": decoder.trunk.depth,
        "num_heads": block.attention.heads,
        "relative_attention_num_buckets": decoder.distances.buckets,
        "relative_attention_max_distance": decoder.distances.farthest,
        "dropout_rate": decoder.dropout,
        "layer_norm_epsilon": block.norm.eps,
        "feed_forward_proj": f"gated-{plain.get(fed.activation, fed.activation)}"
        if fed.cls is GatedMLP
        else fed.activation,
        "is_encoder_decoder": True,
        "decoder_start_token_id": decoder.start,
        "tie_word_embeddings": decoder.head is None,
    }


def keys(decoder: Spec) -> list[AnyRule]:
    """Both stacks, the table of words and the head."""
    table = "shared.weight"
    copies = ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"]
    head: list[AnyRule] = (
        [Drop("lm_head.weight", "it is the table of words", equal=table)]
        if decoder.head is None
        # transformers 5 leaves it out where it is the same.
        else [same("lm_head.weight", "head.weight"), same(table, "head.weight")]
    )
    unused = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    return [
        same(table, "embedding.token.weight"),
        *(Drop(name, "it is the shared table of words", equal=table) for name in copies),
        *_stack("encoder", "reader.", decoder.reader.trunk.block),
        *_stack("decoder", "", decoder.trunk.block),
        Drop(unused, "words written have no distance to words read"),
        *head,
    ]


def _stack(public: str, own: str, block: Spec) -> list[AnyRule]:
    layers: list[AnyRule] = [
        fuse([f"layer.0.SelfAttention.{part}.weight" for part in "qkv"], "attention.qkv.weight"),
        same("layer.0.SelfAttention.o.weight", "attention.out.weight"),
        same("layer.0.layer_norm.weight", "norm_attention.weight"),
    ]
    last = "layer.1"
    if block.cls is CrossBlock:
        last = "layer.2"
        layers += [
            same("layer.1.EncDecAttention.q.weight", "cross.q.weight"),
            fuse([f"layer.1.EncDecAttention.{part}.weight" for part in "kv"], "cross.kv.weight"),
            same("layer.1.EncDecAttention.o.weight", "cross.out.weight"),
            same("layer.1.layer_norm.weight", "norm_cross.weight"),
        ]
    first = (
        fuse([f"{last}.DenseReluDense.wi_{part}.weight" for part in "01"], "feed_forward.gate_up.weight")
        if block.feed_forward.cls is GatedMLP
        else same(f"{last}.DenseReluDense.wi.weight", "feed_forward.up.weight")
    )
    layers += [
        first,
        same(f"{last}.DenseReluDense.wo.weight", "feed_forward.down.weight"),
        same(f"{last}.layer_norm.weight", "norm_feed_forward.weight"),
    ]
    distances = "block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    return [
        *under(f"{public}.block.{{i}}.", f"{own}trunk.blocks.{{i}}.", layers),
        same(f"{public}.{distances}", f"{own}distances.weight"),
        same(f"{public}.final_layer_norm.weight", f"{own}norm.weight"),
    ]


TRUNK = Part(("t5",), decoder, fields, keys, "T5ForConditionalGeneration")
FAMILY = alone(
    "t5",
    TRUNK,
    Card(
        title="T5",
        paper="Raffel et al. 2019, arXiv:1910.10683",
        licence="Apache 2.0",
        preparation="SentencePiece tokens; what is asked ends with the end token, as the answer does",
        examples=("google/flan-t5-base", "google-t5/t5-small"),
    ),
    template=TEMPLATE,
)
