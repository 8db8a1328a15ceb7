"""ALIGN: a convolutional image tower and a text tower that meet in a dot product, trained on noisy pairs.

Jia et al. 2021, "Scaling Up Visual and Vision-Language Representation Learning With Noisy Text Supervision",
arXiv:2102.05918.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.errors import ConfigError, nearest
from ..core.spec import Spec
from ..core.system import System
from ..modalities import PretrainedText
from ..modalities.public_images import image_config, image_settings
from ..nn.architectures.towers import Towers
from ..nn.encoders.pixels import Pixels
from ..nn.heads.keeping import Keeping
from ..nn.heads.pooling import FirstToken
from ..nn.heads.projection import LinearProjection, NoProjection
from ..nn.heads.similarity import Temperature
from ..nn.layers.convolution import rounded
from ..objectives import Contrastive, InfoNCE
from ..training.optimizer import AdamW
from ..training.rules import Rule
from ..training.settings import Loading
from ..training.trainer import Training
from ..weights.card import Card
from ..weights.config import Config
from ..weights.family import Family, Folder
from ..weights.keymap import KeyMap, layer, same, under
from ._shared import PREPROCESSOR, picture
from ._words import SPELLINGS, TOWER_KEYS, Shape, fresh_text
from .efficientnet import tower_fields, tower_keys, vision

#: The public config of each size, as far as it differs from that of base, and the side of the pictures in pixels.
SIZES: dict[str, tuple[dict[str, Any], int]] = {
    "tiny": (
        {"projection_dim": 80,
         "text_config": {"vocab_size": 2048, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
                         "intermediate_size": 256, "max_position_embeddings": 64},
         "vision_config": {"width_coefficient": 0.25, "depth_coefficient": 0.5}},
        64,
    ),
    "base": ({}, 289),
}  # fmt: skip
PROCESSOR = "EfficientNetImageProcessor"
#: What the public checkpoints say of their pictures, for files that do not: values from -1 to 1.
PREPARATION: dict[str, Any] = {
    "resample": 2,
    "do_center_crop": True,
    "rescale_factor": 1 / 127.5,
    "rescale_offset": True,
    "do_normalize": False,
    "include_top": False,
}
#: Tokens of a text: what the processor of the public checkpoints cuts texts to, and fills them up to.
LENGTH = 64
#: With fresh weights: where the temperature begins, and the share of the newest batch in running statistics.
_TEMPERATURE, _STATISTICS = 0.07, 0.1


def align(size: str = "base") -> Spec:
    """The System with fresh weights; its vocabulary is learnt from your texts."""
    if size not in SIZES:
        raise ConfigError(f"align has no size {size!r}{nearest(size, SIZES)}")
    fields, side = SIZES[size]
    square = {"height": side, "width": side}
    image, pixels = image_settings(PREPARATION | {"size": square, "crop_size": square}, kind=PROCESSOR)
    network, shape = towers(Config(fields, file=Path(f"align:{size}")), Spec(Pixels, **pixels))
    network = network.set("similarity.temperature", _TEMPERATURE).set("towers.image.momentum", _STATISTICS)
    text = fresh_text(shape)
    return system(network, {"image": image, "text": text.replace(max_tokens=min(LENGTH, text.max_tokens))})


def system(network: Spec, modalities: Mapping[str, Spec]) -> Spec:
    """A dual encoder with the objective that ALIGN was published with. The temperature, which is learned as it is and
    not as its logarithm, moves more slowly than the rest.
    """
    return Spec(
        System,
        modalities=dict(modalities),
        model=network,
        objectives={},
        contrastive=Spec(Contrastive, pairwise=Spec(InfoNCE, smoothing=0.1)),
        training=Spec(
            Training,
            loading=Spec(Loading, batch=256, withhold=0.0, corrupt=0.0),
            optimizer=Spec(AdamW, lr=5e-4, weight_decay=1e-5),
            rules=[Spec(Rule, pattern=r"^similarity\.temperature$", rate=0.1)],
        ),
        family="align",
    )


def towers(config: Config, pixels: Spec) -> tuple[Spec, Shape]:
    """Both towers of a public config, and the sizes of that of texts. A picture's vector is the mean of the last map,
    a text's the projected first token.
    """
    embedding = config.take("projection_dim", int, 640, least=1)
    config.ignore("temperature_init_value", "initializer_range")
    seeing, reading = config.section("vision_config"), config.section("text_config")
    seeing.ignore("dropout_rate")  # of heads that are not here, as EfficientNet and BERT have them
    reading.ignore("classifier_dropout")
    seen = vision(seeing, pixels, top=False)
    if (width := rounded(seen.stages[-1].width * seen.wider, seen.divisor)) != embedding:
        raise config.error(
            "projection_dim", f"expected the width of the image tower, {width}, found {embedding}"
        )
    shape = Shape.take(reading, vocabulary=30522)
    config.finish()
    read = shape.tower()
    first = Spec(Keeping, part=Spec(FirstToken), width=shape.width)
    network = Spec(
        Towers,
        towers={"image": seen, "text": read.set("pool.select", first)},
        projections={
            "image": Spec(NoProjection),
            "text": Spec(LinearProjection, width=shape.width, embedding=embedding, bias=True),
        },
        similarity=Spec(Temperature),
        language="text",
    )
    return network, shape


def read(folder: Folder) -> Spec:
    """The System of a public checkpoint. Texts are not filled up: what fills them is masked."""
    image, pixels = picture(folder, PROCESSOR, PREPARATION)
    network, shape = towers(folder.config, pixels)
    return system(
        network, {"image": image, "text": Spec(PretrainedText, max_tokens=min(LENGTH, shape.length))}
    )


def write(spec: Spec) -> dict[str, dict[str, Any]]:
    """The files beside the tensors, as others read them."""
    network = spec.model
    seen, words = network.towers["image"], network.towers["text"]
    config = {
        "architectures": ["AlignModel"],
        "model_type": "align",
        "projection_dim": network.projections["text"].embedding,
        "text_config": Shape.of(words).fields() | {"model_type": "align_text_model"},
        "vision_config": tower_fields(seen) | {"model_type": "align_vision_model"},
    }
    prepared = image_config(spec.modalities["image"], seen.values, processor=PROCESSOR)
    return {"config.json": config, PREPROCESSOR: prepared}


def keys(spec: Spec) -> KeyMap:
    """Both towers, the pooler of texts that nothing uses, and the temperature."""
    return KeyMap(
        [
            *under("vision_model.", "towers.image.", tower_keys()),
            *under("text_model.", "towers.text.", [*TOWER_KEYS, *layer("pooler.dense", "pool.select")]),
            *layer("text_projection", "projections.text.project"),
            same("temperature", "similarity.temperature"),
        ],
        SPELLINGS,
    )


FAMILY = Family(
    name="align",
    model_types=("align",),
    read=read,
    write=write,
    keys=keys,
    card=Card(
        title="ALIGN",
        paper="Jia et al. 2021, arXiv:2102.05918",
        licence="not stated",
        preparation="the whole picture as 346 x 346 bilinear, central 289 x 289; WordPiece tokens, 64 at most",
        examples=("kakaobrain/align-base",),
    ),
)
