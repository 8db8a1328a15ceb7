"""Tokens folded into channels, against InternVL and Idefics3 of transformers."""

from __future__ import annotations

import pytest
import torch
from nn.connectors.toys import EXACT, INITIALISATIONS, Same, check_no_rows, copied, features, linear
from nn.reference import reference
from transformers import Idefics3Config, InternVLConfig
from transformers.models.idefics3.modeling_idefics3 import Idefics3Connector
from transformers.models.internvl.modeling_internvl import InternVLModel, InternVLMultiModalProjector

from sensorium.core import ConfigError
from sensorium.nn.connectors.projector import Projector
from sensorium.nn.connectors.unshuffled import Unshuffled
from sensorium.nn.layers.norms import LayerNorm


def renamed(known, names: dict[str, str]):
    return {
        f"{names[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}": value
        for name, value in known.state_dict().items()
    }


@pytest.mark.parametrize("how", INITIALISATIONS)
@pytest.mark.parametrize("factor", [1, 2, 4])
def test_is_that_of_internvl(how: str, factor: int):
    config = InternVLConfig(downsample_ratio=1 / factor)
    config.vision_config.hidden_size, config.text_config.hidden_size = 16, 8
    known = reference(InternVLMultiModalProjector, config, how)
    wide = 16 * factor**2
    ours = Unshuffled(
        grid=[4, 8],
        factor=factor,
        projector=Projector(inner=wide, width=8, depth=2, norm=LayerNorm(width=wide)),
    )
    names = {
        "layer_norm": "projector.norm",
        "linear_1": "projector.layers.0",
        "linear_2": "projector.layers.1",
    }
    copied(ours, renamed(known, names))
    given = features([32, 96], 16)
    tiles = InternVLModel.pixel_shuffle(None, given.rows.view(4, 4, 8, 16), scale_factor=1 / factor)
    found = ours(given)
    torch.testing.assert_close(found.rows, known(tiles.flatten(0, 2)), **EXACT)
    assert found.lengths.tolist() == [32 // factor**2, 96 // factor**2]


@pytest.mark.parametrize("how", INITIALISATIONS)
@pytest.mark.parametrize("factor", [2, 3])
def test_is_that_of_idefics3(how: str, factor: int):
    config = Idefics3Config(scale_factor=factor)
    config.vision_config.hidden_size, config.text_config.hidden_size = 4, 8
    known = reference(Idefics3Connector, config, how)
    ours = Unshuffled(
        grid=[6, 6], factor=factor, projector=Projector(inner=4 * factor**2, width=8, bias=False)
    )
    copied(ours, renamed(known, {"modality_projection.proj": "projector.layers.0"}))
    given = features([72, 36], 4)
    expected = known(given.rows.view(3, 36, 4)).flatten(0, 1)
    torch.testing.assert_close(ours(given).rows, expected, **EXACT)


def test_neighbours_stand_side_by_side():
    given = features([8], 1)
    rows = Unshuffled(grid=[2, 4], factor=2, projector=Same(4))(given).rows
    assert torch.equal(rows, given.rows[:, 0][torch.tensor([[0, 1, 4, 5], [2, 3, 6, 7]])])


def test_no_rows_and_what_cannot_be():
    check_no_rows(Unshuffled(grid=[2, 4], factor=2, projector=linear(12)), 3)
    with pytest.raises(ConfigError, match=r"that 2 divides, found \[2, 3\]"):
        Unshuffled(grid=[2, 3], factor=2, projector=linear(12))
    with pytest.raises(ConfigError, match="rows and columns"):
        Unshuffled(grid=[4], factor=2, projector=linear(12))
    with pytest.raises(ConfigError, match="pieces of 8 tokens"):
        Unshuffled(grid=[2, 4], factor=2, projector=linear(12))(features([12], 3))
