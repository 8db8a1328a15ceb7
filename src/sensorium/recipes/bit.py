"""BiT: an image tower of residual convolutions with GroupNorm and standardised filters, with a head of classes if the
checkpoint has one.

Kolesnikov et al. 2019, "Big Transfer (BiT): General Visual Representation Learning", arXiv:1912.11370.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.errors import ConfigError, nearest
from ..core.spec import Spec
from ..modalities.public_images import image_config, image_settings
from ..nn.encoders.pixels import Pixels
from ..nn.encoders.preactivation import BiT, PostActivation, PreActivation
from ..nn.layers.convolution import rounded
from ..weights.card import Card
from ..weights.config import Config
from ..weights.family import Family, Folder
from ..weights.keymap import AnyRule, KeyMap, layer, prefixed, same, under
from ._classes import labels, lone, written
from ._shared import PREPROCESSOR, picture

#: The public config of each size, as far as it differs from that of 50.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"embedding_size": 16, "hidden_sizes": [32, 64], "depths": [1, 1], "num_groups": 8},
    "50": {},
    "101": {"depths": [3, 4, 23, 3]},
    "152": {"depths": [3, 8, 36, 3]},
}
PROCESSOR = "BitImageProcessor"
#: What the public checkpoints say of their pictures, for files that do not.
PREPARATION: dict[str, Any] = {
    "size": {"height": 448, "width": 448},
    "do_center_crop": False,
    "resample": 2,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}


def bit(size: str = "50") -> Spec:
    """The System with fresh weights: a tower to pair with another (``sensorium train dual``)."""
    if size not in SIZES:
        raise ConfigError(f"bit has no size {size!r}{nearest(size, SIZES)}")
    side = {"size": {"height": 64, "width": 64}} if size == "tiny" else {}
    image, pixels = image_settings(PREPARATION | side, kind=PROCESSOR)
    tower = vision(Config(SIZES[size], file=Path(f"bit:{size}")), Spec(Pixels, **pixels))
    return lone("bit", tower, tower.widths[-1], image)


def vision(config: Config, pixels: Spec) -> Spec:
    """The tower of a public config."""
    kind = config.take("layer_type", str, "preactivation", among=("preactivation", "bottleneck"))
    act = config.take("hidden_act", str, "relu")
    groups = config.take("num_groups", int, 32, least=1)
    factor = config.take("width_factor", int, 1, least=1)
    config.expect("global_padding", None, "same", "SAME")  # with "valid", shortcut and branch differ in size
    widths = config.take("hidden_sizes", list[int], [256, 512, 1024, 2048], least=1)
    depths = config.take("depths", list[int], [3, 4, 6, 3], least=1)
    if len(widths) != len(depths):
        raise config.error("depths", f"{len(depths)} stages, but hidden_sizes has {len(widths)}")
    config.ignore("stage_names", "out_features", "out_indices")  # which maps a detector reads
    return Spec(
        BiT,
        block=Spec(PreActivation if kind == "preactivation" else PostActivation),
        widths=[rounded(width * factor) for width in widths],
        depths=depths,
        stem=config.take("embedding_size", int, 64, least=1),
        channels=config.take("num_channels", int, 3, least=1),
        groups=groups,
        activation=act,
        same=config.take("global_padding", str | None, None) is not None,
        same_pool=config.take("embedding_dynamic_padding", bool, False),
        output_stride=config.take("output_stride", int, 32, least=1),
        drop_path=config.take("drop_path_rate", float, 0.0, least=0, most=1),
        values=pixels,
    )


def read(folder: Folder) -> Spec:
    """The System of a public checkpoint."""
    image, pixels = picture(folder, PROCESSOR, PREPARATION)
    names = labels(folder.config)
    tower = vision(folder.config, pixels)
    folder.config.finish()
    return lone("bit", tower, tower.widths[-1], image, names=names, public=folder.config.ignored())


def write(spec: Spec) -> dict[str, dict[str, Any]]:
    """The files beside the tensors, as others read them."""
    tower = spec.model.tower
    config = written(spec, "Bit") | {
        "model_type": "bit",
        "num_channels": tower.channels,
        "embedding_size": tower.stem,
        "hidden_sizes": list(tower.widths),
        "depths": list(tower.depths),
        "layer_type": "preactivation" if tower.block.cls is PreActivation else "bottleneck",
        "hidden_act": tower.activation,
        "global_padding": "SAME" if tower.same else None,
        "num_groups": tower.groups,
        "drop_path_rate": tower.drop_path,
        "embedding_dynamic_padding": tower.same_pool,
        "output_stride": tower.output_stride,
    }
    prepared = image_config(spec.modalities["image"], tower.values, processor=PROCESSOR)
    return {"config.json": config, PREPROCESSOR: prepared}


def keys(spec: Spec) -> KeyMap:
    """The tower, whose names have a prefix where there is a head, and the head."""
    block: list[AnyRule] = [same(f"conv{place}.weight", f"conv{place}.weight") for place in (1, 2, 3)]
    block += [*layer("norm1", "norm1.0"), *layer("norm2", "norm2.0")]
    if spec.model.tower.block.cls is PreActivation:
        block += [*layer("norm3", "norm3.0"), same("downsample.conv.weight", "shortcut.weight")]
    else:
        block += [*layer("norm3", "norm3"), same("downsample.conv.weight", "shortcut.0.weight")]
        block += layer("downsample.norm", "shortcut.1")
    tower = [
        same("embedder.convolution.weight", "stem.weight"),
        *layer("embedder.norm", "stem_norm.0"),
        *under("encoder.stages.{i}.layers.{j}.", "stages.{i}.{j}.", block),
        *layer("norm", "norm.0"),
    ]
    head = None if spec.model.head is None else layer("classifier.1", "head.project")
    return prefixed("bit", "towers.image.", tower, head)


FAMILY = Family(
    name="bit",
    model_types=("bit",),
    read=read,
    write=write,
    keys=keys,
    card=Card(
        title="BiT (ResNet v2)",
        paper="Kolesnikov et al. 2019, arXiv:1912.11370",
        licence="Apache 2.0",
        preparation="448 x 448 bilinear",
        examples=("google/bit-50",),
    ),
)
