"""Public checkpoints, in and out: a directory or hub id of a known family becomes a network with its preprocessing,
and is written again in the layout that others open.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .core import CapabilityError, ConfigError, Modality, Spec, nearest
from .core.state import saved_tensors
from .nn.architectures.network import Network
from .nn.skeleton import Skeleton
from .recipes import find
from .weights.family import CONFIG, TRANSFORMERS, Family, Folder, write_files
from .weights.write import SAFETENSORS, write_tensors

_OWN = "spec.json"  # what says that a directory is in our own layout


@dataclass(frozen=True)
class Opened:
    """A network with weights, its preprocessing, and what a user should be told of the checkpoint."""

    spec: Spec
    network: Network
    modalities: Mapping[str, Modality]
    notices: tuple[str, ...]


def is_public(directory: Path) -> bool:
    """Whether a directory holds the config of a public layout. A Spec of our own beside it goes first."""
    return not (directory / _OWN).is_file() and bool(_configs(directory))


def family_of(folder: Folder) -> Family:
    """The family that reads a checkpoint. Raises CapabilityError naming the architecture that none knows."""
    for family in find.families():
        if family.accepts(folder):
            return family
    if CONFIG not in (held := _configs(folder.path)):
        raise CapabilityError(f"{folder.path}: no recipe reads what is described in {' and '.join(held)}")
    kind = folder.config.take("model_type", str, "")
    known = {name for family in find.families() for name in family.model_types}
    code = ", ".join(folder.config.code)
    raise CapabilityError(
        f"{folder.path / CONFIG}: model_type: no recipe reads "
        + (f"{kind!r}{nearest(kind, known)}" if kind else "a config without it")
        + (f"; the code that {code} names is never run" if code else "")
    )


def read_public(folder: Folder) -> Spec:
    """The Spec of a public checkpoint, without its weights. What else a config of transformers says is kept as
    ``public``, to be written again.
    """
    family = family_of(folder)
    spec = family.read(folder)
    if family.layout == TRANSFORMERS and (kept := folder.config.ignored()):
        spec = spec.replace(public=kept)
    return spec


def open_public(directory: Path) -> Opened:
    """A public checkpoint. Nothing half-loaded is ever returned: every tensor has its place, or this raises
    CheckpointError; a config that is not understood to the last field raises ConfigError.
    """
    folder = Folder(directory)
    spec, network = open_network(folder)
    modalities = {name: part.build() for name, part in spec.modalities.items()}
    for modality in modalities.values():
        modality.load(directory)
    return Opened(spec, network, modalities, folder.notices())


def open_network(folder: Folder, dtype: torch.dtype = torch.float32) -> tuple[Spec, Network]:
    """The network of a public checkpoint with its weights in ``dtype``; those that are so in the file stay there
    until they are used.
    """
    family, spec = family_of(folder), read_public(folder)
    with Skeleton():
        network: Network = spec.model.build()
    weights = family.keys(spec).load(family.weights(folder), saved_tensors(network), str(folder.path), dtype)
    network.load_state_dict(weights, assign=True)
    network.to(dtype)
    return spec, network


def save_public(
    directory: Path, spec: Spec, network: nn.Module, modalities: Mapping[str, Modality], layout: str
) -> None:
    """Write a network in a public layout. Raises CapabilityError where its family has none of that name, ConfigError
    for a directory with a model in our own layout, which would go first.
    """
    family = find.family(spec.family, layout)
    if (directory / _OWN).is_file():
        raise ConfigError(f"{directory} holds a model in our own layout, which load prefers: choose another")
    files = public_files(family, spec)
    public = family.keys(spec).save(
        {name: tensor.detach().cpu() for name, tensor in saved_tensors(network).items()}
    )
    directory.mkdir(parents=True, exist_ok=True)
    for modality in modalities.values():
        modality.publish(directory)
    write_tensors(directory, public, name=next(iter(family.weights_files), SAFETENSORS))
    write_files(directory, files)


def public_files(family: Family, spec: Spec) -> dict[str, Any]:
    """The JSON files of a public layout: what the family writes, and what the checkpoint said besides."""
    files = dict(family.write(spec))
    if spec.public is not None and family.layout == TRANSFORMERS:
        files[family.config_file] = _merged(spec.public, files[family.config_file])
    return files


def _configs(directory: Path) -> list[str]:
    """The names of the configs of public layouts that a directory holds."""
    return sorted(name for name in find.config_files() if (directory / name).is_file())


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both objects as one; where both have a field, the second decides."""
    both = {
        name: _merged(below[name], above[name])
        for name in below.keys() & above.keys()
        if isinstance(below[name], Mapping) and isinstance(above[name], Mapping)
    }
    return {**below, **above, **both}
