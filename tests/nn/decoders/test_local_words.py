"""Tokens with a place, and without."""

from __future__ import annotations

import torch

from sensorium.nn.decoders.local_words import LocalWords


def test_an_id_holds_a_token_and_its_place():
    table = LocalWords(vocabulary=10, width=4, places=3)
    found = table(torch.tensor([7, 10 * 1 + 7, 10 * 3 + 7]))
    for row, place in zip(found, (0, 1, 3), strict=True):
        torch.testing.assert_close(row, table.token.weight[7] + table.place.weight[place])
