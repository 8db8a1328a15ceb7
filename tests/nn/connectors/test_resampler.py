"""The perceiver resampler, against that of IDEFICS of transformers."""

from __future__ import annotations

import pytest
import torch
from nn.connectors.toys import EXACT, INITIALISATIONS, check_no_rows, copied, features, linear
from nn.reference import reference
from transformers import IdeficsConfig
from transformers.models.idefics.perceiver import IdeficsPerceiverResampler

from sensorium.core import ConfigError
from sensorium.nn.connectors.resampler import Resampler, resampler_block
from sensorium.nn.layers.norms import LayerNorm

WIDTH, HEADS, HEAD, LATENTS, DEPTH = 12, 3, 5, 4, 2


def resampler(norm_heads: bool = False, **changes) -> Resampler:
    block = resampler_block(
        width=WIDTH, heads=HEADS, head_width=HEAD, activation="relu", norm_heads=norm_heads
    )
    asked = {"width": WIDTH, "latents": LATENTS, "depth": DEPTH, "block": block} | changes
    return Resampler(norm_out=LayerNorm(width=WIDTH), **asked)


def known_and_ours(how: str, norm_heads: bool):
    config = IdeficsConfig()
    config.perceiver_config.qk_layer_norms_perceiver = norm_heads
    config.vision_config.embed_dim = WIDTH
    known = reference(
        lambda asked: IdeficsPerceiverResampler(asked, WIDTH, DEPTH, HEADS, HEAD, LATENTS), config, how
    )
    state = known.state_dict()
    ours = {"latents": state["latents"]}
    ours |= {f"norm_out.{part}": state[f"layer_norm.{part}"] for part in ("weight", "bias")}
    for index in range(DEPTH):
        to, attention, mlp = f"blocks.{index}", f"blocks.{index}.0", f"blocks.{index}.1"
        for part in ("weight", "bias"):
            ours[f"{to}.norm_context.{part}"] = state[f"{attention}.context_layer_norm.{part}"]
            ours[f"{to}.norm_latents.{part}"] = state[f"{attention}.latents_layer_norm.{part}"]
            ours[f"{to}.norm_feed_forward.{part}"] = state[f"{mlp}.ln.{part}"]
            if norm_heads:
                ours[f"{to}.attention.norm_query.{part}"] = state[f"{attention}.q_layer_norm.{part}"]
                ours[f"{to}.attention.norm_key.{part}"] = state[f"{attention}.k_layer_norm.{part}"]
        ours[f"{to}.attention.q.weight"] = state[f"{attention}.q_proj.weight"]
        ours[f"{to}.attention.kv.weight"] = torch.cat(
            [state[f"{attention}.{part}_proj.weight"] for part in "kv"]
        )
        ours[f"{to}.attention.out.weight"] = state[f"{attention}.output_proj.weight"]
        ours[f"{to}.feed_forward.up.weight"] = state[f"{mlp}.fc.weight"]
        ours[f"{to}.feed_forward.down.weight"] = state[f"{mlp}.c_proj.weight"]
    return known, copied(resampler(norm_heads), ours)


@pytest.mark.parametrize("how", INITIALISATIONS)
@pytest.mark.parametrize("norm_heads", [True, False])
def test_is_that_of_idefics(how: str, norm_heads: bool):
    """Segments of unequal length are each resampled as if they were alone."""
    known, ours = known_and_ours(how, norm_heads)
    given = features([7, 3, 5], WIDTH)
    found = ours(given)
    expected = torch.cat([known(x[None])[0] for x in given.segments()])
    torch.testing.assert_close(found.rows, expected, **EXACT)
    assert found.lengths.tolist() == [LATENTS] * 3


def test_projector_comes_last():
    torch.manual_seed(0)
    plain = resampler().double()
    with_one = resampler(projector=linear(WIDTH)).double()
    with_one.load_state_dict(plain.state_dict() | dict(with_one.projector.state_dict(prefix="projector.")))
    given = features([7, 3], WIDTH)
    expected = with_one.projector.project(plain(given).rows)
    found = with_one(given)
    torch.testing.assert_close(found.rows, expected, **EXACT)
    assert found.lengths.tolist() == [LATENTS] * 2
    assert with_one.width == 5


def test_no_rows_and_what_cannot_be():
    check_no_rows(resampler(norm_heads=True, projector=linear(WIDTH)), WIDTH)
    for changes in ({"latents": 0}, {"depth": 0}):
        with pytest.raises(ConfigError, match="needs latents and a depth"):
            resampler(**changes)
