"""A clip as the mean of each frame and the mean of each place."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor

from ..encoders.tower import Features
from .connector import Connector, Rows, pieces


class SpaceTimePooled(Connector):
    """For each frame of ``tokens`` the mean over its places, then for each place the mean over all frames, then
    ``projector`` (Video-ChatGPT, Maaz et al. 2023, arXiv:2306.05424): frames + tokens rows instead of their product.

    Its authors fill up to 100 frames with zeros; here a clip has the rows of the frames that it has.
    """

    def __init__(self, *, tokens: int, projector: Connector) -> None:
        super().__init__()
        self.tokens, self.projector, self.width = tokens, projector, projector.width

    def forward(self, features: Features, layout: Int[Tensor, "n k"] | None = None) -> Rows:
        frames = features.lengths // self.tokens
        clips = pieces(features, self.tokens).split(frames.tolist())
        means = [part for clip in clips for part in (clip.mean(1), clip.mean(0))]
        rows = torch.cat([features.rows[:0], *means])
        return self.projector(replace(features, rows=rows, lengths=frames + self.tokens), layout)
