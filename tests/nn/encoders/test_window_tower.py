"""Swin against transformers: both initialisations, odd sizes, the maps that detectors need."""

from __future__ import annotations

import pytest
import torch
from nn.reference import assert_same, reference, take_over
from transformers import SwinBackbone, SwinConfig, SwinModel

from sensorium.core import ConfigError, Spec
from sensorium.nn.encoders.pixels import Pixels
from sensorium.nn.encoders.window_tower import GridEmbedding, WindowTower, stages
from sensorium.nn.heads.pooling import MeanToken, Pool
from sensorium.nn.layers.norms import LayerNorm

INITIALISATIONS = ["default", "random"]
#: From the names of transformers to ours.
NAMES = [
    (r"^embeddings\.patch_embeddings\.projection", "embedding.project"),
    (r"^embeddings\.norm", "embedding.norm"),
    (r"^encoder\.layers\.(\d+)\.downsample\.norm", r"merges.\1.norm"),
    (r"^encoder\.layers\.(\d+)\.downsample\.reduction", r"merges.\1.project"),
    (r"^encoder\.layers\.", "stages."),
    (r"\.attention\.qkv", ".attention.attention.qkv"),
    (r"\.attention\.o_proj", ".attention.attention.out"),
    (
        r"attention\.relative_position_bias\.relative_position_bias_table",
        "attention.attention.relative.weight",
    ),
    (r"\.layernorm_before", ".norm_attention"),
    (r"\.layernorm_after", ".norm_feed_forward"),
    (r"\.mlp\.fc1", ".feed_forward.up"),
    (r"\.mlp\.fc2", ".feed_forward.down"),
    (r"^layernorm", "norm_out"),
]


def config(window: int, depths: tuple[int, ...] = (2, 3), **changes) -> SwinConfig:
    return SwinConfig(
        image_size=32,
        patch_size=4,
        embed_dim=12,
        depths=depths,
        num_heads=[3, 2, 4][: len(depths)],
        window_size=window,
        mlp_ratio=1.7,
        hidden_act="gelu_new",
        layer_norm_eps=1e-4,
        drop_path_rate=0.0,
        **changes,
    )


def tower(asked: SwinConfig, **changes) -> Spec:
    width = asked.embed_dim << len(asked.depths) - 1
    return Spec(
        WindowTower,
        embedding=Spec(GridEmbedding, patch=[4, 4], channels=3, width=asked.embed_dim, values=Spec(Pixels)),
        stages=stages(
            width=asked.embed_dim,
            depths=asked.depths,
            heads=asked.num_heads,
            window=asked.window_size,
            ratio=asked.mlp_ratio,
            activation=asked.hidden_act,
            eps=asked.layer_norm_eps,
            **changes,
        ),
        norm_out=Spec(LayerNorm, width=width, eps=asked.layer_norm_eps),
        pool=Spec(Pool, width=width, select=Spec(MeanToken)),
    )


def ours_of(theirs: torch.nn.Module, spec: Spec) -> WindowTower:
    """With the reference's numbers: one matrix for queries, keys and values, and patches with channels last."""
    state = {}
    for name, value in theirs.state_dict().items():
        if name.endswith("patch_embeddings.projection.weight"):
            value = value.movedim(1, -1).flatten(1)
        elif ".k_proj." in name or ".v_proj." in name:
            continue
        elif ".q_proj." in name:
            names = [name.replace(".q_proj.", f".{part}_proj.") for part in "qkv"]
            name, value = name.replace("q_proj", "qkv"), torch.cat([theirs.state_dict()[n] for n in names])
        state[name] = value
    return take_over(spec.build(), state, NAMES)


