"""What pages of language models share: the family of one alone, and the parts of LLaMA and its kin."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..core.errors import ConfigError, nearest
from ..core.spec import Spec
from ..core.system import System
from ..modalities.chat.conversation import Conversation
from ..nn.architectures.multimodal_lm import MultimodalLM
from ..nn.architectures.multimodal_seq2seq import MultimodalSeq2Seq
from ..nn.decoders.language_model import LanguageModel, VocabularyHead, WordEmbedding
from ..nn.decoders.seq2seq import Seq2Seq
from ..nn.layers.attention import SelfAttention
from ..nn.layers.blocks import PreNorm
from ..nn.layers.feed_forward import GatedMLP
from ..nn.layers.norms import RMSNorm
from ..nn.layers.transformer import Transformer
from ..objectives import NextToken
from ..training.optimizer import AdamW
from ..training.settings import Loading
from ..training.trainer import Training
from ..weights.card import Card
from ..weights.config import Config
from ..weights.family import Family, Folder
from ..weights.keymap import AnyRule, Drop, KeyMap, fused, layer, same, under
from ._layers import layers
from ._parts import Part
from ._rope import rotary, rotary_fields


def system(
    family: str | None, network: Spec, modalities: Mapping[str, Spec], *, lr: float = 2e-5, batch: int = 128
) -> Spec:
    """A model that learns to write the next token of what is to be answered."""
    return Spec(
        System,
        modalities=dict(modalities),
        model=network,
        objectives={"language": Spec(NextToken, stream=network.language)},
        contrastive=None,
        training=Spec(
            Training,
            loading=Spec(Loading, batch=batch, withhold=0.0, corrupt=0.0),
            optimizer=Spec(AdamW, lr=lr, weight_decay=0.0),
        ),
        family=family,
    )


def around(decoder: Spec, **media: Any) -> Spec:
    """The network of a language model: with one stack, or with one that reads and one that writes."""
    kind = MultimodalSeq2Seq if decoder.cls is Seq2Seq else MultimodalLM
    return Spec(kind, language="text", decoder=decoder, **media)


def alone(name: str, trunk: Part, card: Card, template: str | None = None) -> Family:
    """The family of a language model without other media; ``template`` is for checkpoints without one."""

    def read(folder: Folder) -> Spec:
        folder.config.take("model_type", str)
        network = around(trunk.read(folder.config))
        folder.config.finish()
        words = Spec(Conversation, fallback=template, max_tokens=places(network.decoder))
        return system(name, network, {"text": words})

    def write(spec: Spec) -> dict[str, dict[str, Any]]:
        return {"config.json": {"architectures": [trunk.architecture], **trunk.write(spec.model.decoder)}}

    def keys(spec: Spec) -> KeyMap:
        return KeyMap(under("", "decoder.", trunk.keys(spec.model.decoder)), trunk.spellings)

    return Family(name=name, model_types=trunk.model_types, read=read, write=write, keys=keys, card=card)


def places(decoder: Spec) -> int | None:
    """How many tokens a language model can read; None where there is no table of places."""
    table = decoder.positions if decoder.cls is LanguageModel else None
    return None if table is None else table.length


def fresh(name: str, sizes: Mapping[str, Mapping[str, Any]], size: str, trunk: Part) -> Spec:
    """A language model with fresh weights in one of ``sizes``; its vocabulary is learnt from your texts."""
    if size not in sizes:
        raise ConfigError(f"{name} has no size {size!r}{nearest(size, sizes)}")
    config = Config(sizes[size], file=Path(f"{name}:{size}"))
    network = around(trunk.read(config))
    config.finish()
    size = network.decoder.embedding.vocabulary
    words = Spec(Conversation, vocabulary=size, max_tokens=places(network.decoder))
    return system(None, network, {"text": words}, lr=3e-4)


def language_model(config: Config, trunk: Spec, norm: Spec, *, tied: bool, scale: float = 1.0) -> Spec:
    """The usual language model around a trunk: one table of words, and a head of its own unless ``tied``."""
    vocabulary = config.take("vocab_size", int, 32_000, least=1)
    config.ignore("bos_token_id", "eos_token_id", "pad_token_id")  # the vocabulary has them
    config.ignore("max_position_embeddings", "initializer_range", "use_cache")
    tied = config.take("tie_word_embeddings", bool, tied)
    return Spec(
        LanguageModel,
        embedding=Spec(WordEmbedding, vocabulary=vocabulary, width=trunk.width, scale=scale),
        trunk=trunk,
        norm=norm,
        head=None if tied else Spec(VocabularyHead, width=trunk.width, vocabulary=vocabulary),
    )


def gated(
    config: Config,
    *,
    biases: str = "",
    mlp_bias: bool = False,
    head_norm: bool = False,
    turned: Callable[[Config, int], Spec] = rotary,
) -> Spec:
    """The trunk of LLaMA and its kin: RMSNorm before rotary attention with grouped heads, and before a gated
    feed-forward. ``biases`` are those of attention; with ``head_norm``, queries and keys of each head are normalised.
    ``turned`` reads how heads of a width are turned.
    """
    width = config.take("hidden_size", int, 4096, least=1)
    heads = config.take("num_attention_heads", int, 32, least=1)
    groups = config.take("num_key_value_heads", int | None, heads, least=1)
    head_width = config.take("head_dim", int | None, None, least=1) or width // heads
    eps = config.take("rms_norm_eps", float, 1e-6, least=0)
    norm = Spec(RMSNorm, width=head_width, eps=eps) if head_norm else None
    block = Spec(
        PreNorm,
        norm=Spec(RMSNorm, width=width, eps=eps),
        attention=Spec(
            SelfAttention,
            width=width,
            heads=heads,
            groups=groups or heads,
            head_width=head_width,
            biases=biases,
            rotary=turned(config, head_width),
            norm_query=norm,
            norm_key=norm,
            dropout=config.take("attention_dropout", float, 0.0, least=0, most=1),
        ),
        feed_forward=Spec(
            GatedMLP,
            width=width,
            hidden=config.take("intermediate_size", int, 11_008, least=1),
            activation=config.take("hidden_act", str, "silu"),
            bias=mlp_bias,
        ),
    )
    return Spec(
        Transformer, width=width, depth=config.take("num_hidden_layers", int, 32, least=1), block=block
    )


def gated_fields(decoder: Spec) -> dict[str, Any]:
    """The fields of a config from which ``gated`` and ``language_model`` make this."""
    trunk, block = decoder.trunk, layers(decoder.trunk)[0]
    attention = block.attention
    return {
        "hidden_size": trunk.width,
        "num_hidden_layers": trunk.depth,
        "num_attention_heads": attention.heads,
        "num_key_value_heads": attention.groups,
        "head_dim": attention.head_width,
        "intermediate_size": block.feed_forward.hidden,
        "hidden_act": block.feed_forward.activation,
        "rms_norm_eps": block.norm.eps,
        "attention_dropout": attention.dropout,
        "vocab_size": decoder.embedding.vocabulary,
        "tie_word_embeddings": decoder.head is None,
        **rotary_fields(attention.rotary, attention.head_width),
    }


def gated_keys(decoder: Spec) -> list[AnyRule]:
    """The names of LLaMA and its kin."""
    attention = layers(decoder.trunk)[0].attention
    sizes = [n * attention.head_width for n in (attention.heads, attention.groups, attention.groups)]
    block: list[AnyRule] = [
        *fused([f"self_attn.{part}_proj" for part in "qkv"], "attention.qkv", sizes),
        *layer("self_attn.o_proj", "attention.out"),
        same("self_attn.q_norm.weight", "attention.norm_query.weight"),
        same("self_attn.k_norm.weight", "attention.norm_key.weight"),
        *fused(["mlp.gate_proj", "mlp.up_proj"], "feed_forward.gate_up"),
        *layer("mlp.down_proj", "feed_forward.down"),
        same("input_layernorm.weight", "norm_attention.weight"),
        same("post_attention_layernorm.weight", "norm_feed_forward.weight"),
        Drop("self_attn.rotary_emb.inv_freq", "angles are computed"),
    ]
    return [
        same("model.embed_tokens.weight", "embedding.token.weight"),
        *under("model.layers.{i}.", "trunk.blocks.{i}.", block),
        same("model.norm.weight", "norm.weight"),
        *head_keys(decoder, "model.embed_tokens.weight"),
    ]


def head_keys(decoder: Spec, table: str) -> list[AnyRule]:
    """The head of a language model: its own, or the ``table`` of words under another name."""
    if decoder.head is None:
        return [Drop("lm_head.weight", "it is the table of words", equal=table)]
    return layer("lm_head", "head")
