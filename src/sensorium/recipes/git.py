"""GIT: pictures, or the frames of a clip, before the words of one language model.

Wang et al. 2022, "GIT: A Generative Image-to-text Transformer for Vision and Language", arXiv:2205.14100. The encoder
is CLIP's, the blocks are BERT's.
"""

from __future__ import annotations

import math
from typing import Any

from ..core.spec import Spec
from ..modalities.chat.conversation import Conversation
from ..modalities.chat.placeholders import PerPiece, Repeated
from ..modalities.public_images import image_config
from ..modalities.video import Video
from ..nn.architectures.multimodal_lm import MultimodalLM
from ..nn.connectors.composed import Framed
from ..nn.connectors.projector import Projector
from ..nn.decoders.before_words import MediaTogether, PlacedWords, WordPositions
from ..nn.decoders.language_model import LanguageModel, VocabularyHead, WordEmbedding
from ..nn.encoders.tiled import Tiled
from ..nn.heads.pooling import FirstToken, Pool
from ..nn.layers.blocks import PostNorm, block
from ..nn.layers.drop_path import Dropout
from ..nn.layers.norms import LayerNorm
from ..nn.layers.transformer import Transformer
from ..weights.card import Card
from ..weights.config import Config
from ..weights.family import Family, Folder
from ..weights.keymap import AnyRule, Drop, KeyMap, Rule, layer, same, shaped, under
from . import clip
from ._fresh import fresh
from ._shared import PREPROCESSOR, picture
from ._trunks import system
from ._vocabulary import vocabulary
from ._words import BLOCK

#: The public config of each size.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
        "vocab_size": 2048, "max_position_embeddings": 256,
        "vision_config": {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2,
                          "num_attention_heads": 4, "image_size": 64, "patch_size": 8},
    },
    "base": {},
}  # fmt: skip
PROCESSOR = "CLIPImageProcessor"
IMAGE, VIDEO = "image", "video"
#: What was trained: what is seen, then all that is said, from the first token of BERT to the last. Its vocabulary has
#: no token for what is seen: one behind all others holds the places.
TEMPLATE = (
    "{{% for message in messages %}}{{% for part in message['content'] if part['type'] == '{kind}' %}}{written}"
    "{{% endfor %}}{{% endfor %}}{{{{ cls_token }}}}"
    "{{% for message in messages %}}{{% for part in message['content'] if part['type'] == 'text' %}} "
    "{{% if message['role'] == 'assistant' %}}"
    "{{% generation %}}{{{{ part['text'] }}}}{{{{ sep_token }}}}{{% endgeneration %}}"
    "{{% else %}}{{{{ part['text'] }}}}{{% endif %}}{{% endfor %}}{{% endfor %}}"
)


def git(size: str = "base") -> Spec:
    """The System with fresh weights; its vocabulary is learnt from your texts."""
    return fresh(FAMILY, SIZES, size)


def decoder(config: Config) -> Spec:
    """The language model of a public config."""
    width = config.take("hidden_size", int, 768, least=1)
    eps = config.take("layer_norm_eps", float, 1e-12, least=0)
    rate = config.take("hidden_dropout_prob", float, 0.1, least=0, most=1)
    words = config.take("vocab_size", int, 30_522, least=1)
    one = block(
        width=width,
        heads=config.take("num_attention_heads", int, 12, least=1),
        hidden=config.take("intermediate_size", int, 3072, least=1),
        activation=config.take("hidden_act", str, "gelu"),
        eps=eps,
        placement=PostNorm,
        branch=Spec(Dropout, rate=rate),
        dropout=config.take("attention_probs_dropout_prob", float, 0.1, least=0, most=1),
    )
    config.expect("position_embedding_type", "absolute")
    config.expect("tie_word_embeddings", False)
    config.ignore("bos_token_id", "eos_token_id", "pad_token_id")  # the vocabulary has them
    config.ignore("initializer_range", "use_cache", "classifier_dropout")
    depth = config.take("num_hidden_layers", int, 6, least=1)
    return Spec(
        LanguageModel,
        embedding=Spec(WordEmbedding, vocabulary=words, width=width),
        trunk=Spec(Transformer, width=width, depth=depth, block=one),
        positions=Spec(
            PlacedWords,
            length=config.take("max_position_embeddings", int, 1024, least=1),
            width=width,
            norm=Spec(LayerNorm, width=width, eps=eps),
            dropout=rate,
        ),
        head=Spec(VocabularyHead, width=width, vocabulary=words, bias=True),
    )


def vision(config: Config) -> Spec:
    """The encoder of a public ``vision_config``: that of CLIP, whose last norm is for all tokens."""
    config.assume({"patch_size": 16})
    tower = clip.vision(config)
    width, norm = tower.trunk.width, tower.pool.norm
    return tower.replace(norm_out=norm, pool=Spec(Pool, width=width, select=Spec(FirstToken)))


