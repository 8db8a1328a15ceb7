"""Features from before the end of a tower, against what its blocks were seen to give."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sensorium.core import ConfigError
from sensorium.nn.encoders.layer_features import LayerFeatures
from sensorium.nn.encoders.patch_tower import PatchEmbedding, PatchTower
from sensorium.nn.heads.pooling import FirstToken, Pool
from sensorium.nn.layers.blocks import block
from sensorium.nn.layers.norms import LayerNorm
from sensorium.nn.layers.tables import PositionTable
from sensorium.nn.layers.transformer import Transformer

WIDTH, DEPTH, LEAD = 8, 3, 3


@pytest.fixture
def tower() -> PatchTower:
    torch.manual_seed(0)
    made = PatchTower(
        embedding=PatchEmbedding(
            patch=[2, 2],
            channels=3,
            width=WIDTH,
            positions=PositionTable(grid=[2, 3], width=WIDTH, prefix=1),
            registers=2,
        ),
        trunk=Transformer(width=WIDTH, depth=DEPTH, block=block(width=WIDTH, heads=2, hidden=12)),
        pool=Pool(width=WIDTH, select=FirstToken()),
        norm_in=LayerNorm(width=WIDTH),
        norm_out=LayerNorm(width=WIDTH),
    )
    return made.double().eval()


def states(tower: PatchTower, values: Tensor) -> list[Tensor]:
    """What enters the first block, then what leaves each, [n, t, d]."""
    seen: list[Tensor] = []
    handles = [tower.norm_in.register_forward_hook(lambda _, __, x: seen.append(x))]
    handles += [
        made.register_forward_hook(lambda _, __, x: seen.append(x.view_as(seen[0])))
        for made in tower.trunk.blocks
    ]
    tower(values, torch.full((len(values),), values.shape[1]))
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("leading", [True, False])
@pytest.mark.parametrize("layers", [[0], [-1], [-2], [3], [-2, -4, 1], [2, 2]])
def test_are_the_states_between_blocks(tower: PatchTower, layers: list[int], leading: bool):
    values = torch.randn(2, 4, 6, 3, dtype=torch.float64)
    expected = torch.cat([states(tower, values)[layer] for layer in layers], dim=-1)
    expected = expected if leading else expected[:, LEAD:]
    ours = LayerFeatures(tower=tower, layers=layers, leading=leading)
    found = ours(values, torch.tensor([4, 4]))
    assert torch.equal(found.rows, expected.flatten(0, 1))
    assert found.lengths.tolist() == [expected.shape[1]] * 2
    assert torch.equal(found.pooled, expected.mean(1))
    assert ours.width == ours.pooled_width == WIDTH * len(layers)


def test_what_comes_after_is_kept_and_not_run(tower: PatchTower):
    ours = LayerFeatures(tower=tower, layers=[-2])
    assert {name.removeprefix("tower.") for name in ours.state_dict()} == tower.state_dict().keys()
    ours(torch.randn(1, 4, 6, 3).double(), torch.tensor([4])).rows.sum().backward()
    used = {name for name, value in tower.named_parameters() if value.grad is not None}
    unused = {name for name, _ in tower.named_parameters()} - used
    assert unused == {
        name for name in tower.state_dict() if name.startswith(("trunk.blocks.2.", "norm_out."))
    }


def test_no_rows_and_what_cannot_be(tower: PatchTower):
    ours = LayerFeatures(tower=tower, layers=[-1, -2])
    found = ours(torch.zeros(0, 4, 6, 3).double(), torch.zeros(0, dtype=torch.long))
    assert found.rows.shape == (0, 2 * WIDTH)
    assert found.pooled.shape == (0, 2 * WIDTH)
    for layers in ([], [4], [-5], [0, 9]):
        with pytest.raises(ConfigError, match="of -4 to 3, which this tower has"):
            LayerFeatures(tower=tower, layers=layers)
    with pytest.raises(ConfigError, match="one size"):
        ours(torch.zeros(2, 4, 6, 3).double(), torch.tensor([4, 3]))
