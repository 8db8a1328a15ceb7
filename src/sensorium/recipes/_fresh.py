"""Fresh systems of families that read media among words: what a checkpoint of that size would be, before training."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.errors import ConfigError, nearest
from ..core.spec import Spec
from ..nn.encoders.layer_features import LayerFeatures
from ..nn.encoders.patch_tower import PatchTower
from ..nn.encoders.tiled import Tiled
from ..nn.encoders.window_adapters import WindowAdapters
from ..nn.heads.pooling import Pool
from ..training.rules import Rule
from ..weights.config import Config
from ..weights.family import CONFIG, Family, Folder


@dataclass(frozen=True)
class Described(Folder):
    """What would be in a checkpoint's JSON files, without a directory."""

    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def read(self, name: str) -> Config:
        if name not in self._read:
            self._read[name] = Config(self.files[name], self.path / name)
        return self._read[name]

    def json(self, name: str) -> dict[str, Any] | None:
        return dict(self.files[name]) if name in self.files else None


def fresh(
    family: Family,
    sizes: Mapping[str, Mapping[str, Any]],
    size: str,
    *,
    special: Sequence[str] = (),
    prepared: Mapping[str, Mapping[str, Any]] | None = None,
) -> Spec:
    """A System of ``family`` with fresh weights, of the public config in one of ``sizes``. Its vocabulary is learnt
    from your texts, with ``special`` among its special tokens; there is no public layout for it. ``prepared`` is what
    the other files of a checkpoint would say, such as how pictures are prepared.
    """
    if size not in sizes:
        raise ConfigError(f"{family.name} has no size {size!r}{nearest(size, sizes)}")
    config = {"model_type": family.model_types[0], **sizes[size]}
    folder = Described(Path(f"{family.name}:{size}"), files={CONFIG: config, **(prepared or {})})
    found = family.read(folder)
    network = found.model
    words = found.modalities[network.language]
    words = words.replace(
        fallback=None,  # there are tokens for turns
        special=[*(words.special or []), *special],
        vocabulary=network.decoder.embedding.vocabulary,
    )
    rules = [*found.training.arguments.get("rules", []), *unread(network)]
    return (
        found.replace(
            family=None,
            modalities=found.modalities | {network.language: words},
            public=folder.config.ignored() or None,
        )
        .set("training.optimizer.lr", 3e-4)
        .set("training.rules", rules)
    )


def unread(network: Spec) -> list[Spec]:
    """Rules for parts of towers that no connector asks for, which cannot learn: blocks after the last wanted state,
    the norms behind them, and what makes one vector of all tokens.
    """
    return [
        Spec(Rule, pattern=f"^{re.escape(part)}", rate=0.0)
        for name, tower in network.towers.items()
        for part in _unasked(f"towers.{name}.", tower)
    ]


def _unasked(name: str, tower: Spec) -> list[str]:
    """The beginnings of the names of such parts."""
    if tower.cls in (Tiled, WindowAdapters):
        return _unasked(f"{name}tower.", tower.tower)
    parts = []
    if tower.cls is LayerFeatures:
        name, layers, tower = f"{name}tower.", tower.layers, tower.tower
        depth = tower.trunk.depth
        last = max(layer % (depth + 1) for layer in layers)
        parts += [f"{name}trunk.blocks.{block}." for block in range(last, depth)]
        parts += [f"{name}norm_out."] if tower.norm_out is not None else []
    if tower.cls is PatchTower and _learns(tower.pool):
        parts.append(f"{name}pool.")
    return parts


def _learns(pool: Spec) -> bool:
    """Whether what makes one vector of all tokens has parameters."""
    return pool.cls is not Pool or pool.norm is not None or pool.dense
