"""Projectors against transformers' and by their shapes; pieces of equal size."""

from __future__ import annotations

import pytest
import torch
from nn.connectors.toys import EXACT, INITIALISATIONS, check_no_rows, copied, features
from nn.reference import reference
from torch import nn
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, PaliGemmaConfig
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector
from transformers.models.paligemma.modeling_paligemma import PaliGemmaMultiModalProjector

from sensorium.core import ConfigError
from sensorium.nn.connectors.connector import pieces
from sensorium.nn.connectors.projector import Projector
from sensorium.nn.layers.norms import LayerNorm


@pytest.mark.parametrize("how", INITIALISATIONS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_two_maps_are_those_of_llava(how: str, bias: bool, activation: str):
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(hidden_size=6, num_attention_heads=2),
        text_config=LlamaConfig(hidden_size=8, num_attention_heads=2),
        vision_feature_layer=[-2, -1],
        projector_hidden_act=activation,
        multimodal_projector_bias=bias,
    )
    known = reference(LlavaMultiModalProjector, config, how)
    ours = Projector(inner=12, width=8, depth=2, activation=activation, bias=bias)
    names = {"linear_1": "layers.0", "linear_2": "layers.1"}
    copied(ours, {names[n.split(".")[0]] + "." + n.split(".")[1]: v for n, v in known.state_dict().items()})
    given = features([3, 1], 12)
    found = ours(given)
    torch.testing.assert_close(found.rows, known(given.rows), **EXACT)
    assert found.lengths.tolist() == [3, 1]


@pytest.mark.parametrize("how", INITIALISATIONS)
def test_one_map_is_that_of_paligemma(how: str):
    config = PaliGemmaConfig(vision_config={"model_type": "siglip_vision_model", "projection_dim": 8})
    config.vision_config.hidden_size, config.vision_config.projection_dim = 6, 8
    known = reference(PaliGemmaMultiModalProjector, config, how)
    ours = Projector(inner=6, width=8)
    copied(ours, {f"layers.0.{n.split('.')[1]}": v for n, v in known.state_dict().items()})
    given = features([4], 6)
    torch.testing.assert_close(ours(given).rows, known(given.rows), **EXACT)


def test_depth_hidden_width_and_norm():
    ours = Projector(inner=6, width=8, depth=3, hidden=5, norm=LayerNorm(width=6)).double()
    assert [tuple(layer.weight.shape) for layer in ours.layers] == [(5, 6), (5, 5), (8, 5)]
    x = features([4], 6)
    first, second, third = ours.layers
    gelu = nn.functional.gelu
    expected = third(gelu(second(gelu(first(nn.functional.layer_norm(x.rows, (6,)))))))
    torch.testing.assert_close(ours(x).rows, expected, **EXACT)
    ours.norm_out = LayerNorm(width=8).double()
    torch.testing.assert_close(ours(x).rows, nn.functional.layer_norm(expected, (8,)), **EXACT)
    check_no_rows(ours, 6)


def test_a_projector_needs_a_map():
    with pytest.raises(ConfigError, match="at least 1, found 0"):
        Projector(inner=6, width=8, depth=0)


def test_pieces_are_whole():
    given = features([6, 3], 2)
    assert torch.equal(pieces(given, 3), given.rows.view(3, 3, 2))
    assert pieces(features([], 2), 3).shape == (0, 3, 2)
    with pytest.raises(ConfigError, match=r"pieces of 4 tokens, found segments of \[3, 6\]"):
        pieces(given, 4)
