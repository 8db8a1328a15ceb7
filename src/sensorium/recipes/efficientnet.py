"""EfficientNet: an image tower of depthwise convolutions, with a head of classes if the checkpoint has one.

Tan and Le 2019, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", arXiv:1905.11946.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.errors import ConfigError, nearest
from ..core.spec import Spec
from ..modalities.public_images import image_config, image_settings
from ..nn.encoders.efficientnet import STEM, TOP, EfficientNet, Stage
from ..nn.encoders.pixels import Pixels
from ..nn.layers.convolution import rounded
from ..weights.card import Card
from ..weights.config import Config
from ..weights.family import Family, Folder
from ..weights.keymap import AnyRule, KeyMap, batch_norm, layer, prefixed, same, under
from ._classes import labels, lone, written
from ._shared import PREPROCESSOR, picture

#: Factors of width and depth, side of the pictures in pixels, and dropout before the classes.
SIZES: dict[str, tuple[float, float, int, float]] = {
    "tiny": (0.25, 0.5, 64, 0.0),
    "b0": (1.0, 1.0, 224, 0.2),
    "b1": (1.0, 1.1, 240, 0.2),
    "b2": (1.1, 1.2, 260, 0.3),
    "b3": (1.2, 1.4, 300, 0.3),
    "b4": (1.4, 1.8, 380, 0.4),
    "b5": (1.6, 2.2, 456, 0.4),
    "b6": (1.8, 2.6, 528, 0.5),
    "b7": (2.0, 3.1, 600, 0.5),
}
PROCESSOR = "EfficientNetImageProcessor"
#: What the public checkpoints say of their pictures, for files that do not. They divide by the deviation twice.
PREPARATION: dict[str, Any] = {
    "resample": 0,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.47853944, 0.4732864, 0.47434163],
    "include_top": True,
}


def efficientnet(size: str = "b0") -> Spec:
    """The System with fresh weights: a tower to pair with another (``sensorium train dual``)."""
    if size not in SIZES:
        raise ConfigError(f"efficientnet has no size {size!r}{nearest(size, SIZES)}")
    wider, deeper, side, _ = SIZES[size]
    fields = {"width_coefficient": wider, "depth_coefficient": deeper, "hidden_dim": rounded(TOP * wider)}
    image, pixels = image_settings(PREPARATION | {"size": {"height": side, "width": side}}, kind=PROCESSOR)
    tower = vision(Config(fields, file=Path(f"efficientnet:{size}")), Spec(Pixels, **pixels))
    return lone("efficientnet", tower, top_width(tower), image)


def vision(config: Config, pixels: Spec, *, top: bool = True) -> Spec:
    """The tower of a public config; ALIGN's ends without the ``top``."""
    wider = config.take("width_coefficient", float, 2.0, least=0)
    divisor = config.take("depth_divisor", int, 8, least=1)
    stages = _stages(config)
    if top:
        config.take("hidden_dim", int, 2560, among=[rounded(TOP * wider, divisor)])
    else:  # the side of a pooling window, which no map reaches
        config.ignore("hidden_dim")
    config.expect("pooling_type", "mean")
    config.ignore("image_size", "num_hidden_layers", "initializer_range")
    return Spec(
        EfficientNet,
        stages=stages,
        wider=wider,
        deeper=config.take("depth_coefficient", float, 3.1, least=0),
        divisor=divisor,
        squeeze=config.take("squeeze_expansion_ratio", float, 0.25, least=0),
        even=config.take("depthwise_padding", list[int], [], least=0),
        top=top,
        channels=config.take("num_channels", int, 3, least=1),
        activation=config.take("hidden_act", str, "swish"),
        drop_path=config.take("drop_connect_rate", float, 0.2, least=0, most=1),
        eps=config.take("batch_norm_eps", float, 1e-3, least=0),
        # The share of the old statistics, as TensorFlow means it, from which the weights come.
        momentum=1 - config.take("batch_norm_momentum", float, 0.99, least=0, most=1),
        values=pixels,
    )


def _stages(config: Config) -> list[Spec]:
    widths = config.take("out_channels", list[int], [16, 24, 40, 80, 112, 192, 320], least=1)
    columns = {
        "depth": config.take("num_block_repeats", list[int], [1, 2, 2, 3, 3, 4, 1], least=1),
        "kernel": config.take("kernel_sizes", list[int], [3, 3, 5, 3, 5, 5, 3], least=1),
        "stride": config.take("strides", list[int], [1, 2, 2, 2, 1, 2, 1], least=1),
        "expansion": config.take("expand_ratios", list[int], [1, 6, 6, 6, 6, 6, 6], least=1),
    }
    for name, column in columns.items():
        if len(column) != len(widths):
            raise config.error("out_channels", f"{len(widths)} stages, but {name} is given for {len(column)}")
    inner = config.take("in_channels", list[int], [32, 16, 24, 40, 80, 112, 192])
    if inner != [STEM, *widths[:-1]]:
        raise config.error(
            "in_channels", f"expected {[STEM, *widths[:-1]]} as out_channels say, found {inner}"
        )
    rows = zip(*columns.values(), strict=True)
    return [
        Spec(Stage, width=width, **dict(zip(columns, row, strict=True)))
        for width, row in zip(widths, rows, strict=True)
    ]


