from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sensorium.core import Spec
from sensorium.nn.encoders.native_tower import NativeEmbedding, NativeTower
from sensorium.nn.encoders.patch_tower import PatchEmbedding, PatchTower
from sensorium.nn.encoders.pixels import Pixels
from sensorium.nn.heads.pooling import MeanToken, Pool
from sensorium.nn.layers.blocks import block
from sensorium.nn.layers.tables import PositionTable
from sensorium.nn.layers.transformer import Transformer

WIDTH, PATCH = 12, 4


def parts() -> dict[str, Spec]:
    return {
        "trunk": Spec(Transformer, width=WIDTH, depth=2, block=block(width=WIDTH, heads=3, hidden=20)),
        "pool": Spec(Pool, width=WIDTH, select=Spec(MeanToken)),
    }


def embedding(cls, **more) -> Spec:
    positions = Spec(PositionTable, grid=[3, 3], width=WIDTH, mode="bilinear", antialias=True)
    values = Spec(Pixels, mean=0.5, std=0.5)
    return Spec(cls, channels=3, width=WIDTH, positions=positions, values=values, **more)


def tower() -> NativeTower:
    torch.manual_seed(0)
    return (
        Spec(NativeTower, embedding=embedding(NativeEmbedding, patch=PATCH), **parts())
        .build()
        .double()
        .eval()
    )


def picture(rows: int, columns: int) -> Tensor:
    sides = (rows * PATCH, columns * PATCH, 3)
    return torch.randint(0, 256, sides, dtype=torch.uint8, generator=torch.Generator().manual_seed(rows))


def native(rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Patches of a picture of so many, with their places, and their number."""
    squares = (
        picture(rows, columns)
        .view(rows, PATCH, columns, PATCH, 3)
        .transpose(1, 2)
        .reshape(rows * columns, -1)
    )
    places = [[row, 0, column, 0] for row in range(rows) for column in range(columns)]
    whole = torch.cat([squares, torch.tensor(places, dtype=torch.uint8)], dim=1)
    return whole, torch.tensor(rows * columns)


SHAPES = [(2, 5), (3, 3), (1, 7), (2, 5), (4, 1)]


@torch.no_grad()
def test_each_segment_is_what_a_tower_of_its_own_shape_sees():
    ours = tower()
    grid = Spec(PatchTower, embedding=embedding(PatchEmbedding, patch=[PATCH] * 2, prefix=0), **parts())
    theirs = grid.build().double().eval()
    theirs.load_state_dict(ours.state_dict())
    cuts = [native(*shape)[0] for shape in SHAPES]
    lengths = torch.tensor([len(one) for one in cuts])
    found = ours(torch.nn.utils.rnn.pad_sequence(cuts, batch_first=True), lengths)
    for i, (shape, rows) in enumerate(zip(SHAPES, found.segments(), strict=True)):
        expected = theirs(picture(*shape)[None], torch.tensor([shape[0] * PATCH]))
        torch.testing.assert_close(rows, expected.rows)
        torch.testing.assert_close(found.pooled[i], expected.pooled[0])


@torch.no_grad()
def test_places_say_where_a_patch_is_and_not_its_row():
    ours = tower()
    whole, length = native(3, 4)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    found, mixed = ours(whole[None], length[None]), ours(whole[order][None], length[None])
    torch.testing.assert_close(mixed.rows, found.rows[order])


@pytest.mark.parametrize("n", [0, 2])
def test_every_parameter_learns_or_nothing_is_there(n):
    ours = tower().train()
    cuts = [native(2, 3)[0], native(4, 1)[0]]
    lengths = torch.tensor([6, 4])
    found = ours(torch.nn.utils.rnn.pad_sequence(cuts, batch_first=True)[:n], lengths[:n])
    found.pooled.square().sum().backward()
    assert found.pooled.shape == (n, WIDTH)
    assert all(p.grad is not None and bool(p.grad.any()) is bool(n) for p in ours.parameters())
