"""The light decoder: what is visible stands in its place, and a learned token elsewhere."""

from __future__ import annotations

import torch

from sensorium.nn.heads.patch_decoder import PatchDecoder
from sensorium.nn.layers.blocks import block
from sensorium.nn.layers.norms import LayerNorm
from sensorium.nn.layers.sin_cos_table import SinCosTable
from sensorium.nn.layers.transformer import Transformer


def decoder(depth: int) -> PatchDecoder:
    torch.manual_seed(0)
    made = PatchDecoder(
        features=6,
        leading=1,
        patch_width=5,
        positions=SinCosTable(grid=[2, 3], width=8, prefix=1),
        trunk=Transformer(width=8, depth=depth, block=block(width=8, heads=2, hidden=16)),
        norm=LayerNorm(width=8),
    )
    return made.eval()


MASKED = torch.tensor([[0, 1, 1, 0, 1, 1], [1, 1, 0, 1, 0, 1]], dtype=torch.bool)


@torch.no_grad()
def test_each_in_its_place():
    """Without blocks a prediction depends on its own place alone."""
    made, seen = decoder(0), torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(1))
    found = made(seen, MASKED, (2, 3)).unflatten(0, (2, 6))
    table = made.positions([2, 3])[1:]

    def expected(x: torch.Tensor, place: int) -> torch.Tensor:
        return made.project(made.norm(x + table[place]))

    for row, places in ((0, (0, 3)), (1, (2, 4))):
        for order, place in enumerate(places):
            own = made.embed(seen[row, 1 + order])
            torch.testing.assert_close(found[row, place], expected(own, place))
        hidden = int(MASKED[row].nonzero()[0])
        torch.testing.assert_close(found[row, hidden], expected(made.mask_token, hidden))


@torch.no_grad()
def test_the_chosen_ones_are_those_of_all():
    made, seen = decoder(2), torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(1))
    whole = made(seen, MASKED, (2, 3))
    torch.testing.assert_close(made(seen, MASKED, (2, 3), MASKED), whole[MASKED.flatten()])
    assert made(seen[:0], MASKED[:0], (2, 3)).shape == (0, 5)
