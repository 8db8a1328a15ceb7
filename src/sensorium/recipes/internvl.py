"""InternVL: pictures in tiles through InternViT, four neighbouring tokens folded into one, and a Qwen language model.

Chen et al. 2023, "InternVL", arXiv:2312.14238 (the image tower); Chen et al. 2024, "How Far Are We to GPT-4V?",
arXiv:2404.16821 (1.5, tiles); Zhu et al. 2025, "InternVL3", arXiv:2504.10479. With a Qwen3 mixture of experts it is the
shape of Intern-S1 (Bai et al. 2025, arXiv:2508.15763), without its series: the files of that model have other names,
which are not read here.
"""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from ..core.errors import CheckpointError
from ..core.spec import Spec
from ..modalities.chat.conversation import Conversation
from ..modalities.chat.placeholders import PerPiece, Repeated
from ..modalities.public_images import image_config
from ..nn.architectures.multimodal_lm import MultimodalLM
from ..nn.connectors.projector import Projector
from ..nn.connectors.unshuffled import Unshuffled
from ..nn.encoders.layer_features import LayerFeatures
from ..nn.encoders.patch_tower import PatchTower
from ..nn.heads.pooling import MeanToken, Pool
from ..nn.layers.attention import SelfAttention
from ..nn.layers.blocks import PreNorm
from ..nn.layers.drop_path import LayerScale
from ..nn.layers.feed_forward import MLP
from ..nn.layers.norms import JointRMSNorm, LayerNorm, RMSNorm
from ..nn.layers.transformer import Transformer
from ..weights.card import Card
from ..weights.config import Config
from ..weights.family import Family, Folder
from ..weights.keymap import AnyRule, KeyMap, fused, layer, same, under
from ..weights.tensors import open_tensors
from ._masked import token
from ._parts import Part, part_in, part_of
from ._shared import PREPROCESSOR, PROCESSOR_CONFIG, picture, picture_size
from ._tiles import held, in_tiles, last_step, reader
from ._trunks import system
from ._vit import embedding, embedding_keys, sides
from ._vlm import SPELLINGS, placeholder, sections, tied

TRUNK, EYE = "qwen2", "internvl_vision"
PROCESSOR = "GotOcr2ImageProcessor"
IMAGE, BEFORE, AFTER = "<IMG_CONTEXT>", "<img>", "</img>"
NORMS: dict[str, type[nn.Module]] = {"layer_norm": LayerNorm, "rms_norm": RMSNorm}
#: What public checkpoints have in the file about pictures.
USUAL = {
    "crop_to_patches": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}
