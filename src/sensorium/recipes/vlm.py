"""A multimodal language model of your own: encoders that exist, fresh connectors, a language model that exists.

The stages are those of LLaVA (Liu et al. 2023, arXiv:2304.08485): first the connectors alone learn, with
``--lock '^(towers|decoder)'``; then, going on from that run, the language model too, with ``--lock '^towers'``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from ..core.errors import ConfigError, nearest
from ..core.spec import Spec
from ..modalities.chat.placeholders import Repeated, Strided
from ..nn.connectors.pooled import Pooled
from ..nn.connectors.projector import Projector
from ..nn.connectors.qformer import QFormer, Queried
from ..nn.connectors.resampler import Resampler, resampler_block
from ..nn.connectors.unshuffled import Unshuffled
from ..nn.encoders.grid_tower import GridTower
from ..nn.encoders.layer_features import LayerFeatures
from ..nn.encoders.patch_tower import PatchTower
from ..nn.layers.norms import LayerNorm
from ..weights.card import Card
from ._joined import Joined, joined

#: How many rows a resampler or a Q-Former makes of a medium.
QUERIES = 32
#: What stands for a medium in a message.
WRITTEN = "<{}>"


def vlm(
    trunk: Spec | None = None, towers: Mapping[str, tuple[Spec, Spec]] | None = None, connector: str = "mlp"
) -> Spec:
    """The System of a language model, that of ``trunk``, with ``towers`` and their modalities, by name.

    ``connector`` is what is between: linear, mlp, pool, unshuffle, resampler or qformer. Raises ConfigError for a tower
    that it cannot follow.
    """
    if trunk is None or not towers:
        raise ConfigError("vlm joins models that exist: --image MODEL --trunk MODEL --connector mlp")
    if connector not in CONNECTORS:
        raise ConfigError(f"there is no connector {connector!r}{nearest(connector, CONNECTORS)}")
    width, media = trunk.model.decoder.trunk.width, {}
    for name, (tower, modality) in towers.items():
        token = WRITTEN.format(name)
        made, rows = CONNECTORS[connector](_checked(name, tower), width)
        media[name] = Joined(
            modality=modality,
            tower=Spec(LayerFeatures, tower=tower, layers=[-2]) if tower.cls is PatchTower else tower,
            connector=made,
            placeholder=strided(token, tower, modality)
            if rows is None
            else Spec(Repeated, written=token, token=token, count=rows),
        )
    return joined(trunk, media)


def strided(token: str, tower: Spec, modality: Spec) -> Spec:
    """The places of a tower of grids: as many as its patches, of which there are more in a longer medium."""
    patch, sizes = tower.encoder.stem.patch, modality.build().blank().shape[1:-1]
    across = math.prod(-(-size // side) for size, side in zip(sizes, patch[1:], strict=True))
    return Spec(Strided, written=token, token=token, stride=patch[0], count=across)


def _checked(name: str, tower: Spec) -> Spec:
    if tower.cls not in (PatchTower, GridTower):
        raise ConfigError(f"--{name}: expected a tower of patches or grids, found a {tower.cls.__qualname__}")
    return tower


def _linear(tower: Spec, width: int) -> tuple[Spec, int | None]:
    return Spec(Projector, inner=tower.trunk.width, width=width), _places(tower)


def _mlp(tower: Spec, width: int) -> tuple[Spec, int | None]:
    return Spec(Projector, inner=tower.trunk.width, width=width, depth=2), _places(tower)


def _pool(tower: Spec, width: int) -> tuple[Spec, int | None]:
    grid = _grid(tower, "pool")
    return Spec(Pooled, grid=grid, kernel=2, projector=_mlp(tower, width)[0]), math.prod(grid) // 4


def _unshuffle(tower: Spec, width: int) -> tuple[Spec, int | None]:
    grid, inner = _grid(tower, "unshuffle"), 4 * tower.trunk.width
    projector = Spec(Projector, inner=inner, width=width, depth=2, norm=Spec(LayerNorm, width=inner))
    return Spec(Unshuffled, grid=grid, factor=2, projector=projector), math.prod(grid) // 4


def _resampler(tower: Spec, width: int) -> tuple[Spec, int | None]:
    inner = tower.trunk.width
    made = Spec(
        Resampler,
        width=inner,
        latents=QUERIES,
        depth=2,
        block=resampler_block(width=inner, heads=_heads(inner), head_width=inner // _heads(inner)),
        norm_out=Spec(LayerNorm, width=inner),
        projector=Spec(Projector, inner=inner, width=width),
    )
    return made, QUERIES


def _qformer(tower: Spec, width: int) -> tuple[Spec, int | None]:
    inner = tower.trunk.width
    made = Spec(
        QFormer, inner=inner, width=inner, depth=4, heads=_heads(inner), hidden=4 * inner, queries=QUERIES
    )
    return Spec(Queried, qformer=made, projector=Spec(Projector, inner=inner, width=width)), QUERIES


#: By name: the connector of a tower to a width, and how many rows it makes of a medium (None: one for each token).
CONNECTORS: dict[str, Callable[[Spec, int], tuple[Spec, int | None]]] = {
    "linear": _linear,
    "mlp": _mlp,
    "pool": _pool,
    "unshuffle": _unshuffle,
    "resampler": _resampler,
    "qformer": _qformer,
}


def _grid(tower: Spec, connector: str) -> list[int]:
    if tower.cls is not PatchTower:
        raise ConfigError(
            f"--connector {connector} needs pictures of one size: take linear, mlp, resampler or qformer"
        )
    return list(tower.embedding.positions.grid)


def _places(tower: Spec) -> int | None:
    return math.prod(tower.embedding.positions.grid) if tower.cls is PatchTower else None


def _heads(width: int) -> int:
    """Heads of about 64 channels."""
    return next(heads for heads in range(max(width // 64, 1), 0, -1) if width % heads == 0)


CARD = Card(
    title="A multimodal language model of parts",
    paper="Liu et al. 2023, arXiv:2304.08485",
    licence="that of the parts",
    preparation="that of the parts",
)
