"""Averaged tokens, against Gemma 3 of transformers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from nn.connectors.toys import EXACT, INITIALISATIONS, SINGLE, Same, check_no_rows, copied, features, linear
from nn.reference import reference
from transformers import Gemma3Config
from transformers.models.gemma3.modeling_gemma3 import Gemma3MultiModalProjector

from sensorium.core import ConfigError
from sensorium.nn.connectors.pooled import Pooled
from sensorium.nn.connectors.projector import Projector
from sensorium.nn.layers.norms import RMSNorm


@pytest.mark.parametrize("how", INITIALISATIONS)
@pytest.mark.parametrize("kept", [4, 36])
def test_is_that_of_gemma3(how: str, kept: int):
    config = Gemma3Config(mm_tokens_per_image=kept)
    vision = config.vision_config
    vision.image_size, vision.patch_size, vision.hidden_size, vision.layer_norm_eps = 24, 4, 10, 1e-3
    config.text_config.hidden_size = 8
    known = reference(Gemma3MultiModalProjector, config, how)
    norm = RMSNorm(width=10, eps=1e-3, offset=1.0)
    ours = Pooled(
        grid=[6, 6],
        kernel=6 // int(kept**0.5),
        projector=Projector(inner=10, width=8, bias=False, norm=norm),
    )
    state = known.state_dict()
    copied(
        ours,
        {
            "projector.norm.weight": state["mm_soft_emb_norm.weight"],
            "projector.layers.0.weight": state["mm_input_projection_weight"].T,
        },
    )
    given = features([36, 72], 10)
    found = ours(given)
    expected = known(given.rows.view(3, 36, 10)).flatten(0, 1)
    torch.testing.assert_close(found.rows, expected, **SINGLE)
    assert found.lengths.tolist() == [kept, 2 * kept]
    known.mm_soft_emb_norm = norm
    torch.testing.assert_close(found.rows, known(given.rows.view(3, 36, 10)).flatten(0, 1), **EXACT)


def test_is_an_average_pooling():
    given = features([24], 3)
    expected = F.avg_pool2d(given.rows.view(1, 4, 6, 3).movedim(-1, 1), 2).flatten(2)[0].T
    found = Pooled(grid=[4, 6], kernel=2, projector=Same(3))(given)
    torch.testing.assert_close(found.rows, expected, **EXACT)


def test_no_rows_and_what_cannot_be():
    check_no_rows(Pooled(grid=[4, 6], kernel=2, projector=linear(3)), 3)
    with pytest.raises(ConfigError, match=r"that 4 divides, found \[4, 6\]"):
        Pooled(grid=[4, 6], kernel=4, projector=linear(3))
