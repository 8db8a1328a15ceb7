"""ResNet: an image tower of residual convolutions, with a head of classes if the checkpoint has one.

He et al. 2015, "Deep Residual Learning for Image Recognition", arXiv:1512.03385.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.errors import ConfigError, nearest
from ..core.spec import Spec
from ..modalities.public_images import image_config, image_settings
from ..nn.encoders.pixels import Pixels
from ..nn.encoders.residual import Basic, Bottleneck, ResNet
from ..weights.card import Card
from ..weights.config import Config
from ..weights.family import Family, Folder
from ..weights.keymap import AnyRule, KeyMap, batch_norm, layer, prefixed, same, under
from ._classes import labels, lone, written
from ._shared import PREPROCESSOR, picture

#: The public config of each size, as far as it differs from that of 50.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"embedding_size": 8, "hidden_sizes": [16, 32], "depths": [1, 1]},
    "18": {"hidden_sizes": [64, 128, 256, 512], "depths": [2, 2, 2, 2], "layer_type": "basic"},
    "34": {"hidden_sizes": [64, 128, 256, 512], "layer_type": "basic"},
    "50": {},
    "101": {"depths": [3, 4, 23, 3]},
    "152": {"depths": [3, 8, 36, 3]},
}
PROCESSOR = "ConvNextImageProcessor"
#: What the public checkpoints say of their pictures, for files that do not.
PREPARATION: dict[str, Any] = {
    "size": {"shortest_edge": 224},
    "crop_pct": 0.875,
    "resample": 3,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}


def resnet(size: str = "50") -> Spec:
    """The System with fresh weights: a tower to pair with another (``sensorium train dual``)."""
    if size not in SIZES:
        raise ConfigError(f"resnet has no size {size!r}{nearest(size, SIZES)}")
    side = {"size": {"shortest_edge": 64}} if size == "tiny" else {}
    image, pixels = image_settings(PREPARATION | side, kind=PROCESSOR)
    tower = vision(Config(SIZES[size], file=Path(f"resnet:{size}")), Spec(Pixels, **pixels))
    return lone("resnet", tower, tower.widths[-1], image)


def vision(config: Config, pixels: Spec) -> Spec:
    """The tower of a public config."""
    act = config.take("hidden_act", str, "relu")
    widths = config.take("hidden_sizes", list[int], [256, 512, 1024, 2048], least=1)
    depths = config.take("depths", list[int], [3, 4, 6, 3], least=1)
    if len(widths) != len(depths):
        raise config.error("depths", f"{len(depths)} stages, but hidden_sizes has {len(widths)}")
    early = config.take("downsample_in_bottleneck", bool, False)
    if config.take("layer_type", str, "bottleneck", among=("basic", "bottleneck")) == "basic":
        block = Spec(Basic, activation=act)
    else:
        block = Spec(Bottleneck, activation=act, stride_first=early)
    first = 2 if config.take("downsample_in_first_stage", bool, False) else 1
    config.ignore("stage_names", "out_features", "out_indices")  # which maps a detector reads
    return Spec(
        ResNet,
        block=block,
        widths=widths,
        depths=depths,
        strides=[first, *[2] * (len(depths) - 1)],
        stem=config.take("embedding_size", int, 64, least=1),
        channels=config.take("num_channels", int, 3, least=1),
        activation=act,
        values=pixels,
    )


def read(folder: Folder) -> Spec:
    """The System of a public checkpoint."""
    image, pixels = picture(folder, PROCESSOR, PREPARATION)
    names = labels(folder.config)
    tower = vision(folder.config, pixels)
    folder.config.finish()
    return lone("resnet", tower, tower.widths[-1], image, names=names, public=folder.config.ignored())


def write(spec: Spec) -> dict[str, dict[str, Any]]:
    """The files beside the tensors, as others read them."""
    tower = spec.model.tower
    basic = tower.block.cls is Basic
    config = written(spec, "ResNet") | {
        "model_type": "resnet",
        "num_channels": tower.channels,
        "embedding_size": tower.stem,
        "hidden_sizes": list(tower.widths),
        "depths": list(tower.depths),
        "layer_type": "basic" if basic else "bottleneck",
        "hidden_act": tower.activation,
        "downsample_in_first_stage": tower.strides[0] == 2,
        "downsample_in_bottleneck": not basic and tower.block.stride_first,
    }
    prepared = image_config(spec.modalities["image"], tower.values, processor=PROCESSOR)
    return {"config.json": config, PREPROCESSOR: prepared}


def keys(spec: Spec) -> KeyMap:
    """The tower, whose names have a prefix where there is a head, and the head."""
    block = [*_conv_norm("layer.{k}", "branch.{k}"), *_conv_norm("shortcut", "shortcut")]
    tower = [
        *_conv_norm("embedder.embedder", "stem"),
        *under("encoder.stages.{i}.layers.{j}.", "stages.{i}.{j}.", block),
    ]
    head = None if spec.model.head is None else layer("classifier.1", "head.project")
    return prefixed("resnet", "towers.image.", tower, head)


def _conv_norm(public: str, own: str) -> list[AnyRule]:
    return [
        same(f"{public}.convolution.weight", f"{own}.conv.weight"),
        *batch_norm(f"{public}.normalization", f"{own}.norm"),
    ]


FAMILY = Family(
    name="resnet",
    model_types=("resnet",),
    read=read,
    write=write,
    keys=keys,
    card=Card(
        title="ResNet",
        paper="He et al. 2015, arXiv:1512.03385",
        licence="Apache 2.0",
        preparation="shortest side 256 bicubic, central 224 x 224",
        examples=("microsoft/resnet-50", "microsoft/resnet-18"),
    ),
)