def top_width(tower: Spec) -> int:
    """The number of features of a place, from the Spec of a tower with a top."""
    return rounded(TOP * tower.wider, tower.divisor)


def read(folder: Folder) -> Spec:
    """The System of a public checkpoint."""
    config, side = folder.config, folder.config.take("image_size", int | list[int], 600, least=1)
    high, wide = side if isinstance(side, list) else (side, side)
    size = {"size": {"height": high, "width": wide}}
    image, pixels = picture(folder, PROCESSOR, PREPARATION | size)
    names = labels(config)
    dropout = config.take("dropout_rate", float, 0.5, least=0, most=1)
    tower = vision(config, pixels)
    config.finish()
    return lone(
        "efficientnet",
        tower,
        top_width(tower),
        image,
        names=names,
        dropout=dropout,
        public=config.ignored(),
    )


def write(spec: Spec) -> dict[str, dict[str, Any]]:
    """The files beside the tensors, as others read them."""
    tower, head = spec.model.tower, spec.model.head
    prepared = image_config(spec.modalities["image"], tower.values, processor=PROCESSOR)
    size = prepared.get("crop_size") or prepared["size"]
    config = (
        written(spec, "EfficientNet")
        | tower_fields(tower)
        | {
            "model_type": "efficientnet",
            "image_size": max(size.values()),
            "hidden_dim": top_width(tower),
            "dropout_rate": head.dropout if head is not None else 0.0,
        }
    )
    return {"config.json": config, PREPROCESSOR: prepared}


def tower_fields(tower: Spec) -> dict[str, Any]:
    """The fields of a public config that describe the blocks."""
    stages = tower.stages
    return {
        "num_channels": tower.channels,
        "width_coefficient": tower.wider,
        "depth_coefficient": tower.deeper,
        "depth_divisor": tower.divisor,
        "kernel_sizes": [stage.kernel for stage in stages],
        "in_channels": [STEM, *[stage.width for stage in stages[:-1]]],
        "out_channels": [stage.width for stage in stages],
        "depthwise_padding": list(tower.even),
        "strides": [stage.stride for stage in stages],
        "num_block_repeats": [stage.depth for stage in stages],
        "expand_ratios": [stage.expansion for stage in stages],
        "squeeze_expansion_ratio": tower.squeeze,
        "hidden_act": tower.activation,
        "pooling_type": "mean",
        "batch_norm_eps": tower.eps,
        "batch_norm_momentum": 1 - tower.momentum,
        "drop_connect_rate": tower.drop_path,
    }


def keys(spec: Spec) -> KeyMap:
    """The tower, whose names have a prefix where there is a head, and the head."""
    tower = [*tower_keys(), *_conv_norm("encoder.top_conv", "encoder.top_bn", "top")]
    head = None if spec.model.head is None else layer("classifier", "head.project")
    return prefixed("efficientnet", "towers.image.", tower, head)


def tower_keys() -> list[AnyRule]:
    """The stem and the blocks, in the names that ALIGN shares."""
    block = [
        *_conv_norm("expansion.expand_conv", "expansion.expand_bn", "expand"),
        *_conv_norm("depthwise_conv.depthwise_conv", "depthwise_conv.depthwise_norm", "depthwise"),
        *layer("squeeze_excite.reduce", "gate.reduce"),
        *layer("squeeze_excite.expand", "gate.expand"),
        *_conv_norm("projection.project_conv", "projection.project_bn", "project"),
    ]
    return [
        *_conv_norm("embeddings.convolution", "embeddings.batchnorm", "stem"),
        *under("encoder.blocks.{i}.", "blocks.{i}.", block),
    ]


def _conv_norm(conv: str, norm: str, own: str) -> list[AnyRule]:
    return [
        same(f"{conv}.weight", f"{own}.conv.weight"),
        *batch_norm(norm, f"{own}.norm"),
    ]


FAMILY = Family(
    name="efficientnet",
    model_types=("efficientnet",),
    read=read,
    write=write,
    keys=keys,
    card=Card(
        title="EfficientNet",
        paper="Tan and Le 2019, arXiv:1905.11946",
        licence="Apache 2.0",
        preparation="the whole picture as a square of the size's own side, nearest pixel",
        examples=("google/efficientnet-b0", "google/efficientnet-b7"),
    ),
)