def pictures(height: int, width: int) -> torch.Tensor:
    return torch.randn(2, 3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("how", INITIALISATIONS)
@pytest.mark.parametrize(
    ("window", "height", "width"),
    [(2, 32, 32), (3, 32, 32), (4, 32, 32), (3, 37, 50), (3, 28, 90), (4, 25, 44)],
)
def test_parity(how: str, window: int, height: int, width: int):
    """Grids that are whole windows or not, of even or odd size, of one window (4, at 32: stage 2) or more."""
    theirs = reference(SwinModel, config(window), how)
    ours = ours_of(theirs, tower(theirs.config))
    values = pictures(height, width)
    with torch.no_grad():
        expected = theirs(values, output_hidden_states=True)
        found = ours(values.movedim(1, -1), torch.full((2,), height))
        maps = ours.maps(values.movedim(1, -1), torch.full((2,), height))
    assert_same(found.rows.unflatten(0, (2, -1)), expected.last_hidden_state)
    assert_same(found.pooled, expected.pooler_output)
    assert_same(maps[0].movedim(-1, 1), expected.reshaped_hidden_states[0])
    assert_same(maps[-1].movedim(-1, 1), expected.reshaped_hidden_states[-1])


@pytest.mark.parametrize("how", INITIALISATIONS)
@pytest.mark.parametrize(("height", "width"), [(32, 32), (41, 23)])
def test_maps_are_those_of_detectors(how: str, height: int, width: int):
    """They shift windows even where one covers the grid."""
    theirs = reference(SwinBackbone, config(3, (2, 2, 2), out_features=["stage1", "stage3"]), how)
    spec = tower(theirs.config, shift_small=True)
    ours = ours_of(theirs.swin, spec)
    values = pictures(height, width)
    with torch.no_grad():
        expected = theirs(values, output_hidden_states=True)
        found = ours.maps(values.movedim(1, -1), torch.full((2,), height))
    assert len(found) == len(expected.hidden_states) == 4
    for mine, map_ in zip(found, expected.hidden_states, strict=True):
        assert_same(mine.movedim(-1, 1), map_)


def test_a_grid_smaller_than_a_window():
    """Where the reference fails: the rest of the window is zeros."""
    torch.manual_seed(0)
    small = tower(config(7)).build().eval()
    found = small(torch.randn(1, 8, 12, 3), torch.full((1,), 8))
    assert found.lengths.tolist() == [2]
    assert bool(found.rows.isfinite().all())


def test_segments_do_not_see_each_other():
    torch.manual_seed(0)
    ours = tower(config(3)).build().double().eval()
    values = pictures(37, 50).movedim(1, -1)
    lengths = torch.full((2,), 37)
    with torch.no_grad():
        assert_same(ours(values[1:], lengths[1:]).pooled, ours(values, lengths).pooled[1:])
        assert ours(values[:0], lengths[:0]).pooled.shape == (0, 24)


def test_every_parameter_learns():
    torch.manual_seed(0)
    ours = tower(config(3), drop_path=0.1).build()
    rates = [block.rate for stage in ours.stages for block in stage.blocks]
    assert rates == pytest.approx([0.0, 0.025, 0.05, 0.075, 0.1])
    found = ours(pictures(37, 50).movedim(1, -1).float(), torch.full((2,), 37))
    (found.pooled.square().sum() + found.rows[::2].square().sum()).backward()
    still = [n for n, p in ours.named_parameters() if p.grad is None or not bool(p.grad.ne(0).any())]
    assert still == []


def test_bytes_are_normalised_before_they_are_filled_up():
    torch.manual_seed(0)
    ours = tower(config(3)).build().double().eval()
    ours.embedding.values = Pixels(mean=0.3, std=0.7).double()
    given = torch.randint(0, 256, (1, 30, 33, 3), dtype=torch.uint8)
    lengths = torch.full((1,), 30)
    assert_same(ours(given, lengths).pooled, ours((given.double() / 255 - 0.3) / 0.7, lengths).pooled)


def test_stages_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="heads"):
        stages(width=8, depths=[1, 1], heads=[2], window=2)
    spec = tower(config(2))
    mixed = spec.replace(stages=[spec.stages[1], spec.stages[0]])
    with pytest.raises(ConfigError, match="twice as wide"):
        mixed.build()
