"""The layout of open_clip for CLIP: other names, other files, the same numbers."""

from __future__ import annotations

from typing import Any

from ..core.spec import Spec
from ..weights.config import Config
from ..weights.keymap import TRANSPOSED, AnyRule, Drop, KeyMap, convolution, layer, same, shaped, under

CONFIG = "open_clip_config.json"
_HEAD = 64  # width of a head, where the config does not say


def claims(config: Config) -> bool:
    """Whether both towers are those of CLIP, and not of another library."""
    towers = config.raw.get("model_cfg", {})
    return not any(
        name in towers.get(part, {})
        for part in ("vision_cfg", "text_cfg")
        for name in ("timm_model_name", "hf_model_name")
    )


def as_public(config: Config) -> dict[str, Any]:
    """The ``model_cfg`` of open_clip in the words of transformers."""
    seen, read = config.section("vision_cfg"), config.section("text_cfg")
    quick = "quick_gelu" if config.take("quick_gelu", bool, False) else "gelu"
    config.ignore("init_logit_scale", "custom_text")
    for section in (seen, read):
        section.expect("ls_init_value", None)
    seen.expect("patch_dropout", 0, 0.0)
    read.expect("embed_cls", False)
    vision_width = seen.take("width", int, 768, least=1)
    text_width = read.take("width", int, 512, least=1)
    public = {
        "projection_dim": config.take("embed_dim", int, least=1),
        "vision_config": {
            "hidden_size": vision_width,
            "num_hidden_layers": seen.take("layers", int, 12, least=1),
            "num_attention_heads": vision_width // seen.take("head_width", int, _HEAD, least=1),
            "intermediate_size": int(vision_width * seen.take("mlp_ratio", float, 4.0)),
            "image_size": seen.take("image_size", int, 224, least=1),
            "patch_size": seen.take("patch_size", int, 16, least=1),
            "hidden_act": quick,
        },
        "text_config": {
            "hidden_size": text_width,
            "num_hidden_layers": read.take("layers", int, 12, least=1),
            "num_attention_heads": read.take("heads", int, 8, least=1),
            "intermediate_size": int(text_width * read.take("mlp_ratio", float, 4.0)),
            "max_position_embeddings": read.take("context_length", int, 77, least=1),
            "vocab_size": read.take("vocab_size", int, 49408, least=1),
            "hidden_act": quick,
        },
    }
    config.finish()
    return public


def written(network: Spec, mean: list[float], std: list[float]) -> dict[str, Any]:
    """The content of ``open_clip_config.json`` for a CLIP network."""
    seen, read = network.towers["image"], network.towers["text"]
    vision, text = seen.trunk, read.trunk
    patch = seen.embedding.patch[0]
    return {
        "model_cfg": {
            "embed_dim": network.projections["image"].embedding,
            "quick_gelu": vision.block.feed_forward.activation == "quick_gelu",
            "vision_cfg": {
                "image_size": seen.embedding.positions.grid[0] * patch,
                "patch_size": patch,
                "width": vision.width,
                "layers": vision.depth,
                "head_width": vision.width // vision.block.attention.heads,
                "mlp_ratio": vision.block.feed_forward.hidden / vision.width,
            },
            "text_cfg": {
                "context_length": read.embedding.length,
                "vocab_size": read.embedding.vocabulary,
                "width": text.width,
                "heads": text.block.attention.heads,
                "layers": text.depth,
                "mlp_ratio": text.block.feed_forward.hidden / text.width,
            },
        },
        "preprocess_cfg": {"mean": mean, "std": std, "interpolation": "bicubic", "resize_mode": "shortest"},
    }


def keys(spec: Spec) -> KeyMap:
    """Both towers in the names of open_clip."""
    patch = spec.model.towers["image"].embedding.patch
    vision: list[AnyRule] = [
        same("class_embedding", "embedding.prefix", shaped([-1], [1, -1])),
        same("positional_embedding", "embedding.positions.weight"),
        same("conv1.weight", "embedding.project.weight", convolution(*patch)),
        *layer("ln_pre", "norm_in"),
        *layer("ln_post", "pool.norm"),
        *under("transformer.resblocks.{i}.", "trunk.blocks.{i}.", _BLOCK),
    ]
    text: list[AnyRule] = [
        same("token_embedding.weight", "embedding.token.weight"),
        same("positional_embedding", "embedding.position.weight"),
        *layer("ln_final", "norm_out"),
        *under("transformer.resblocks.{i}.", "trunk.blocks.{i}.", _BLOCK),
        Drop("attn_mask", "what a word may look at is known"),
    ]
    return KeyMap(
        [
            *under("visual.", "towers.image.", vision),
            *under("", "towers.text.", text),
            same("visual.proj", "projections.image.project.weight", TRANSPOSED),
            same("text_projection", "projections.text.project.weight", TRANSPOSED),
            same("logit_scale", "similarity.log_scale"),
        ],
        spellings=[(r"^text\.", "")],
    )


_BLOCK: list[AnyRule] = [
    *layer("ln_1", "norm_attention"),
    *layer("ln_2", "norm_feed_forward"),
    same("attn.in_proj_weight", "attention.qkv.weight"),
    same("attn.in_proj_bias", "attention.qkv.bias"),
    *layer("attn.out_proj", "attention.out"),
    *layer("mlp.c_fc", "feed_forward.up"),
    *layer("mlp.c_proj", "feed_forward.down"),
]
