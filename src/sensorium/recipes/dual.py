"""Any towers, paired: each keeps the weights it has, and learns to meet the others in a dot product.

The pairing of pretrained towers is that of LiT (Zhai et al. 2022, arXiv:2111.07991), which locks the image tower
(``--lock '^towers.image'``); more than two modalities bound to one are ImageBind (Girdhar et al. 2023,
arXiv:2305.05665; ``contrastive.anchor=image``).
"""

from __future__ import annotations

from collections.abc import Mapping

from ..core.errors import ConfigError, nearest
from ..core.spec import Spec
from ..core.system import System
from ..modalities import Audio, Image, Text
from ..nn.architectures.towers import Towers
from ..nn.encoders.grid import GridEncoder
from ..nn.encoders.grid_tower import GridTower
from ..nn.encoders.stems import ConvStem
from ..nn.encoders.token_tower import TokenEmbedding, TokenTower
from ..nn.heads.pooling import MeanToken, Pool
from ..nn.heads.projection import LinearProjection
from ..nn.heads.similarity import Similarity
from ..nn.layers.blocks import block
from ..nn.layers.norms import LayerNorm
from ..nn.layers.transformer import Transformer
from ..nn.skeleton import Skeleton
from ..objectives import Contrastive
from ..training.optimizer import AdamW
from ..training.settings import Loading
from ..training.trainer import Training

#: Fresh towers: width, depth and heads of each, the side of pictures and of their patches, samples per step, rate.
SIZES = {"tiny": (128, 4, 4, 64, 8, 256, 2e-3), "small": (256, 6, 4, 128, 16, 256, 1e-3)}


def dual(
    size: str | None = None,
    *,
    towers: Mapping[str, Spec] | None = None,
    modalities: Mapping[str, Spec] | None = None,
    embedding: int = 512,
) -> Spec:
    """The System of towers, by modality, with fresh projections into ``embedding`` dimensions: ``towers`` that exist,
    or fresh ones for pictures, sounds and texts in a ``size``.
    """
    batch, rate, decay = 256, 1e-4, 0.1
    if size is not None:
        if size not in SIZES:
            raise ConfigError(f"dual has no size {size!r}{nearest(size, SIZES)}")
        towers, modalities = _fresh(size)
        embedding, (*_, batch, rate) = 128, SIZES[size]
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
            loading=Spec(Loading, batch=batch, withhold=0.0, corrupt=0.0),
            optimizer=Spec(AdamW, lr=rate, weight_decay=decay),
        ),
    )


def _fresh(size: str) -> tuple[dict[str, Spec], dict[str, Spec]]:
    """Towers of one width for pictures, sounds and texts, and how those are prepared."""
    width, depth, heads, side, patch, _, _ = SIZES[size]
    mels, vocabulary, length = 64, 2048, 64
    part = block(width=width, heads=heads, hidden=4 * width, activation="gelu_tanh")
    trunk = Spec(Transformer, width=width, depth=depth, block=part)
    norm = Spec(LayerNorm, width=width)
    stems = {
        "image": Spec(ConvStem, patch=[patch, patch], channels=3, width=width),
        "audio": Spec(ConvStem, patch=[4], channels=mels, width=width),
    }
    pool = Spec(Pool, width=width, select=Spec(MeanToken))
    towers = {
        name: Spec(GridTower, encoder=Spec(GridEncoder, stem=stem), trunk=trunk, pool=pool, norm_out=norm)
        for name, stem in stems.items()
    }
    towers["text"] = Spec(
        TokenTower,
        embedding=Spec(TokenEmbedding, vocabulary=vocabulary, width=width, length=length),
        trunk=trunk,
        pool=pool,
        norm_out=norm,
    )
    modalities = {
        "image": Spec(Image, size=side),
        "audio": Spec(Audio, mels=mels),
        "text": Spec(Text, vocabulary=vocabulary, max_tokens=length),
    }
    return towers, modalities
