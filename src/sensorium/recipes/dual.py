"""Any towers, paired: each keeps the weights it has, and learns to meet the others in a dot product.

The pairing of pretrained towers is that of LiT (Zhai et al. 2022, arXiv:2111.07991), which locks the image tower
(``--lock '^towers.image'``); more than two modalities bound to one are ImageBind (Girdhar et al. 2023,
arXiv:2305.05665; ``contrastive.anchor=image``).
"""

from __future__ import annotations

from collections.abc import Mapping

from ..core.errors import ConfigError
from ..core.spec import Spec
from ..core.system import System
from ..nn.architectures.towers import Towers
from ..nn.heads.projection import LinearProjection
from ..nn.heads.similarity import Similarity
from ..nn.skeleton import Skeleton
from ..objectives import Contrastive
from ..training.optimizer import AdamW
from ..training.settings import Loading
from ..training.trainer import Training


def dual(
    towers: Mapping[str, Spec] | None = None,
    modalities: Mapping[str, Spec] | None = None,
    embedding: int = 512,
) -> Spec:
    """The System of towers, by modality, with fresh projections into ``embedding`` dimensions."""
    if towers is None or modalities is None:
        raise ConfigError(
            "dual pairs towers that exist: give two or more, such as --image MODEL --text MODEL"
        )
    with Skeleton():
        widths = {name: tower.build().pooled_width for name, tower in towers.items()}
    return Spec(
        System,
        modalities=dict(modalities),
        model=Spec(
            Towers,
            towers=dict(towers),
            projections={
                name: Spec(LinearProjection, width=width, embedding=embedding)
                for name, width in widths.items()
            },
            similarity=Spec(Similarity),
            language="text" if "text" in towers else None,
        ),
        objectives={},
        contrastive=Spec(Contrastive),
        training=Spec(
            Training,
            loading=Spec(Loading, batch=256, withhold=0.0, corrupt=0.0),
            optimizer=Spec(AdamW, lr=1e-4, weight_decay=0.1),
        ),
    )
