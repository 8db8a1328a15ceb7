"""Which parts go together in retrieval by queries; what it computes is tested with BLIP-2."""

from __future__ import annotations

import pytest
from torch import Tensor

from sensorium.core import ConfigError
from sensorium.nn.architectures.queried_retrieval import QueriedRetrieval
from sensorium.nn.connectors.qformer import QFormer
from sensorium.nn.encoders.token_tower import TokenEmbedding
from sensorium.nn.encoders.tower import Features, Tower
from sensorium.nn.layers.linear import Linear

WIDTH = 8


class Seen(Tower):
    width = pooled_width = WIDTH

    def forward(self, values: Tensor, lengths: Tensor) -> Features:
        return Features(values.flatten(0, 1), lengths, values.mean(1))


def made(towers: tuple[str, ...], projections: tuple[str, ...], *, reads: bool = True) -> QueriedRetrieval:
    words = TokenEmbedding(vocabulary=9, width=WIDTH, length=9) if reads else None
    return QueriedRetrieval(
        towers={name: Seen() for name in towers},
        language="words",
        qformer=QFormer(inner=WIDTH, width=WIDTH, depth=1, heads=2, hidden=9, queries=3, words=words),
        projections={name: Linear(WIDTH, 5) for name in projections},
        head=Linear(WIDTH, 2),
    )


def test_parts_must_go_together():
    assert float(made(("wave",), ("wave", "words")).scale) == 1
    with pytest.raises(ConfigError, match=r"found towers \['wave'\], projections \['wave'\], words"):
        made(("wave",), ("wave",))
    with pytest.raises(ConfigError, match=r"found towers \['grid', 'wave'\]"):
        made(("wave", "grid"), ("wave", "words"))
    with pytest.raises(ConfigError, match="no words"):
        made(("wave",), ("wave", "words"), reads=False)
