"""What BLIP-2 and InstructBLIP share: the vision transformer of EVA-CLIP, the Q-Former, and what stands around them."""

from __future__ import annotations

from typing import Any

from ..core.spec import Spec
from ..modalities.chat.conversation import Conversation
from ..modalities.chat.placeholders import Repeated
from ..nn.connectors.projector import Projector
from ..nn.connectors.qformer import QFormer, Queried
from ..nn.decoders.seq2seq import Seq2Seq
from ..nn.encoders.patch_tower import PatchEmbedding, PatchTower
from ..nn.encoders.token_tower import TokenEmbedding
from ..nn.heads.pooling import FirstToken, Pool
from ..nn.layers.norms import LayerNorm
from ..nn.layers.tables import PositionTable
from ..weights.config import Config
from ..weights.family import Folder
from ..weights.keymap import AnyRule, Drop, convolution, fused, layer, same, shaped, under
from ._parts import part_in, part_of
from ._shared import PROCESSOR_CONFIG, block_fields, blocks
from ._trunks import around
from ._vit import sides
from ._vlm import placeholder

PROCESSOR = "BlipImageProcessor"
TRUNK, IMAGE = "opt", "<image>"
#: The placeholder in files that do not say: the first token behind the vocabulary.
_BEHIND = {"opt": 50_265, "t5": 32_100, "llama": 32_000}
_PICTURES = (
    "{% for message in messages %}{% for part in message['content'] if part['type'] == 'image' %}"
    f"{IMAGE}{{% endfor %}}{{% endfor %}}"
)
_TEXTS = (
    "{{% for message in messages %}}{{% for part in message['content'] if part['type'] == 'text' %}}"
    "{{% if message['role'] == 'assistant' %}}{{% generation %}}{answer}{{% endgeneration %}}"
    "{{% else %}}{asked}{{% endif %}}{{% endfor %}}{after}{{% endfor %}}"
)
_SPACED = "{% if not part['text'].startswith(' ') %} {% endif %}{{ part['text'] }}"


def template(decoder: Spec, *, spaced: bool, end: str = "eos_token") -> str:
    """What a model without a template of its own was trained with: pictures before all else, then what is asked as it
    is written, then the answer and its ``end``. With ``spaced``, a space stands before each text.
    """
    if decoder.cls is Seq2Seq:  # what is read has an end as well
        asked, answer = "{{ part['text'] }}", "{{ part['text'] }}{{ eos_token }}"
        after = "{% if message['role'] != 'assistant' %}{{ eos_token }}{% endif %}"
        return _PICTURES + _TEXTS.format(asked=asked, answer=answer, after=after)
    told = "{% set told.any = true %}"
    answer = f"{{% if told.any %}}{_SPACED}{{% else %}}{{{{ part['text'] }}}}{{% endif %}}{{{{ {end} }}}}"
    asked = (_SPACED if spaced else "{{ part['text'] }}") + told
    start = f"{{{{ bos_token }}}}{{% set told = namespace(any={str(spaced).lower()}) %}}"
    return _PICTURES + start + _TEXTS.format(asked=asked, answer=answer, after="")


def words(queries: int, template: str, **more: Any) -> Spec:
    """How conversations are prepared: each picture is ``queries`` places."""
    held = Spec(Repeated, written=IMAGE, token=IMAGE, count=queries)
    return Spec(
        Conversation, placeholders={"image": held}, special=[IMAGE], fallback=template, begin=False, **more
    )


def processor(name: str, queries: int | None) -> dict[str, dict[str, Any]]:
    """The file by which others put ``queries`` places before a text; None where there are none."""
    return {PROCESSOR_CONFIG: {"processor_class": name, "num_query_tokens": queries}}


def size_of(folder: Folder) -> dict[str, Any]:
    """How large pictures are where no file says it: as the image tower reads them."""
    height, width = sides(folder.config.section("vision_config"), "image_size", 224)
    return {"size": {"height": height, "width": width}}


