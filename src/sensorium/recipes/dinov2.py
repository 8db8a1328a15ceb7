"""DINOv2: image features learnt without labels, with or without registers, and a head of classes if there is one.

Oquab et al. 2023, "DINOv2: Learning Robust Visual Features without Supervision", arXiv:2304.07193; registers: Darcet
et al. 2023, "Vision Transformers Need Registers", arXiv:2309.16588.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.errors import ConfigError, nearest
from ..core.spec import Spec
from ..modalities.public_images import image_config, image_settings
from ..nn.encoders.patch_tower import PatchTower
from ..nn.encoders.pixels import Pixels
from ..nn.heads.pooling import FirstToken, Joined, MeanToken, Pool
from ..nn.layers.blocks import PreNorm
from ..nn.layers.drop_path import LayerScale
from ..nn.layers.feed_forward import MLP, GatedMLP
from ..nn.layers.norms import LayerNorm
from ..nn.layers.transformer import Transformer
from ..weights.card import Card
from ..weights.config import Config
from ..weights.family import Family, Folder
from ..weights.keymap import AnyRule, KeyMap, fused, layer, prefixed, same, shaped, under
from ._classes import labels, lone, written
from ._shared import PREPROCESSOR, picture
from ._vit import SPELLINGS, attention, attention_keys, embedding, embedding_keys, fields

PLAIN, REGISTERS = "dinov2", "dinov2_with_registers"
_BASE = {"image_size": 518, "patch_size": 14}
_SMALL = {**_BASE, "hidden_size": 384, "num_attention_heads": 6}
_LARGE = {**_BASE, "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
_GIANT = {
    **_BASE,
    "hidden_size": 1536,
    "num_hidden_layers": 40,
    "num_attention_heads": 24,
    "use_swiglu_ffn": True,
}
_TINY = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 64,
    "patch_size": 8,
}
_PUBLIC = {"tiny": _TINY, "s14": _SMALL, "b14": _BASE, "l14": _LARGE, "g14": _GIANT}
#: The public config of each size, as far as it differs from the defaults of transformers.
SIZES: dict[str, dict[str, Any]] = _PUBLIC | {
    f"{size}-registers": {**config, "model_type": REGISTERS} for size, config in _PUBLIC.items()
}
PROCESSOR = "BitImageProcessor"
#: What the public checkpoints say of their pictures, for files that do not.
PREPARATION: dict[str, Any] = {
    "size": {"shortest_edge": 256},
    "crop_size": {"height": 224, "width": 224},
    "resample": 3,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}


def dinov2(size: str = "b14") -> Spec:
    """The System with fresh weights: a tower to pair with another (``sensorium train dual``)."""
    if size not in SIZES:
        raise ConfigError(f"dinov2 has no size {size!r}{nearest(size, SIZES)}")
    small = {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}}
    image, pixels = image_settings(PREPARATION | (small if size.startswith("tiny") else {}), kind=PROCESSOR)
    tower = vision(Config(SIZES[size], file=Path(f"dinov2:{size}"))).set(
        "embedding.values", Spec(Pixels, **pixels)
    )
    return lone("dinov2", tower, tower.pool.width, image)


def vision(config: Config, classes: bool = False) -> Spec:
    """The tower of a public config. For ``classes``, the mean of the patches stands beside the class token."""
    kind = config.take("model_type", str, PLAIN, among=(PLAIN, REGISTERS))
    registers = config.take("num_register_tokens", int, 4, least=1) if kind == REGISTERS else 0
    width = config.take("hidden_size", int, 768, least=1)
    norm = Spec(LayerNorm, width=width, eps=config.take("layer_norm_eps", float, 1e-6, least=0))
    config.ignore("initializer_range", "apply_layernorm", "reshape_hidden_states")
    config.ignore("stage_names", "out_features", "out_indices")  # which maps a detector reads
    block = Spec(
        PreNorm,
        norm=norm,
        attention=attention(config, width),
        feed_forward=_feed_forward(config, width),
        branch=Spec(LayerScale, width=width, value=config.take("layerscale_value", float, 1.0)),
    )
    both = [Spec(FirstToken), Spec(MeanToken, skip=1 + registers)]
    return Spec(
        PatchTower,
        embedding=embedding(
            config,
            width,
            16 if registers else 14,
            how={"single": True, "antialias": registers > 0},
            registers=registers,
            mask_token=registers > 0 or config.take("use_mask_token", bool, True),
        ),
        trunk=Spec(
            Transformer,
            width=width,
            depth=config.take("num_hidden_layers", int, 12, least=1),
            block=block,
            drop_path=config.take("drop_path_rate", float, 0.0, least=0, most=1),
        ),
        norm_out=norm,
        pool=Spec(Pool, width=2 * width, select=Spec(Joined, parts=both))
        if classes
        else Spec(Pool, width=width, select=Spec(FirstToken)),
    )


def _feed_forward(config: Config, width: int) -> Spec:
    ratio = config.take("mlp_ratio", float, 4.0, least=0)
    if config.take("use_swiglu_ffn", bool, False):
        config.ignore("hidden_act")
        return Spec(GatedMLP, width=width, hidden=_gated(int(width * ratio)), bias=True)
    activation = config.take("hidden_act", str, "gelu")
    return Spec(MLP, width=width, hidden=int(width * ratio), activation=activation)


def _gated(hidden: int) -> int:
    """Two thirds as wide, for the gate has as many weights again; then up to a multiple of 8."""
    return -(-int(hidden * 2 / 3) // 8) * 8


def _ratio(part: Spec) -> int:
    """The whole ratio of which this feed-forward is made. Raises ConfigError where there is none."""
    for ratio in range(1, 65):
        hidden = part.width * ratio
        if part.hidden == (_gated(hidden) if part.cls is GatedMLP else hidden):
            return ratio
    raise ConfigError(
        f"feed_forward.hidden: {part.hidden} is no whole multiple of the width {part.width}, as a public config needs"
    )


def read(folder: Folder) -> Spec:
    """The System of a public checkpoint."""
    image, pixels = picture(folder, PROCESSOR, PREPARATION)
    names = labels(folder.config)
    tower = vision(folder.config, classes=names is not None).set("embedding.values", pixels)
    folder.config.finish()
    return lone("dinov2", tower, tower.pool.width, image, names=names)


def write(spec: Spec) -> dict[str, dict[str, Any]]:
    """The files beside the tensors, as others read them."""
    image, tower = spec.modalities["image"], spec.model.tower
    first, part = tower.embedding, tower.trunk.block.feed_forward
    gated = part.cls is GatedMLP
    if first.registers:
        name, more = "Dinov2WithRegisters", {"model_type": REGISTERS, "num_register_tokens": first.registers}
    else:
        name, more = "Dinov2", {"model_type": PLAIN, "use_mask_token": first.mask_token}
    config = {
        **written(spec, name),
        **more,
        **fields(tower, image),
        "mlp_ratio": _ratio(part),
        "use_swiglu_ffn": gated,
        "layerscale_value": tower.trunk.block.branch.value,
        "drop_path_rate": tower.trunk.drop_path,
        **({} if gated else {"hidden_act": part.activation}),
    }
    prepared = image_config(image, first.values, processor=PROCESSOR)
    return {"config.json": config, PREPROCESSOR: prepared}


def keys(spec: Spec) -> KeyMap:
    """The tower, whose names have a prefix where there is a head, and the head."""
    tower = spec.model.tower
    width, gated = tower.trunk.width, tower.trunk.block.feed_forward.cls is GatedMLP
    prefix = REGISTERS if tower.embedding.registers else PLAIN
    rules = [
        *embedding_keys(tower),
        same("embeddings.mask_token", "embedding.mask_token", shaped([1, -1], [-1])),
        same("embeddings.register_tokens", "embedding.registers", shaped([1, -1, width], [-1, width])),
        *under("encoder.layer.{i}.", "trunk.blocks.{i}.", [*BLOCK, *(GATED if gated else PLAIN_MLP)]),
        *layer("layernorm", "norm_out"),
    ]
    spellings = [*SPELLINGS, (r"\.mlp\.down_proj\.", ".mlp.weights_out.")]
    head = None if spec.model.head is None else layer("classifier", "head.project")
    return prefixed(prefix, "towers.image.", rules, head, spellings)


BLOCK: list[AnyRule] = [
    *layer("norm1", "norm_attention"),
    *attention_keys(),
    same("layer_scale1.lambda1", "branch_attention.weight"),
    *layer("norm2", "norm_feed_forward"),
    same("layer_scale2.lambda1", "branch_feed_forward.weight"),
]
PLAIN_MLP: list[AnyRule] = [*layer("mlp.fc1", "feed_forward.up"), *layer("mlp.fc2", "feed_forward.down")]
#: Files hold gate and values as one, models of transformers 5 in memory as two.
GATED: list[AnyRule] = [
    *layer("mlp.weights_in", "feed_forward.gate_up"),
    *fused(["mlp.gate_proj", "mlp.up_proj"], "feed_forward.gate_up"),
    *layer("mlp.weights_out", "feed_forward.down"),
]

FAMILY = Family(
    name="dinov2",
    model_types=(PLAIN, REGISTERS),
    read=read,
    write=write,
    keys=keys,
    card=Card(
        title="DINOv2",
        paper="Oquab et al. 2023, arXiv:2304.07193; with registers: Darcet et al. 2023, arXiv:2309.16588",
        licence="Apache 2.0",
        preparation="shortest side 256 bicubic, central 224 x 224",
        examples=("facebook/dinov2-base", "facebook/dinov2-with-registers-base"),
    ),
)
