"""ResNet against that of transformers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from nn.reference import assert_same, reference, rows, take_over
from transformers import ResNetConfig, ResNetForImageClassification, ResNetModel

from sensorium.core import ConfigError, Spec
from sensorium.core.state import persistent_buffers
from sensorium.nn.encoders.residual import Basic, Bottleneck, ResNet
from sensorium.nn.heads.classes import ClassHead

RENAMES = [
    (r"^resnet\.", ""),
    (r"^embedder\.embedder\.", "stem."),
    (r"^encoder\.stages\.(\d+)\.layers\.(\d+)\.layer\.", r"stages.\1.\2.branch."),
    (r"^encoder\.stages\.(\d+)\.layers\.(\d+)\.", r"stages.\1.\2."),
    (r"\bconvolution\b", "conv"),
    (r"\bnormalization\b", "norm"),
]
CASES: dict[str, dict[str, Any]] = {
    "basic": {"layer_type": "basic", "hidden_sizes": [8, 12, 16], "depths": [2, 1, 2]},
    "bottleneck": {"layer_type": "bottleneck", "hidden_sizes": [16, 32, 48, 64], "depths": [2, 1, 2, 1]},
    "first": {"layer_type": "bottleneck", "hidden_sizes": [8, 16], "depths": [1, 2],
              "downsample_in_first_stage": True, "downsample_in_bottleneck": True},
    "gelu": {"layer_type": "bottleneck", "hidden_sizes": [16, 16], "depths": [1, 2], "hidden_act": "gelu"},
}  # fmt: skip


def _config(case: str) -> ResNetConfig:
    return ResNetConfig(num_channels=3, embedding_size=8, num_labels=5, **CASES[case])


def _ours(config: ResNetConfig) -> ResNet:
    act = config.hidden_act
    if config.layer_type == "basic":
        block = Spec(Basic, activation=act)
    else:
        block = Spec(Bottleneck, activation=act, stride_first=config.downsample_in_bottleneck)
    first = 2 if config.downsample_in_first_stage else 1
    return ResNet(
        block=block,
        widths=config.hidden_sizes,
        depths=config.depths,
        strides=[first, *[2] * (len(config.depths) - 1)],
        stem=config.embedding_size,
        activation=act,
    )


def _images(*size: int) -> torch.Tensor:
    return torch.randn(2, *size, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("how", ["default", "random"])
@pytest.mark.parametrize("case", CASES)
def test_features_and_pooled_vectors(case, how):
    theirs = reference(ResNetModel, _config(case), how)
    ours = take_over(_ours(theirs.config), theirs.state_dict(), RENAMES)
    for size in ((64, 64), (33, 57), (7, 90)):
        values = _images(*size)
        with torch.no_grad():
            expected, found = (
                theirs(values.permute(0, 3, 1, 2)),
                ours(values, torch.full((2,), values.shape[1])),
            )
        assert_same(found.rows, rows(expected.last_hidden_state))
        assert_same(found.pooled, expected.pooler_output.flatten(1))
        assert found.lengths.tolist() == [len(found.rows) // 2] * 2
        assert found.rows.shape[1] == ours.width == found.pooled.shape[1] == ours.pooled_width


@pytest.mark.parametrize("how", ["default", "random"])
def test_training_normalises_by_the_batch_and_keeps_the_same_statistics(how):
    theirs = reference(ResNetModel, _config("bottleneck"), how).train()
    ours = take_over(_ours(theirs.config), theirs.state_dict(), RENAMES).train()
    values = _images(33, 57).requires_grad_()
    seen = values.detach().clone().requires_grad_()
    expected, found = theirs(seen.permute(0, 3, 1, 2)), ours(values, torch.full((2,), values.shape[1]))
    assert_same(found.rows, rows(expected.last_hidden_state))
    expected.pooler_output.square().sum().backward()
    found.pooled.square().sum().backward()
    scale = float(seen.grad.abs().max())
    assert_same(values.grad / scale, seen.grad / scale)
    renamed = take_over(_ours(theirs.config), theirs.state_dict(), RENAMES)
    expected = persistent_buffers(renamed)
    for name, buffer in persistent_buffers(ours).items():
        assert_same(buffer.double(), expected[name].double())


@pytest.mark.parametrize("how", ["default", "random"])
def test_classes(how):
    theirs = reference(ResNetForImageClassification, _config("basic"), how)
    state = theirs.state_dict()
    head = ClassHead(width=16, classes=5)
    take_over(
        head, {n: state.pop(n) for n in list(state) if "classifier" in n}, [(r"classifier\.1", "project")]
    )
    ours = take_over(_ours(theirs.config), state, RENAMES)
    values = _images(40, 36)
    with torch.no_grad():
        assert_same(
            head(ours(values, torch.full((2,), values.shape[1])).pooled),
            theirs(values.permute(0, 3, 1, 2)).logits,
        )


def test_no_values_and_a_single_place_are_no_trouble_in_training():
    ours = _ours(_config("bottleneck")).train()
    before = {name: buffer.clone() for name, buffer in persistent_buffers(ours).items() if "running" in name}
    found = ours(torch.zeros(0, 32, 32, 3), torch.zeros(0, dtype=torch.long))
    assert found.rows.shape == (0, 64)
    assert found.pooled.shape == (0, 64)
    found.rows.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in ours.parameters())
    for name, buffer in persistent_buffers(ours).items():
        assert name not in before or torch.equal(buffer, before[name]), name
    single = ours(torch.randn(1, 32, 32, 3), torch.tensor([32]))
    assert single.rows.shape == (1, 64)
    assert single.rows.isfinite().all()


def test_it_is_made_without_memory():
    with torch.device("meta"):
        made = _ours(_config("bottleneck"))
    assert {tensor.device.type for tensor in made.state_dict().values()} == {"meta"}


def test_stages_that_do_not_match_are_named():
    with pytest.raises(ConfigError, match="2 widths, 1 depths and 4 strides"):
        ResNet(block=Spec(Basic), widths=[8, 16], depths=[1])