def git_network(config: Config, pixels: Spec, place: int | None) -> Spec:
    """The network of a public config; ``place`` is the token of what is seen, by default the first behind the table."""
    language, tower = decoder(config), vision(config.section("vision_config"))
    tower = tower.set("embedding.values", pixels)
    frames = config.take("num_image_with_embedding", int | None, None, least=1)
    inner, width = tower.trunk.width, language.trunk.width
    norm = Spec(LayerNorm, width=width, eps=tower.norm_out.eps)
    between = Spec(Projector, inner=inner, width=width, norm_out=norm)
    if frames is not None:
        between = Spec(Framed, width=inner, tokens=tokens(tower), frames=frames, connector=between)
        tower = Spec(Tiled, tower=tower)
    kind = IMAGE if frames is None else VIDEO
    return Spec(
        MultimodalLM,
        language="text",
        decoder=language,
        towers={kind: tower},
        connectors={kind: between},
        placeholders={kind: language.embedding.vocabulary if place is None else place},
        visibility=Spec(MediaTogether),
        positions=Spec(WordPositions),
    )


def tokens(tower: Spec) -> int:
    """How many rows a picture becomes."""
    return math.prod(tower.embedding.positions.grid) + tower.embedding.positions.prefix


def read(folder: Folder) -> Spec:
    """The System of a public checkpoint."""
    folder.config.take("model_type", str)
    side = folder.config.section("vision_config").take("image_size", int, 224, least=1)
    usual = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    seen, pixels = picture(folder, PROCESSOR, usual)
    network = git_network(folder.config, pixels, None)
    folder.config.finish()
    kind, tower, frames = _eye(network)
    written = f"<{kind}>"
    if (words := vocabulary(folder)) is not None:
        place = words.engine.id(written)
        network = network.replace(placeholders={kind: words.engine.size if place is None else place})
    if frames is not None:
        seen = Spec(Video, frames=frames, geometry=seen.geometry, mean=None, fill=True)
    held = Spec(
        PerPiece if frames is not None else Repeated, written=written, token=written, count=tokens(tower)
    )
    text = Spec(
        Conversation,
        placeholders={kind: held},
        special=[written],
        fallback=TEMPLATE.format(kind=kind, written=written),
        begin=False,
    )
    return system("git", network, {kind: seen, "text": text})


def _eye(network: Spec) -> tuple[str, Spec, int | None]:
    """What is seen, the tower that reads one picture of it, and how many frames a clip has at most."""
    (kind, tower), *_ = network.towers.items()
    if kind == IMAGE:
        return kind, tower, None
    return kind, tower.tower, network.connectors[kind].frames


def write(spec: Spec) -> dict[str, dict[str, Any]]:
    """The files beside the tensors, as others read them."""
    kind, tower, frames = _eye(spec.model)
    language = spec.model.decoder
    one = language.trunk.block
    config = {
        "architectures": ["GitForCausalLM"],
        "model_type": "git",
        "vocab_size": language.embedding.vocabulary,
        "hidden_size": language.trunk.width,
        "num_hidden_layers": language.trunk.depth,
        "num_attention_heads": one.attention.heads,
        "intermediate_size": one.feed_forward.hidden,
        "hidden_act": one.feed_forward.activation,
        "hidden_dropout_prob": one.branch.rate,
        "attention_probs_dropout_prob": one.attention.dropout,
        "layer_norm_eps": one.norm.eps,
        "max_position_embeddings": language.positions.length,
        "tie_word_embeddings": False,
        "num_image_with_embedding": frames,
        "vision_config": clip.vision_fields(tower) | {"model_type": "git_vision_model"},
    }
    prepared = image_config(spec.modalities[kind], tower.embedding.values, PROCESSOR)
    return {"config.json": config, PREPROCESSOR: prepared}


def keys(spec: Spec) -> KeyMap:
    """The encoder, the map between, the blocks and the head."""
    kind, tower, frames = _eye(spec.model)
    eye = f"towers.{kind}." if frames is None else f"towers.{kind}.tower."
    between = f"connectors.{kind}." if frames is None else f"connectors.{kind}.connector."
    width = tower.trunk.width
    rules: list[AnyRule] = [
        same("embeddings.word_embeddings.weight", "decoder.embedding.token.weight"),
        same("embeddings.position_embeddings.weight", "decoder.positions.place.weight"),
        *layer("embeddings.LayerNorm", "decoder.positions.norm"),
        Drop("embeddings.position_ids", "places are counted"),
        *under("encoder.layer.{i}.", "decoder.trunk.blocks.{i}.", BLOCK),
        *under(
            "image_encoder.vision_model.",
            eye,
            [*layer("post_layernorm", "norm_out"), *clip.vision_keys(tower)],
        ),
        *layer("visual_projection.visual_projection.0", f"{between}layers.0"),
        *layer("visual_projection.visual_projection.1", f"{between}norm_out"),
    ]
    if frames is not None:
        places = tuple(f"img_temporal_embedding.{frame}" for frame in range(frames))
        rules.append(Rule(places, f"connectors.{kind}.place.weight", shaped([-1, 1, width], [-1, width])))
    return KeyMap([*under("git.", "", rules), *layer("output", "decoder.head")])


FAMILY = Family(
    name="git",
    model_types=("git",),
    read=read,
    write=write,
    keys=keys,
    card=Card(
        title="GIT",
        paper="Wang et al. 2022, arXiv:2205.14100",
        licence="MIT",
        preparation="central 224 x 224 bicubic, 197 rows a picture or frame; word pieces in lower case",
        examples=("microsoft/git-base-coco", "microsoft/git-base-vatex"),
    ),
)
