"""A family of public checkpoints: how its files become a System with weights, and how they are written again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.errors import CheckpointError
from ..core.spec import Spec
from .card import Card
from .config import Config
from .keymap import KeyMap
from .licence import licence, notice
from .strict_json import read_object
from .tensors import Tensors, open_tensors

#: The layout that most public checkpoints have.
TRANSFORMERS = "transformers"
#: The name of its config.
CONFIG = "config.json"


@dataclass(frozen=True)
class Folder:
    """A checkpoint's directory: its config and the other JSON files beside it."""

    path: Path
    _read: dict[str, Config] = field(default_factory=dict)

    @property
    def config(self) -> Config:
        """That of transformers."""
        return self.read(CONFIG)

    def read(self, name: str) -> Config:
        """A JSON object, read strictly and once. Raises CheckpointError if it is missing or damaged."""
        if name not in self._read:
            self._read[name] = Config.read(self.path / name)
        return self._read[name]

    def json(self, name: str) -> dict[str, Any] | None:
        """The JSON object of another file, if there is one. Raises CheckpointError if it is damaged."""
        return read_object(self.path / name) if (self.path / name).is_file() else None

    def notices(self) -> tuple[str, ...]:
        """What a user should be told of what was read."""
        said = [notice for config in self._read.values() for notice in config.notices]
        if (found := notice(licence(self.path))) is not None:
            said.append(found)
        return tuple(said)


@dataclass(frozen=True)
class Family:
    """One public layout of a page of ``recipes/``: which ``model_types`` of a config it reads, and how.

    ``name`` is that of the page. ``read`` gives the Spec of a System from a checkpoint's folder, whose config it reads
    to the end; ``write`` gives the files (name to JSON object) with which others open it; ``keys`` the map of its
    tensors. ``config_file`` and ``weights_files`` are the names in that ``layout``, of which the first of the weights
    is written; no names mean the usual ones. ``claims`` decides by the config where it has no ``model_type``.
    """

    name: str
    model_types: tuple[str, ...]
    read: Callable[[Folder], Spec]
    write: Callable[[Spec], Mapping[str, Mapping[str, Any]]]
    keys: Callable[[Spec], KeyMap]
    card: Card
    layout: str = TRANSFORMERS
    config_file: str = CONFIG
    weights_files: tuple[str, ...] = ()
    claims: Callable[[Config], bool] | None = None

    def accepts(self, folder: Folder) -> bool:
        """Whether this family reads the checkpoint."""
        if not (folder.path / self.config_file).is_file():
            return False
        if self.claims is not None:
            return self.claims(folder.read(self.config_file))
        return folder.read(self.config_file).take("model_type", str, "") in self.model_types

    def weights(self, folder: Folder) -> Tensors:
        """The tensors of a checkpoint."""
        found = (folder.path / name for name in self.weights_files)
        return open_tensors(next((file for file in found if file.is_file()), folder.path))


def write_files(directory: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    """Write JSON files. Raises CheckpointError naming the file that cannot be written."""
    for name, content in files.items():
        try:
            (directory / name).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
        except OSError as error:
            raise CheckpointError(f"{directory / name}: cannot be written: {error.strerror}") from None
