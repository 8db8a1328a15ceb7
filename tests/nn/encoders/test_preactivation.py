"""BiT against that of transformers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from nn.reference import assert_same, reference, rows, take_over
from transformers import BitConfig, BitForImageClassification, BitModel

from sensorium.core import ConfigError, Spec
from sensorium.nn.encoders.preactivation import BiT, PostActivation, PreActivation
from sensorium.nn.heads.classes import ClassHead
from sensorium.nn.layers.convolution import rounded

RENAMES = [
    (r"^bit\.", ""),
    (r"^embedder\.convolution\.", "stem."),
    (r"^embedder\.norm\.", "stem_norm.0."),
    (r"^encoder\.stages\.(\d+)\.layers\.(\d+)\.", r"stages.\1.\2."),
    (r"downsample\.conv\.", "shortcut."),
    (r"downsample\.norm\.", "shortcut.1."),
    (r"\b(norm[12])\.", r"\1.0."),
    (r"^norm\.", "norm.0."),
]
#: The third norm has no nonlinearity in one kind of block, the shortcut no norm in the other.
OF_KIND = {
    "preactivation": [(r"\bnorm3\.", "norm3.0.")],
    "bottleneck": [(r"shortcut\.weight", "shortcut.0.weight")],
}
SMALL = {"hidden_sizes": [32, 64, 48], "depths": [2, 1, 2]}
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "same": {"global_padding": "same"},
    "pool": {"embedding_dynamic_padding": True},
    "both": {"global_padding": "SAME", "embedding_dynamic_padding": True, "hidden_act": "gelu"},
    "dilated": {"hidden_sizes": [32, 32, 32, 32], "depths": [1, 2, 2, 2], "output_stride": 8},
    "dilated same": {"depths": [1, 2, 3], "output_stride": 8, "global_padding": "same"},
    "undivided": {"depths": [1, 1, 2], "output_stride": 4},
    "wide": {
        "hidden_sizes": [16, 24, 40],
        "width_factor": 2,
    },  # not the first kind, where the reference fails
}


def _config(case: str, kind: str) -> BitConfig:
    settings = SMALL | CASES[case]
    return BitConfig(embedding_size=16, num_groups=4, layer_type=kind, num_labels=5, **settings)


def _ours(config: BitConfig) -> BiT:
    return BiT(
        block=Spec(PreActivation if config.layer_type == "preactivation" else PostActivation),
        widths=[rounded(width * config.width_factor) for width in config.hidden_sizes],
        depths=config.depths,
        stem=config.embedding_size,
        groups=config.num_groups,
        activation=config.hidden_act,
        same=config.global_padding == "SAME",
        same_pool=config.embedding_dynamic_padding,
        output_stride=config.output_stride,
    )


def _images(*size: int) -> torch.Tensor:
    return torch.randn(2, *size, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("how", ["default", "random"])
@pytest.mark.parametrize(
    ("case", "kind"),
    [(case, kind) for case in CASES for kind in OF_KIND if (case, kind) != ("wide", "preactivation")],
)
def test_features_and_pooled_vectors(case, kind, how):
    theirs = reference(BitModel, _config(case, kind), how)
    ours = take_over(_ours(theirs.config), theirs.state_dict(), RENAMES + OF_KIND[kind])
    for training in (False, True):
        theirs.train(training)
        ours.train(training)
        for size in ((64, 64), (33, 57), (38, 71)):
            values = _images(*size)
            with torch.no_grad():
                expected, found = (
                    theirs(values.permute(0, 3, 1, 2)),
                    ours(values, torch.full((2,), values.shape[1])),
                )
            assert_same(found.rows, rows(expected.last_hidden_state))
            assert_same(found.pooled, expected.pooler_output.flatten(1))
            assert found.lengths.tolist() == [len(found.rows) // 2] * 2


@pytest.mark.parametrize("how", ["default", "random"])
def test_gradients_and_classes(how):
    theirs = reference(BitForImageClassification, _config("both", "preactivation"), how)
    state, head = theirs.state_dict(), ClassHead(width=48, classes=5)
    take_over(
        head, {n: state.pop(n) for n in list(state) if "classifier" in n}, [(r"classifier\.1", "project")]
    )
    ours = take_over(_ours(theirs.config), state, RENAMES + OF_KIND["preactivation"])
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


def test_branches_are_left_out_more_often_towards_the_end():
    settings = {"widths": [8, 8], "depths": [2, 3], "groups": 2, "stem": 8}
    made = BiT(block=Spec(PreActivation, groups=2), drop_path=0.4, **settings)
    rates = [block.drop.rate for stage in made.stages for block in stage]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


def test_it_is_made_without_memory():
    with torch.device("meta"):
        made = _ours(_config("plain", "bottleneck"))
    assert {tensor.device.type for tensor in made.state_dict().values()} == {"meta"}


def test_groups_that_do_not_divide_are_named():
    with pytest.raises(ConfigError, match="8 channels cannot be divided into 32 groups"):
        BiT(block=Spec(PreActivation), widths=[32], depths=[1], stem=32)
    with pytest.raises(ConfigError, match="1 widths and 2 depths"):
        BiT(block=Spec(PreActivation), widths=[32], depths=[1, 1])
