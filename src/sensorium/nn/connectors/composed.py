"""Connectors of connectors: one after another, piece by piece, and with a vector for each frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor, nn

from ...core.errors import ConfigError
from ..encoders.tower import Features
from ..layers.packing import ragged_positions
from .connector import Connector, Rows, pieces


class Chain(Connector):
    """Connectors one after another: the rows of each are the features of the next. ConfigError for none."""

    def __init__(self, *, connectors: Sequence[Connector]) -> None:
        super().__init__()
        if not connectors:
            raise ConfigError("a chain needs at least one connector, found none")
        self.connectors = nn.ModuleList(connectors)
        self.width = connectors[-1].width

    def forward(self, features: Features, layout: Int[Tensor, "n k"] | None = None) -> Rows:
        rows = Rows(features.rows, features.lengths)
        for connector in self.connectors:
            rows = connector(replace(features, rows=rows.rows, lengths=rows.lengths), layout)
        return rows


class PieceByPiece(Connector):
    """Gives ``connector`` every ``tokens`` rows (a tile, a frame) as a segment of their own, so that they do not see
    each other, and joins what it makes of them.
    """

    def __init__(self, *, tokens: int, connector: Connector) -> None:
        super().__init__()
        self.tokens, self.connector, self.width = tokens, connector, connector.width

    def forward(self, features: Features, layout: Int[Tensor, "n k"] | None = None) -> Rows:
        counts = features.lengths // self.tokens
        owner = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
        alone = Features(
            pieces(features, self.tokens).flatten(0, 1),
            counts.new_full((len(owner),), self.tokens),
            features.pooled[owner],
        )
        rows = self.connector(alone, None if layout is None else layout[owner])
        return Rows(rows.rows, torch.zeros_like(counts).index_add(0, owner, rows.lengths))


class Framed(Connector):
    """Adds a learned vector to all ``tokens`` of a frame, one of ``frames`` for each place in time, before
    ``connector``: Flamingo (Alayrac et al. 2022, arXiv:2204.14198), Video-LLaMA (Zhang et al. 2023, arXiv:2306.02858).

    A segment of more frames is a ConfigError. ``width`` is that of the tokens.
    """

    def __init__(self, *, width: int, tokens: int, frames: int, connector: Connector) -> None:
        super().__init__()
        self.tokens, self.connector, self.width = tokens, connector, connector.width
        self.place = nn.Embedding(frames, width)
        nn.init.normal_(self.place.weight, std=0.02)

    def forward(self, features: Features, layout: Int[Tensor, "n k"] | None = None) -> Rows:
        counts, most = features.lengths // self.tokens, self.place.num_embeddings
        if bool((counts > most).any()):
            raise ConfigError(f"there are places for {most} frames, found a segment of {int(counts.max())}")
        x = pieces(features, self.tokens) + self.place(ragged_positions(counts))[:, None]
        return self.connector(replace(features, rows=x.flatten(0, 1)), layout)
