"""Tiny wav2vec 2.0 of transformers, and the same built of our parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from nn.reference import reference, take_over
from torch import Tensor, nn
from transformers import Wav2Vec2Config

from sensorium.core import Spec
from sensorium.core.batch import Stream
from sensorium.nn.encoders.spec_augment import SpecAugment
from sensorium.nn.encoders.wave_stem import FrameNorm, SegmentNorm, WaveConvolution, WaveStem
from sensorium.nn.encoders.wave_tower import WaveTower
from sensorium.nn.heads.pooling import MeanToken, Pool
from sensorium.nn.layers.attention import SelfAttention
from sensorium.nn.layers.blocks import PostNorm, PreNorm
from sensorium.nn.layers.convolved_positions import ConvolvedPositions
from sensorium.nn.layers.drop_path import Dropout
from sensorium.nn.layers.feed_forward import MLP
from sensorium.nn.layers.norms import LayerNorm
from sensorium.nn.layers.transformer import Transformer

#: Norm of the convolutions and placement of the norms in the blocks.
KINDS = [("group", False), ("layer", True), ("layer", False)]
#: From the names of transformers to ours.
HEADS = [
    (r"^lm_head", "head.project"),
    (r"^project_hid", "project_context"),
    (r"^project_q", "project_codes"),
    (r"^quantizer\.weight_proj", "quantiser.choose"),
    (r"^quantizer\.codevectors", "quantiser.codes"),
]
NAMES = [
    (r"^wav2vec2\.", "towers.sound."),
    (r"feature_extractor\.conv_layers\.(\d+)\.layer_norm", r"stem.layers.\1.norm"),
    (r"feature_extractor\.conv_layers\.(\d+)\.conv", r"stem.layers.\1.conv"),
    (r"feature_projection\.layer_norm", "norm_stem"),
    (r"feature_projection\.projection", "project"),
    (r"masked_spec_embed", "augment.vector"),
    (r"encoder\.pos_conv_embed\.conv\.parametrizations\.weight\.original0", "positions.scale"),
    (r"encoder\.pos_conv_embed\.conv\.parametrizations\.weight\.original1", "positions.direction"),
    (r"encoder\.pos_conv_embed\.conv\.bias", "positions.bias"),
    (r"encoder\.layers\.", "trunk.blocks."),
    (r"\.attention\.out_proj\.", ".attention.out."),
    (r"\.final_layer_norm\.", ".norm_feed_forward."),
    (r"(trunk\.blocks\.\d+)\.layer_norm\.", r"\1.norm_attention."),
    (r"\.feed_forward\.intermediate_dense\.", ".feed_forward.up."),
    (r"\.feed_forward\.output_dense\.", ".feed_forward.down."),
]


def config(norm: str = "group", stable: bool = False, **changes: Any) -> Wav2Vec2Config:
    """The smallest with all parts, of uneven sizes."""
    given = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "conv_dim": (12, 16),
        "conv_kernel": (10, 3),
        "conv_stride": (5, 2),
        "conv_bias": norm == "layer",
        "num_conv_pos_embeddings": 8,
        "num_conv_pos_embedding_groups": 2,
        "num_codevectors_per_group": 8,
        "num_codevector_groups": 2,
        "codevector_dim": 12,
        "proj_codevector_dim": 20,
        "num_negatives": 5,
        "vocab_size": 11,
        "mask_time_length": 3,
        "attn_implementation": "sdpa",
    }
    return Wav2Vec2Config(feat_extract_norm=norm, do_stable_layer_norm=stable, **given | changes)


def tower(of: Wav2Vec2Config) -> WaveTower:
    """The tower of a config."""
    widths, width, eps = [1, *of.conv_dim], of.hidden_size, of.layer_norm_eps
    norm = SegmentNorm if of.feat_extract_norm == "group" else FrameNorm
    block = Spec(
        PreNorm if of.do_stable_layer_norm else PostNorm,
        norm=Spec(LayerNorm, width=width, eps=eps),
        attention=Spec(
            SelfAttention, width=width, heads=of.num_attention_heads, dropout=of.attention_dropout
        ),
        feed_forward=Spec(
            MLP, width=width, hidden=of.intermediate_size, activation="gelu", dropout=of.activation_dropout
        ),
        branch=Spec(Dropout, rate=of.hidden_dropout),
    )
    around = LayerNorm(width=width, eps=eps)
    return WaveTower(
        stem=WaveStem(
            layers=[
                WaveConvolution(
                    width_in=widths[i],
                    width=widths[i + 1],
                    kernel=of.conv_kernel[i],
                    stride=of.conv_stride[i],
                    bias=of.conv_bias,
                    norm=norm(width=widths[i + 1]) if i == 0 or norm is FrameNorm else None,
                )
                for i in range(len(of.conv_dim))
            ]
        ),
        positions=ConvolvedPositions(
            width=width, kernel=of.num_conv_pos_embeddings, groups=of.num_conv_pos_embedding_groups
        ),
        trunk=Transformer(width=width, depth=of.num_hidden_layers, block=block),
        pool=Pool(width=width, select=MeanToken()),
        norm_in=None if of.do_stable_layer_norm else around,
        norm_out=around if of.do_stable_layer_norm else None,
        augment=SpecAugment(width=width, time_length=of.mask_time_length),
        eps=eps,
        dropout_frames=of.feat_proj_dropout,
        dropout=of.hidden_dropout,
        layer_drop=of.layerdrop,
    )


def pair(
    cls: type, of: Wav2Vec2Config, build: Callable[[Wav2Vec2Config], nn.Module], how: str = "random"
) -> tuple[Any, Any]:
    """A reference and our network with its numbers."""
    theirs = reference(cls, of, how)
    state = dict(theirs.state_dict())
    for name in [name for name in state if "q_proj" in name]:
        parts = [state.pop(name.replace("q_proj", f"{part}_proj")) for part in "qkv"]
        state[name.replace("q_proj", "qkv")] = torch.cat(parts)
    if "quantizer.codevectors" in state:
        books = of.num_codevector_groups
        state["quantizer.codevectors"] = state["quantizer.codevectors"].reshape(
            books, -1, of.codevector_dim // books
        )
    norm = "norm_out" if of.do_stable_layer_norm else "norm_in"
    names = [*HEADS, *NAMES, (r"encoder\.layer_norm", norm)]
    return theirs, take_over(build(of), state, names)


def waves(*lengths: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Recordings in float64, padded with zeros, and their lengths."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.zeros(len(lengths), max(lengths), 1, dtype=torch.float64)
    for row, length in zip(values, lengths, strict=True):
        row[:length, 0] = torch.randn(length, generator=generator, dtype=torch.float64)
    return values, torch.tensor(lengths)


def mask_of(lengths: Tensor) -> Tensor:
    """Real samples, as the reference takes them."""
    return (torch.arange(int(lengths.max())) < lengths[:, None]).long()


def stream(values: Tensor, lengths: Tensor, **changes: Any) -> Stream:
    """One segment per sample."""
    n = len(lengths)
    no, zero = torch.zeros(n, dtype=torch.bool), torch.zeros(n, dtype=torch.long)
    made = Stream(
        values=values,
        lengths=lengths,
        owner=torch.arange(n),
        order=zero,
        ordinal=zero,
        turn=zero,
        content=~no,
        target=no,
        hidden=no,
        corrupt=no,
        seed=torch.arange(n) + 100,
    )
    return replace(made, **changes)
