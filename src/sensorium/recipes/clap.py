"""CLAP: a sound tower and a text tower that meet in a dot product.

Wu et al. 2023, "Large-Scale Contrastive Language-Audio Pretraining with Feature Fusion and Keyword-to-Caption
Augmentation", arXiv:2211.06687.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.errors import ConfigError, nearest
from ..core.spec import Spec
from ..core.system import System
from ..modalities.public_sound import sound_config, sound_settings
from ..nn.architectures.towers import Towers
from ..nn.encoders.spectrogram_grid import SpectrogramGrid
from ..nn.encoders.window_tower import WindowTower, stages
from ..nn.heads.pooling import MeanToken, Pool
from ..nn.heads.projection import MLPProjection
from ..nn.heads.similarity import TwoScales
from ..nn.layers.norms import LayerNorm
from ..nn.layers.relative import offset_rows
from ..objectives import Contrastive
from ..training.optimizer import AdamW
from ..training.settings import Loading
from ..training.trainer import Training
from ..weights.card import Card
from ..weights.config import Config
from ..weights.family import Family, Folder
from ..weights.keymap import AnyRule, Fixed, KeyMap, batch_norm, fused, layer, same, under
from ._shared import PREPROCESSOR
from ._words import OWN_SPECIAL, TOWER_KEYS, Shape, fresh_text, public_text

#: The public config of each size, as far as it differs from that of unfused.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "projection_dim": 64,
        "text_config": {"vocab_size": 2048, "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2,
                        "num_attention_heads": 4, "max_position_embeddings": 65},
        "audio_config": {"hidden_size": 64, "patch_embeds_hidden_size": 32, "depths": [2, 2],
                         "num_attention_heads": [2, 4], "patch_size": 8, "patch_stride": [8, 8]},
    },
    "unfused": {},
    "fused": {"audio_config": {"enable_fusion": True}},
}  # fmt: skip
EXTRACTOR = "ClapFeatureExtractor"


def clap(size: str = "unfused") -> Spec:
    """The System with fresh weights; its vocabulary is learnt from your texts."""
    if size not in SIZES:
        raise ConfigError(f"clap has no size {size!r}{nearest(size, SIZES)}")
    words = SIZES[size].get("text_config", {}) | {"pad_token_id": OWN_SPECIAL[0]}
    network, shape = towers(Config(SIZES[size] | {"text_config": words}, file=Path(f"clap:{size}")))
    return system(network, {"audio": sound(network, {}, f"clap:{size}"), "text": fresh_text(shape)})


def system(network: Spec, modalities: Mapping[str, Spec]) -> Spec:
    """A dual encoder with the objective and the training that CLAP was published with."""
    return Spec(
        System,
        modalities=dict(modalities),
        model=network,
        objectives={},
        contrastive=Spec(Contrastive),
        training=Spec(
            Training,
            loading=Spec(Loading, batch=256, withhold=0.0, corrupt=0.0),
            optimizer=Spec(AdamW, lr=1e-4, weight_decay=0.0),
        ),
        family="clap",
    )


def towers(config: Config) -> tuple[Spec, Shape]:
    """Both towers of a public config, and the sizes of that of texts."""
    embedding = config.take("projection_dim", int, 512, least=1)
    activation = config.take("projection_hidden_act", str, "relu")
    config.ignore("logit_scale_init_value", "initializer_factor", "hidden_size", "num_hidden_layers")
    heard = hearing(config.section("audio_config"))
    words = config.section("text_config")
    words.ignore("initializer_factor", "projection_dim", "projection_hidden_act", "classifier_dropout")
    words.ignore("fusion_hidden_size", "fusion_num_hidden_layers")
    offset = words.take("pad_token_id", int, 1, least=0) + 1
    shape = Shape.take(words, offset=offset, vocabulary=50265, length=514, types=1)
    config.finish()
    widths = {"audio": heard.pool.width, "text": shape.width}
    network = Spec(
        Towers,
        towers={"audio": heard, "text": shape.tower("tanh")},
        projections={
            name: Spec(MLPProjection, width=width, embedding=embedding, activation=activation)
            for name, width in widths.items()
        },
        similarity=Spec(TwoScales),
        language="text",
    )
    return network, shape


def hearing(config: Config) -> Spec:
    """The sound tower of a public ``audio_config``. Its ``hidden_dropout_prob`` is kept, but not applied: CLAP was
    trained without.
    """
    width = config.take("patch_embeds_hidden_size", int, 96, least=1)
    depths = config.take("depths", list[int], [2, 2, 6, 2], least=1)
    eps = config.take("layer_norm_eps", float, 1e-5, least=0)
    whole = width << len(depths) - 1
    if (found := config.take("hidden_size", int, 768)) != whole:
        raise config.error(
            "hidden_size", f"expected that of the last of {len(depths)} stages, {whole}, found {found}"
        )
    ratio = config.take("mlp_ratio", float, 4.0, least=0)
    if not (width * ratio).is_integer():
        raise config.error("mlp_ratio", f"expected a feed-forward of whole width, found {width * ratio}")
    config.expect("patch_embed_input_channels", 1)
    config.expect("flatten_patch_embeds", True)
    config.expect("attention_probs_dropout_prob", 0.0)
    fusion = None
    if config.take("enable_fusion", bool, False):
        fusion = width // config.take("aff_block_r", int, 4, least=1, most=width)
        config.expect("fusion_type", None, "aff_2d")
    config.ignore(
        "aff_block_r", "fusion_type", "enable_patch_fusion", "fusion_num_hidden_layers", "num_classes"
    )
    config.ignore("hidden_dropout_prob", "initializer_factor", "num_hidden_layers")
    config.ignore("projection_dim", "projection_hidden_act")
    return Spec(
        WindowTower,
        embedding=Spec(
            SpectrogramGrid,
            bins=config.take("num_mel_bins", int, 64, least=1),
            side=config.take("spec_size", int, 256, least=1),
            patch=_two(config.take("patch_size", int | list[int], 4, least=1)),
            stride=_two(config.take("patch_stride", int | list[int], [4, 4], least=1)),
            width=width,
            norm=config.take("enable_patch_layer_norm", bool, True),
            fusion=fusion,
        ),
        stages=stages(
            width=width,
            depths=depths,
            heads=config.take("num_attention_heads", list[int], [4, 8, 16, 32], least=1),
            window=config.take("window_size", int, 8, least=1),
            ratio=ratio,
            activation=config.take("hidden_act", str, "gelu"),
            eps=eps,
            biases="qkvo" if config.take("qkv_bias", bool, True) else "o",
            drop_path=config.take("drop_path_rate", float, 0.0, least=0, most=1),
        ),
        norm_out=Spec(LayerNorm, width=whole),
        pool=Spec(Pool, width=whole, select=Spec(MeanToken)),
    )


def sound(network: Spec, settings: Mapping[str, Any], where: str) -> Spec:
    """How sound is prepared. Raises ConfigError where that does not go with the network."""
    fusion = network.towers["audio"].embedding.fusion is not None
    prepared = sound_settings(
        {"truncation": "fusion" if fusion else "rand_trunc"} | dict(settings), where, kind=EXTRACTOR
    )
    if (prepared.long == "fusion") != fusion:
        raise ConfigError(f"{where}: truncation: contradicts enable_fusion of the model, which is {fusion}")
    return prepared


def read(folder: Folder) -> Spec:
    """The System of a public checkpoint."""
    network, shape = towers(folder.config)
    heard = sound(network, folder.json(PREPROCESSOR) or {}, str(folder.path / PREPROCESSOR))
    return system(network, {"audio": heard, "text": public_text(folder, shape)})


def write(spec: Spec) -> dict[str, dict[str, Any]]:
    """The files beside the tensors, as others read them."""
    network = spec.model
    heard, words = network.towers["audio"], network.towers["text"]
    projection = network.projections["text"]
    config = {
        "architectures": ["ClapModel"],
        "model_type": "clap",
        "projection_dim": projection.embedding,
        "projection_hidden_act": projection.activation,
        "text_config": Shape.of(words).fields()
        | {"model_type": "clap_text_model", "pad_token_id": words.embedding.offset - 1},
        "audio_config": _written(heard) | {"model_type": "clap_audio_model"},
    }
    return {"config.json": config, PREPROCESSOR: sound_config(spec.modalities["audio"])}


def _written(tower: Spec) -> dict[str, Any]:
    grid, blocks = tower.embedding, [block for stage in tower.stages for block in stage.blocks]
    first = blocks[0]
    attention = first.attention.attention
    fused = (
        {"enable_fusion": True, "aff_block_r": grid.width // grid.fusion} if grid.fusion is not None else {}
    )
    return fused | {
        "num_mel_bins": grid.bins,
        "spec_size": grid.side,
        "patch_size": grid.patch[0] if grid.patch[0] == grid.patch[1] else grid.patch,
        "patch_stride": grid.stride,
        "patch_embeds_hidden_size": grid.width,
        "enable_patch_layer_norm": grid.norm,
        "hidden_size": tower.pool.width,
        "depths": [len(stage.blocks) for stage in tower.stages],
        "num_attention_heads": [stage.blocks[0].attention.attention.heads for stage in tower.stages],
        "window_size": first.attention.window,
        "mlp_ratio": first.feed_forward.hidden / first.feed_forward.width,
        "hidden_act": first.feed_forward.activation,
        "layer_norm_eps": first.norm.eps,
        "qkv_bias": "q" in attention.biases,
        "drop_path_rate": blocks[-1].drop_path,
    }


def keys(spec: Spec) -> KeyMap:
    """Both towers, and the counted places that files hold too."""
    tower, words = spec.model.towers["audio"], spec.model.towers["text"].embedding
    places = words.length + words.offset
    return KeyMap(
        [
            *under("audio_model.audio_encoder.", "towers.audio.", hearing_keys(tower)),
            Fixed("text_model.embeddings.position_ids", lambda: torch.arange(places)[None]),
            Fixed("text_model.embeddings.token_type_ids", lambda: torch.zeros(1, places, dtype=torch.long)),
            *under("text_model.", "towers.text.", TOWER_KEYS),
            *under("audio_projection.", "projections.audio.", PROJECTION),
            *under("text_projection.", "projections.text.", PROJECTION),
            same("logit_scale_a", "similarity.log_scale"),
            same("logit_scale_t", "similarity.log_back"),
        ]
    )


def hearing_keys(tower: Spec) -> list[AnyRule]:
    """The sound tower."""
    window = tower.stages[0].blocks[0].attention.window

    def index() -> Tensor:
        return offset_rows([window, window])

    return [
        *batch_norm("batch_norm", "embedding.norm_bins"),
        *layer("patch_embed.proj", "embedding.project"),
        *layer("patch_embed.norm", "embedding.norm"),
        *layer("patch_embed.mel_conv2d", "embedding.project_parts"),
        *under("patch_embed.fusion_model.", "embedding.fusion.", FUSION),
        *under("layers.{s}.blocks.{i}.", "stages.{s}.blocks.{i}.", BLOCK),
        *layer("layers.{s}.downsample.norm", "merges.{s}.norm"),
        same("layers.{s}.downsample.reduction.weight", "merges.{s}.project.weight"),
        *layer("norm", "norm_out"),
        *(
            Fixed(f"layers.{s}.blocks.{i}.attention.self.relative_position_index", index)
            for s, stage in enumerate(tower.stages)
            for i in range(len(stage.blocks))
        ),
    ]


BLOCK: list[AnyRule] = [
    *fused([f"attention.self.{part}" for part in ("query", "key", "value")], "attention.attention.qkv"),
    same("attention.self.relative_position_bias_table", "attention.attention.relative.weight"),
    *layer("attention.output.dense", "attention.attention.out"),
    *layer("layernorm_before", "norm_attention"),
    *layer("layernorm_after", "norm_feed_forward"),
    *layer("intermediate.dense", "feed_forward.up"),
    *layer("output.dense", "feed_forward.down"),
]
#: Both bottlenecks; the first layer of the second takes the average.
FUSION: list[AnyRule] = [
    rule
    for public, own, first in (("local_att", "near", 0), ("global_att", "whole", 1))
    for rule in (
        *layer(f"{public}.{first}", f"{own}.0"),
        *batch_norm(f"{public}.{first + 1}", f"{own}.1"),
        *layer(f"{public}.{first + 3}", f"{own}.3"),
        *batch_norm(f"{public}.{first + 4}", f"{own}.4"),
    )
]
PROJECTION: list[AnyRule] = [*layer("linear1", "up"), *layer("linear2", "down")]


def _two(value: int | list[int]) -> list[int]:
    return [value, value] if isinstance(value, int) else value


FAMILY = Family(
    name="clap",
    model_types=("clap",),
    read=read,
    write=write,
    keys=keys,
    card=Card(
        title="CLAP",
        paper="Wu et al. 2023, arXiv:2211.06687",
        licence="Apache 2.0",
        preparation="48 kHz, 10 s (repeated, cropped or fused), 64 log-mels in decibels; byte-pair tokens, 512 at most",
        examples=("laion/clap-htsat-unfused", "laion/clap-htsat-fused", "laion/larger_clap_general"),
    ),
)
