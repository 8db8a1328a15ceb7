"""EfficientNet against that of transformers, and the one inside ALIGN, which ends earlier."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from nn.reference import assert_same, reference, rows, take_over
from transformers import (
    AlignVisionConfig,
    AlignVisionModel,
    EfficientNetConfig,
    EfficientNetForImageClassification,
    EfficientNetModel,
)

from sensorium.core import ConfigError
from sensorium.core.state import persistent_buffers
from sensorium.nn.encoders.efficientnet import EfficientNet, Stage
from sensorium.nn.heads.classes import ClassHead

RENAMES = [
    (r"^efficientnet\.", ""),
    (r"^embeddings\.convolution\.", "stem.conv."),
    (r"^embeddings\.batchnorm\.", "stem.norm."),
    (r"^encoder\.blocks\.", "blocks."),
    (r"expansion\.expand_conv\.", "expand.conv."),
    (r"expansion\.expand_bn\.", "expand.norm."),
    (r"depthwise_conv\.depthwise_conv\.", "depthwise.conv."),
    (r"depthwise_conv\.depthwise_norm\.", "depthwise.norm."),
    (r"squeeze_excite\.", "gate."),
    (r"projection\.project_conv\.", "project.conv."),
    (r"projection\.project_bn\.", "project.norm."),
    (r"^encoder\.top_conv\.", "top.conv."),
    (r"^encoder\.top_bn\.", "top.norm."),
]
SMALL: dict[str, Any] = {
    "width_coefficient": 0.25,
    "depth_coefficient": 1.3,
    "kernel_sizes": [3, 5, 3],
    "in_channels": [32, 16, 24],
    "out_channels": [16, 24, 40],
    "strides": [1, 2, 2],
    "num_block_repeats": [1, 2, 1],
    "expand_ratios": [1, 6, 4],
    "hidden_dim": 320,
    "batch_norm_momentum": 0.1,
    "drop_connect_rate": 0.0,
    "dropout_rate": 0.0,
    "depthwise_padding": [],
}
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "even": {"depthwise_padding": [2, 5]},
    "odd": {"width_coefficient": 0.31, "hidden_dim": 400, "squeeze_expansion_ratio": 0.1},
    "deep": {
        "depth_coefficient": 2.0,
        "expand_ratios": [2, 1, 3],
        "hidden_act": "relu",
        "batch_norm_eps": 1e-2,
    },
}


def _ours(config: Any, *, top: bool = True) -> EfficientNet:
    stages = [
        Stage(width, depth, kernel, stride, expansion)
        for width, depth, kernel, stride, expansion in zip(
            config.out_channels,
            config.num_block_repeats,
            config.kernel_sizes,
            config.strides,
            config.expand_ratios,
            strict=True,
        )
    ]
    return EfficientNet(
        stages=stages,
        wider=config.width_coefficient,
        deeper=config.depth_coefficient,
        divisor=config.depth_divisor,
        squeeze=config.squeeze_expansion_ratio,
        even=config.depthwise_padding,
        top=top,
        activation=config.hidden_act,
        drop_path=config.drop_connect_rate,
        eps=config.batch_norm_eps,
        momentum=config.batch_norm_momentum,
    )


def _images(*size: int) -> torch.Tensor:
    return torch.randn(2, *size, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("how", ["default", "random"])
@pytest.mark.parametrize("case", CASES)
def test_features_and_pooled_vectors(case, how):
    theirs = reference(EfficientNetModel, EfficientNetConfig(**SMALL | CASES[case]), how)
    ours = take_over(_ours(theirs.config), theirs.state_dict(), RENAMES)
    for size in ((32, 32), (33, 57), (38, 71)):
        values = _images(*size)
        with torch.no_grad():
            expected, found = (
                theirs(values.permute(0, 3, 1, 2)),
                ours(values, torch.full((2,), values.shape[1])),
            )
        assert_same(found.rows, rows(expected.last_hidden_state))
        assert_same(found.pooled, expected.pooler_output)
        assert found.lengths.tolist() == [len(found.rows) // 2] * 2


@pytest.mark.parametrize("how", ["default", "random"])
def test_align_ends_before_the_last_convolution(how):
    settings = SMALL | {"hidden_dim": 16}
    theirs = reference(AlignVisionModel, AlignVisionConfig(**settings), how)
    ours = take_over(_ours(theirs.config, top=False), theirs.state_dict(), RENAMES)
    values = _images(33, 57)
    with torch.no_grad():
        expected, found = theirs(values.permute(0, 3, 1, 2)), ours(values, torch.full((2,), values.shape[1]))
    assert_same(found.rows, rows(expected.last_hidden_state))
    assert_same(found.pooled, expected.pooler_output)
    assert ours.width == found.pooled.shape[1] == 16


@pytest.mark.parametrize("how", ["default", "random"])
def test_training_normalises_by_the_batch_and_keeps_the_same_statistics(how):
    theirs = reference(
        EfficientNetForImageClassification, EfficientNetConfig(num_labels=5, **SMALL), how
    ).train()
    state, head = theirs.state_dict(), ClassHead(width=320, classes=5)
    take_over(head, {n: state.pop(n) for n in list(state) if "classifier" in n}, [("classifier", "project")])
    ours = take_over(_ours(theirs.config), state, RENAMES).train()
    values = _images(33, 57).requires_grad_()
    seen = values.detach().clone().requires_grad_()
    expected, found = (
        theirs(seen.permute(0, 3, 1, 2)).logits,
        head(ours(values, torch.full((2,), values.shape[1])).pooled),
    )
    assert_same(found, expected)
    expected.square().sum().backward()
    found.square().sum().backward()
    scale = float(seen.grad.abs().max())
    assert_same(values.grad / scale, seen.grad / scale)
    after = take_over(_ours(theirs.config), theirs.efficientnet.state_dict(), RENAMES)
    expected = persistent_buffers(after)
    for name, buffer in persistent_buffers(ours).items():
        assert_same(buffer.double(), expected[name].double())


def test_the_published_sizes():
    """Channels and blocks of B0 and B7, from the paper's table and rules."""
    config = EfficientNetConfig()
    for wider, deeper, stem, last, blocks in ((1.0, 1.0, 32, 1280, 16), (2.0, 3.1, 64, 2560, 55)):
        config.width_coefficient, config.depth_coefficient = wider, deeper
        with torch.device("meta"):
            made = _ours(config)
        assert (made.stem.conv.out_channels, made.width, len(made.blocks)) == (stem, last, blocks)
    with torch.device("meta"):
        config.width_coefficient, config.depth_coefficient = 1.0, 1.0
        made = _ours(config)
    assert sum(p.numel() for p in made.parameters()) + 1281 * 1000 == 5_288_548


def test_branches_are_left_out_in_training_for_whole_pictures():
    stages = [Stage(16, 3, 3, 1, 1)]
    made = EfficientNet(stages=stages, wider=0.25, drop_path=0.6, top=False)
    assert [block.drop and block.drop.rate for block in made.blocks] == pytest.approx([None, 0.2, 0.4])
    x = torch.randn(64, 8, 4, 4)
    dropped = made.blocks[2].drop(x)
    kept = dropped.flatten(1).abs().sum(1) > 0
    assert 20 < int(kept.sum()) < 60
    torch.testing.assert_close(dropped[kept], x[kept] / 0.6)
    assert torch.equal(made.blocks[2].drop.eval()(x), x)


def test_wrong_settings_are_named():
    with pytest.raises(ConfigError, match="a kernel must be odd, found 4"):
        Stage(16, 1, 4, 1, 1)
    with pytest.raises(ConfigError, match="at least one stage"):
        EfficientNet(stages=[])