#: What a checkpoint without a template of its own is spoken to with: that of its language model, with pictures.
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<IMG_CONTEXT>\n{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def vision(config: Config) -> Spec:
    """The image tower of a public ``vision_config``: InternViT."""
    width = config.take("hidden_size", int, 1024, least=1)
    biased = config.take("attention_bias", bool, False)
    norm = Spec(
        NORMS[config.take("norm_type", str, "layer_norm", among=NORMS)],
        width=width,
        eps=config.take("layer_norm_eps", float, 1e-6, least=0),
    )
    joint = Spec(JointRMSNorm, width=width) if config.take("use_qk_norm", bool, False) else None
    block = Spec(
        PreNorm,
        norm=norm,
        attention=Spec(
            SelfAttention,
            width=width,
            heads=config.take("num_attention_heads", int, 16, least=1),
            biases="qkvo" if biased else "o",
            norm_query=joint,
            norm_key=joint,
            dropout=config.take("attention_dropout", float, 0.0, least=0, most=1),
        ),
        feed_forward=Spec(
            MLP,
            width=width,
            hidden=config.take("intermediate_size", int, 4096, least=1),
            activation=config.take("hidden_act", str, "gelu"),
        ),
        branch=Spec(LayerScale, width=width, value=config.take("layer_scale_init_value", float, 0.1)),
    )
    config.expect("hidden_dropout_prob", 0.0)
    config.expect("projection_dropout", 0.0)
    config.expect("use_mean_pooling", True)  # else there is a norm, which some choices of layers pass by
    config.expect("use_absolute_position_embeddings", True)
    config.ignore("initializer_range", "initializer_factor", "dropout")
    first = embedding(config, width, 14, image=448, how={})
    return Spec(
        PatchTower,
        embedding=first.replace(mask_token=config.take("use_mask_token", bool, False)),
        trunk=Spec(
            Transformer,
            width=width,
            depth=config.take("num_hidden_layers", int, 24, least=1),
            block=block,
        ),
        pool=Spec(Pool, width=width, select=Spec(MeanToken, skip=1)),
    )


def vision_fields(tower: Spec) -> dict[str, Any]:
    """The ``vision_config`` from which ``vision`` makes this tower."""
    first, trunk = tower.embedding, tower.trunk
    block = trunk.block
    size = picture_size(None, first)
    return {
        "model_type": EYE,
        "hidden_size": trunk.width,
        "num_hidden_layers": trunk.depth,
        "num_attention_heads": block.attention.heads,
        "attention_bias": "q" in block.attention.biases,
        "use_qk_norm": block.attention.norm_query is not None,
        "attention_dropout": block.attention.dropout,
        "intermediate_size": block.feed_forward.hidden,
        "hidden_act": block.feed_forward.activation,
        "norm_type": next(name for name, norm in NORMS.items() if norm is block.norm.cls),
        "layer_norm_eps": block.norm.eps,
        "layer_scale_init_value": block.branch.value,
        "image_size": [size, size] if isinstance(size, int) else size,
        "patch_size": first.patch,
        "num_channels": first.channels,
        "use_mask_token": first.mask_token,
    }


def vision_keys(tower: Spec) -> list[AnyRule]:
    """The image tower."""
    block: list[AnyRule] = [
        *fused([f"attention.{part}_proj" for part in "qkv"], "attention.qkv"),
        *layer("attention.projection_layer", "attention.out"),
        same("attention.q_norm.weight", "attention.norm_query.weight"),
        same("attention.k_norm.weight", "attention.norm_key.weight"),
        same("lambda_1", "branch_attention.weight"),
        same("lambda_2", "branch_feed_forward.weight"),
        *layer("layernorm_before", "norm_attention"),
        *layer("layernorm_after", "norm_feed_forward"),
        *layer("mlp.fc1", "feed_forward.up"),
        *layer("mlp.fc2", "feed_forward.down"),
    ]
    return [
        *embedding_keys(tower),
        token("embeddings.mask_token", "embedding.mask_token"),
        *under("encoder.layer.{i}.", "trunk.blocks.{i}.", block),
    ]


#: The image tower as a part of others.
VISION = Part((EYE,), vision, vision_fields, vision_keys)


def internvl_network(config: Config, image: Spec, pixels: Spec, *, headed: bool) -> Spec:
    """The network of a public config, for pictures so prepared; ``headed`` says whether the files hold a head, where
    the config does not.
    """
    reading, seeing = config.section("text_config"), config.section("vision_config")
    said = "tie_word_embeddings" in reading
    tower = part_of(seeing, EYE).read(seeing).set("embedding.values", pixels)
    decoder = part_of(reading, TRUNK).read(reading)
    decoder = tied(config, decoder, not (said or headed))
    config.expect("vision_feature_select_strategy", "default")
    ratio = config.take("downsample_ratio", float, 0.5)
    if not 0 < ratio <= 1 or (1 / ratio) % 1:
        raise config.error("downsample_ratio", f"expected one over a whole number, found {ratio}")
    config.ignore("image_seq_length")
    factor, step = int(1 / ratio), last_step(image)
    inner = tower.trunk.width * factor**2
    return Spec(
        MultimodalLM,
        language="text",
        decoder=decoder,
        towers={
            "image": reader(
                image,
                Spec(LayerFeatures, tower=tower, layers=[config.take("vision_feature_layer", int, -1)]),
            )
        },
        connectors={
            "image": Spec(
                Unshuffled,
                grid=[
                    side // patch
                    for side, patch in zip((step.height, step.width), tower.embedding.patch, strict=True)
                ],
                factor=factor,
                projector=Spec(
                    Projector,
                    inner=inner,
                    width=decoder.trunk.width,
                    depth=2,
                    activation=config.take("projector_hidden_act", str, "gelu"),
                    norm=Spec(LayerNorm, width=inner),
                ),
            )
        },
        placeholders={"image": placeholder(config, "image_token_id", otherwise=151_667)},
    )


def has_head(folder: Folder) -> bool:
    """Whether the files of a checkpoint, if it has any, hold a head apart from the table of words."""
    try:
        names = open_tensors(folder.path)
    except CheckpointError:
        return False
    return any(name.endswith("lm_head.weight") for name in names)


def tokens(network: Spec) -> int:
    """How many rows a tile becomes."""
    connector = network.connectors["image"]
    return math.prod(connector.grid) // connector.factor**2


def read(folder: Folder) -> Spec:
    """The System of a public checkpoint."""
    folder.config.take("model_type", str)
    height, width = sides(folder.config.section("vision_config"), "image_size", 448)
    usual = USUAL | {"size": {"height": height, "width": width}}
    image, pixels = picture(folder, PROCESSOR, usual)
    network = internvl_network(folder.config, image, pixels, headed=has_head(folder))
    folder.config.finish()
    kind = PerPiece if in_tiles(image) else Repeated
    place = Spec(kind, written=IMAGE, token=IMAGE, count=tokens(network), before=BEFORE, after=AFTER)
    words = Spec(Conversation, placeholders={"image": place}, fallback=TEMPLATE)
    return system("internvl", network, {"image": image, "text": words})


def write(spec: Spec) -> dict[str, dict[str, Any]]:
    """The files beside the tensors, as others read them."""
    network = spec.model
    _, seen = held(network.towers["image"], "")
    connector = network.connectors["image"]
    config = sections(spec, TRUNK, EYE, seen.tower) | {
        "architectures": ["InternVLForConditionalGeneration"],
        "model_type": "internvl",
        "image_token_id": network.placeholders["image"],
        "image_seq_length": tokens(network),
        "downsample_ratio": 1 / connector.factor,
        "projector_hidden_act": connector.projector.activation,
        "vision_feature_layer": seen.layers[0],
        "vision_feature_select_strategy": "default",
        "tie_word_embeddings": network.decoder.head is None,
    }
    return {
        "config.json": config,
        PREPROCESSOR: image_config(spec.modalities["image"], seen.tower.embedding.values, PROCESSOR),
        PROCESSOR_CONFIG: {"processor_class": "InternVLProcessor", "image_seq_length": tokens(network)},
    }


def keys(spec: Spec) -> KeyMap:
    """The language model, the image tower and the projector."""
    name, seen = held(spec.model.towers["image"], "towers.image.")
    trunk = part_in(spec, "text_config", TRUNK).keys(spec.model.decoder)
    return KeyMap(
        [
            *under("language_model.", "decoder.", trunk),
            *under("vision_tower.", f"{name}tower.", part_in(spec, "vision_config", EYE).keys(seen.tower)),
            *layer("multi_modal_projector.layer_norm", "connectors.image.projector.norm"),
            *layer("multi_modal_projector.linear_1", "connectors.image.projector.layers.0"),
            *layer("multi_modal_projector.linear_2", "connectors.image.projector.layers.1"),
        ],
        SPELLINGS,
    )


FAMILY = Family(
    name="internvl",
    model_types=("internvl",),
    read=read,
    write=write,
    keys=keys,
    card=Card(
        title="InternVL",
        paper="Chen et al. 2024, arXiv:2404.16821; Zhu et al. 2025, arXiv:2504.10479",
        licence="MIT; the language model by its own terms",
        preparation="1 to 12 tiles of 448 pixels and the whole picture, 256 rows each",
        examples=("OpenGVLab/InternVL3-1B-hf", "OpenGVLab/InternVL3_5-1B-HF"),
    ),
)
