"""Learning by restoring the values of what is not seen: an encoder over the visible patches, a light decoder over all.

MAE (He et al. 2021, arXiv:2111.06377), VideoMAE (Tong et al. 2022, arXiv:2203.12602).
Legend: n segments, s... axes of the grid of values, c channels, t patches, m predicted patches, p values of a patch.
"""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ...core.batch import Batch
from ...core.outputs import Outputs, PatchPrediction, Restoration
from ...core.spec import Spec
from ..encoders.patch_masking import PatchMasking, shares
from ..encoders.patch_targets import PatchTarget
from ..encoders.patch_tower import PatchTower
from ..encoders.pixels import Pixels
from ..encoders.stems import assembled
from .network import Network


class MaskedAutoencoder(Network):
    """A ``tower`` for the modality ``name`` that in training sees only what ``masking`` leaves of a segment.

    ``decoder`` is the Spec of a ``PatchDecoder`` whose outer sizes follow those of the tower; ``target`` says what it
    predicts. In use, the tower reads everything and the decoder is idle.
    """

    def __init__(
        self, *, name: str, tower: PatchTower, decoder: Spec, masking: PatchMasking, target: PatchTarget
    ) -> None:
        super().__init__()
        self.name, self.masking, self.target = name, masking, target
        self.towers = nn.ModuleDict({name: tower})
        embedding = tower.embedding
        self.decoder = decoder.replace(
            features=tower.width, leading=embedding.lead, patch_width=embedding.project.in_features
        ).build()

    @property
    def tower(self) -> PatchTower:
        """The one that reads."""
        return cast(PatchTower, self.towers[self.name])

    def forward(self, batch: Batch, embed_only: bool = False) -> Outputs:
        """Predictions of what is hidden of the segments that are to be corrupt."""
        if embed_only:
            return Outputs({self.name: self.contrasted(self.name, batch)})
        stream = batch.streams[self.name]
        stream = stream.select(stream.corrupt)
        masked = self.masking(stream.seed, self.tower.embedding.grid(stream.values))
        return Outputs(masked_patches={self.name: self.predict(stream.values, masked)})

    def predict(self, values: Float[Tensor, "n *s c"], masked: Bool[Tensor, "n t"]) -> PatchPrediction:
        """What is made of the ``masked`` patches, as many of each segment, which weighs 1."""
        found = self.decode(values, masked, masked)
        with torch.no_grad():
            truth = self.target(self.tower.embedding.whole(values), self.tower.embedding.patch)[masked]
        return PatchPrediction(found, truth, shares(masked, found.dtype))

    def decode(
        self,
        values: Float[Tensor, "n *s c"],
        masked: Bool[Tensor, "n t"],
        chosen: Bool[Tensor, "n t"] | None = None,
    ) -> Float[Tensor, "m p"]:
        """Predictions for the ``chosen`` patches, or for all, from those that are not ``masked``."""
        embedding, n = self.tower.embedding, len(values)
        tokens = embedding.lead + int((~masked).sum()) // max(n, 1)
        rows = self.tower.visible(values, masked).rows.unflatten(0, (n, tokens))
        return self.decoder(rows, masked, embedding.grid(values), chosen)

    def restore(self, name: str, batch: Batch) -> Restoration:
        if name != self.name:
            return super().restore(name, batch)
        stream, embedding = batch.streams[name], self.tower.embedding
        grid, patch = embedding.grid(stream.values), embedding.patch
        masked = self.masking(stream.seed, grid)
        seen, values = embedding.whole(stream.values), embedding.cropped(stream.values)
        truth = self.target(seen, patch)
        predicted = truth.masked_scatter(masked[..., None], self.decode(stream.values, masked, masked))
        restored = self.target.values(predicted, seen, patch)
        everywhere = masked[..., None].expand(*masked.shape, truth.shape[-1] // seen.shape[-1])
        hidden = assembled(everywhere, grid, patch)[..., 0]
        if values.dtype == torch.uint8:
            restored = torch.where(hidden[..., None], cast(Pixels, embedding.values).undo(restored), values)
        return Restoration(values, hidden, restored, self.target.borrows)