def vision(config: Config, kind: str) -> Spec:
    """The image tower of a public ``vision_config`` of the model type ``kind``."""
    config.expect("model_type", kind)
    width = config.take("hidden_size", int, 1408, least=1)
    image, patch = sides(config, "image_size", 224), sides(config, "patch_size", 14)
    eps, trunk = blocks(config, width, hidden=6144, depth=39, heads=16, activation="gelu", eps=1e-6)
    if not config.take("qkv_bias", bool, True):
        trunk = trunk.set("block.attention.biases", "o")
    config.expect("num_channels", 3)
    config.ignore("projection_dim", "initializer_range", "initializer_factor", "dropout")
    grid = [side // part for side, part in zip(image, patch, strict=True)]
    return Spec(
        PatchTower,
        embedding=Spec(
            PatchEmbedding,
            patch=patch,
            channels=3,
            width=width,
            positions=Spec(PositionTable, grid=grid, width=width, prefix=1),
        ),
        trunk=trunk,
        norm_out=Spec(LayerNorm, width=width, eps=eps),
        pool=Spec(Pool, width=width, select=Spec(FirstToken)),
    )


def vision_fields(tower: Spec) -> dict[str, Any]:
    """The ``vision_config`` from which ``vision`` makes this tower, without its model type."""
    patch, grid = tower.embedding.patch, tower.embedding.positions.grid
    size = [side * part for side, part in zip(grid, patch, strict=True)]
    square = size[0] == size[1] and patch[0] == patch[1]
    return block_fields(tower.trunk) | {
        "image_size": size[0] if square else size,
        "patch_size": patch[0] if square else list(patch),
        "qkv_bias": "q" in tower.trunk.block.attention.biases,
    }


def vision_keys(tower: Spec) -> list[AnyRule]:
    """The image tower."""
    width = tower.trunk.width
    block: list[AnyRule] = [
        *layer("self_attn.qkv", "attention.qkv"),
        *layer("self_attn.projection", "attention.out"),
        *layer("layer_norm1", "norm_attention"),
        *layer("layer_norm2", "norm_feed_forward"),
        *layer("mlp.fc1", "feed_forward.up"),
        *layer("mlp.fc2", "feed_forward.down"),
    ]
    kernel = convolution(*tower.embedding.patch)
    return [
        same("embeddings.class_embedding", "embedding.prefix", shaped([1, 1, -1], [1, -1])),
        same(
            "embeddings.position_embedding",
            "embedding.positions.weight",
            shaped([1, -1, width], [-1, width]),
        ),
        same("embeddings.patch_embedding.weight", "embedding.project.weight", kernel),
        same("embeddings.patch_embedding.bias", "embedding.project.bias"),
        *under("encoder.layers.{i}.", "trunk.blocks.{i}.", block),
        *layer("post_layernorm", "norm_out"),
    ]


def qformer(config: Config, kind: str, inner: int, queries: int, *, reads: bool) -> Spec:
    """The Q-Former of a public ``qformer_config`` of the model type ``kind``, over tokens of width ``inner``."""
    config.expect("model_type", kind)
    config.expect("position_embedding_type", "absolute")
    config.ignore("encoder_hidden_size", "initializer_range", "pad_token_id", "classifier_dropout")
    width = config.take("hidden_size", int, 768, least=1)
    vocabulary = config.take("vocab_size", int, 30_522, least=1)
    length = config.take("max_position_embeddings", int, 512, least=1)
    return Spec(
        QFormer,
        inner=inner,
        width=width,
        depth=config.take("num_hidden_layers", int, 12, least=1),
        heads=config.take("num_attention_heads", int, 12, least=1),
        hidden=config.take("intermediate_size", int, 3072, least=1),
        queries=queries,
        every=config.take("cross_attention_frequency", int, 2, least=1),
        words=Spec(TokenEmbedding, vocabulary=vocabulary, width=width, length=length) if reads else None,
        activation=config.take("hidden_act", str, "gelu"),
        eps=config.take("layer_norm_eps", float, 1e-12, least=0),
        dropout=config.take("hidden_dropout_prob", float, 0.1, least=0, most=1),
        attention_dropout=config.take("attention_probs_dropout_prob", float, 0.1, least=0, most=1),
    )


def qformer_fields(qformer: Spec) -> dict[str, Any]:
    """The ``qformer_config`` from which ``qformer`` makes this, without its model type."""
    held = qformer.words
    table = {} if held is None else {"vocab_size": held.vocabulary, "max_position_embeddings": held.length}
    return table | {
        "encoder_hidden_size": qformer.inner,
        "hidden_size": qformer.width,
        "num_hidden_layers": qformer.depth,
        "num_attention_heads": qformer.heads,
        "intermediate_size": qformer.hidden,
        "cross_attention_frequency": qformer.every,
        "hidden_act": qformer.activation,
        "layer_norm_eps": qformer.eps,
        "hidden_dropout_prob": qformer.dropout,
        "attention_probs_dropout_prob": qformer.attention_dropout,
    }


def qformer_keys(qformer: Spec, own: str, *, norm: str, table: str) -> list[AnyRule]:
    """The Q-Former, ``own`` of the network's parts; ``norm`` and ``table`` are the public names of its first norm and
    of its words.
    """
    block: list[AnyRule] = [
        *fused([f"attention.attention.{part}" for part in ("query", "key", "value")], "attention.qkv"),
        *layer("attention.output.dense", "attention.out"),
        *layer("attention.output.LayerNorm", "norm_attention"),
        *layer("crossattention.attention.query", "cross.q"),
        *fused([f"crossattention.attention.{part}" for part in ("key", "value")], "cross.kv"),
        *layer("crossattention.output.dense", "cross.out"),
        *layer("crossattention.output.LayerNorm", "norm_cross"),
    ]
    for public, ours in (("_query", "queries"), ("", "words")):
        block += layer(f"intermediate{public}.dense", f"feed_{ours}.up")
        block += layer(f"output{public}.dense", f"feed_{ours}.down")
        block += layer(f"output{public}.LayerNorm", f"norm_{ours}")
    return [
        same("query_tokens", f"{own}queries", shaped([1, -1, qformer.width], [-1, qformer.width])),
        *layer(norm, f"{own}norm_in"),
        same(f"{table}.word_embeddings.weight", f"{own}words.token.weight"),
        same(f"{table}.position_embeddings.weight", f"{own}words.position.weight"),
        Drop(f"{table}.position_ids", "places are counted"),
        *under("qformer.encoder.layer.{i}.", f"{own}blocks.{{i}}.", block),
    ]


def network(config: Config, tower: Spec, former: Spec) -> Spec:
    """The network of a public config: ``former`` between ``tower`` and the language model that the config names."""
    section = config.section("text_config")
    part = part_of(section, TRUNK)
    decoder = part.read(section)
    config.expect("use_decoder_only_language_model", decoder.cls is not Seq2Seq)
    config.ignore("is_encoder_decoder", "tie_word_embeddings", "initializer_factor", "initializer_range")
    otherwise = _BEHIND.get(part.model_types[0])
    return around(
        decoder,
        towers={"image": tower},
        connectors={
            "image": Spec(
                Queried,
                qformer=former,
                projector=Spec(Projector, inner=former.width, width=decoder.trunk.width),
            )
        },
        placeholders={
            "image": placeholder(config, "image_token_index", "image_token_id", otherwise=otherwise)
        },
    )


def network_fields(spec: Spec) -> dict[str, Any]:
    """The fields of a config from which ``network`` is made, and the two sections without their model types."""
    network = spec.model
    former = network.connectors["image"].qformer
    return {
        "text_config": part_in(spec, "text_config", TRUNK).write(network.decoder),
        "vision_config": vision_fields(network.towers["image"]),
        "qformer_config": qformer_fields(former),
        "num_query_tokens": former.queries,
        "image_token_index": network.placeholders["image"],
        "use_decoder_only_language_model": network.decoder.cls is not Seq2Seq,
    }


def network_keys(spec: Spec, *, norm: str, table: str) -> list[AnyRule]:
    """All parts of ``network``."""
    network = spec.model
    former = network.connectors["image"].qformer
    trunk = part_in(spec, "text_config", TRUNK).keys(network.decoder)
    return [
        *under("vision_model.", "towers.image.", vision_keys(network.towers["image"])),
        *qformer_keys(former, "connectors.image.qformer.", norm=norm, table=table),
        *layer("language_projection", "connectors.image.projector.layers.0"),
        *under("language_model.", "decoder.", trunk),
    ]
