"""Learning by naming what is hidden: the words of a vocabulary of patches.

BEiT (Bao et al. 2021, arXiv:2106.08254).
Legend: n segments, s... axes of the grid of values, c channels, t patches, m chosen ones, v words of the vocabulary.
"""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ...core.batch import Batch
from ...core.errors import CapabilityError, ConfigError
from ...core.outputs import Outputs, TokenPrediction
from ..encoders.patch_masking import PatchMasking, shares
from ..encoders.patch_tower import PatchTower
from ..encoders.stems import patches
from ..layers.linear import Linear
from .network import Network


class MaskedCodes(Network):
    """A ``tower`` for the modality ``name`` with a ``norm`` and a linear map to ``vocabulary`` words for each patch.

    ``targets`` gives the word of each patch from its values: learnt elsewhere (the variational autoencoder of BEiT) or
    not at all (``RandomCodes``). Without it, as in public checkpoints, the network can predict words but not be
    trained to. Raises ConfigError for a tower that cannot hide patches.
    """

    def __init__(
        self,
        *,
        name: str,
        tower: PatchTower,
        norm: nn.Module,
        vocabulary: int,
        masking: PatchMasking,
        targets: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if tower.embedding.mask_token is None:
            raise ConfigError("model.tower.embedding.mask_token: hidden patches need it, found False")
        self.name, self.masking, self.targets = name, masking, targets
        self.towers = nn.ModuleDict({name: tower})
        self.norm, self.project = norm, Linear(tower.width, vocabulary)

    @property
    def tower(self) -> PatchTower:
        """The one that reads."""
        return cast(PatchTower, self.towers[self.name])

    def forward(self, batch: Batch, embed_only: bool = False) -> Outputs:
        """Predictions of the words of what is hidden of the segments that are to be corrupt."""
        if embed_only:
            return Outputs({self.name: self.contrasted(self.name, batch)})
        if self.targets is None:
            raise CapabilityError("this network has no targets: nothing says which word a hidden patch is")
        stream, embedding = batch.streams[self.name], self.tower.embedding
        stream = stream.select(stream.corrupt)
        masked = self.masking(stream.seed, embedding.grid(stream.values))
        with torch.no_grad():
            words = self.targets(patches(embedding.whole(stream.values), embedding.patch)[masked])
        found = self.logits(stream.values, masked, masked)
        owner = stream.owner[:, None].expand(masked.shape)[masked]
        return Outputs(
            masked_tokens={self.name: TokenPrediction(found, words, owner, shares(masked, found.dtype))}
        )

    def logits(
        self,
        values: Float[Tensor, "n *s c"],
        masked: Bool[Tensor, "n t"],
        chosen: Bool[Tensor, "n t"] | None = None,
    ) -> Float[Tensor, "m v"]:
        """Logits of all patches, one segment after the other, or of the ``chosen``, while some are ``masked``."""
        lengths = torch.full((len(values),), values.shape[1], device=values.device)
        lead, (n, t) = self.tower.embedding.lead, masked.shape
        rows = self.tower(values, lengths, masked).rows.unflatten(0, (n, lead + t))[:, lead:]
        return self.project(self.norm(rows.flatten(0, 1) if chosen is None else rows[chosen]))
