"""Pairs that turn with one of several coordinates, against the models that have them."""

from __future__ import annotations

import pytest
import torch
from transformers import Qwen2VLTextConfig, Qwen3VLTextConfig
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLRotaryEmbedding
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextRotaryEmbedding

from sensorium.core.errors import ConfigError
from sensorium.nn.layers.rotary import Rotary
from sensorium.nn.layers.rotary_scaling import Yarn
from sensorium.nn.layers.rotary_sections import Chunked, Interleaved, Sections


@pytest.mark.parametrize(
    ("oracle", "config", "sections"),
    [
        (Qwen2VLRotaryEmbedding, Qwen2VLTextConfig, Chunked(sizes=(16, 24, 24))),
        (Qwen3VLTextRotaryEmbedding, Qwen3VLTextConfig, Interleaved(sizes=(24, 20, 20))),
        (Qwen3VLTextRotaryEmbedding, Qwen3VLTextConfig, Interleaved(sizes=(22, 21, 21))),
    ],
)
@pytest.mark.parametrize("scaling", [None, Yarn(factor=4.0, original=512)])
def test_turned_as_in_transformers(oracle: type, config: type, sections: Sections, scaling: Yarn | None):
    torch.manual_seed(0)
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": list(sections.sizes)}
    if scaling is not None:
        rope |= {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}
    given = config(
        hidden_size=512, num_attention_heads=4, num_key_value_heads=2, head_dim=128, rope_parameters=rope,
        max_position_embeddings=2048,
    )  # fmt: skip
    q, k = torch.randn(2, 4, 7, 128, dtype=torch.float64), torch.randn(2, 2, 7, 128, dtype=torch.float64)
    places = torch.randint(0, 500, (3, 2, 7))
    expected = apply_rotary_pos_emb(q, k, *oracle(given)(q, places))
    turn = Rotary(turned=128, base=1e6, sections=sections, scaling=scaling)
    assert turn.axes == 3
    found = turn(q, k, places.permute(1, 2, 0))
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


def test_a_place_of_one_number_has_it_on_all_axes():
    q, k = torch.randn(1, 2, 5, 16), torch.randn(1, 2, 5, 16)
    places = torch.arange(5)[None]
    plain = Rotary(turned=16)(q, k, places)
    for sections in (Chunked(sizes=[2, 3, 3]), Interleaved(sizes=[4, 2, 2])):
        found = Rotary(turned=16, sections=sections)(q, k, places)
        torch.testing.assert_close(found, plain, atol=0, rtol=0)
    with pytest.raises(ConfigError, match="places of 2 axes"):
        Rotary(turned=16, axes=2)(q, k, places)


def test_which_pairs_are_whose():
    assert Chunked(sizes=(1, 2, 3)).axes() == [0, 1, 1, 2, 2, 2]
    assert Interleaved(sizes=(4, 2, 2)).axes() == [0, 1, 2, 0, 1, 2, 0, 0]


@pytest.mark.parametrize("sizes", [(), (0, 1), (-1, 2), (1, 3, 3)])
def test_sizes_that_cannot_be(sizes: tuple[int, ...]):
    with pytest.raises(ConfigError, match="Interleaved: the pairs cannot be shared"):
        Interleaved(sizes=sizes)


def test_sections_of_another_width():
    with pytest.raises(ConfigError, match=r"sections of 8 pairs in all, found 1 and \[2, 2\]"):
        Rotary(turned=16, sections=Chunked(sizes=(2, 2)))
    with pytest.raises(ConfigError, match=r"axes of 1 .* found 2 and \[4, 4\]"):
        Rotary(turned=16, axes=2, sections=Chunked(sizes=(4, 4)))
