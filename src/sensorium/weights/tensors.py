"""The tensors of a checkpoint directory: which files they are in, and one mapping over all of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..core.errors import CheckpointError
from .legacy import open_legacy
from .safetensors_file import open_safetensors
from .stored import Stored
from .strict_json import read_object

Opener = Callable[[Path], dict[str, Stored]]

#: Names that are looked for, the preferred first: never a pickle where there are safetensors.
NAMES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "open_clip_pytorch_model.bin",
)
_SAFE = ".safetensors"
#: Else the one file with such an ending, whatever its name.
ENDINGS = (_SAFE, ".bin", ".pt", ".pth")
_INDEX = ".index.json"
_LARGEST_INDEX = 100_000_000


class Tensors(Mapping[str, Tensor]):
    """Named tensors in one or several files; ``tensors[name]`` reads that one, mapped where the file allows it.

    Shape, dtype and file of each are known without reading it. ``where`` is what was opened, for messages.
    """

    def __init__(self, stored: Mapping[str, Stored], *, where: Path) -> None:
        self._stored = stored
        self.where = where

    def __getitem__(self, name: str) -> Tensor:
        return self._stored[name].read()

    def copy_into(self, name: str, place: Tensor) -> None:
        """Read one tensor into memory that is there."""
        self._stored[name].copy_into(place)

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)

    def __contains__(self, name: object) -> bool:  # without reading it
        return name in self._stored

    def __repr__(self) -> str:
        return f"Tensors({len(self)} in {self.where})"

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, from its file's header."""
        return self._stored[name].shape

    def dtype(self, name: str) -> torch.dtype:
        """The dtype of a tensor, from its file's header."""
        return self._stored[name].dtype

    def file(self, name: str) -> Path:
        """The file that a tensor is in."""
        return self._stored[name].file

    def only(self, names: Iterable[str]) -> Tensors:
        """Some of them."""
        return Tensors({name: self._stored[name] for name in names}, where=self.where)


def joined(parts: Mapping[str, Tensors], *, where: Path) -> Tensors:
    """The tensors of several checkpoints, each behind the prefix by which it is given."""
    stored = {prefix + name: one for prefix, part in parts.items() for name, one in part._stored.items()}
    return Tensors(stored, where=where)


def open_tensors(path: Path | str) -> Tensors:
    """The weights in a directory in the transformers or open_clip layout, sharded or not, or in one file.

    Everything is checked against what the files hold before this returns, and nothing is read but headers.
    Legacy files (``.bin``, ``.pt``, ``.pth``) are read only where they need no code to run. Raises
    CheckpointError naming the file and the tensor for anything missing, damaged, ambiguous or unsafe.
    """
    path = Path(path)
    file = _weights(path) if path.is_dir() else path
    if not file.is_file():
        found = (
            "a directory" if file.is_dir() else "a broken link" if file.is_symlink() else "nothing readable"
        )
        raise CheckpointError(f"{file}: expected a file of weights, found {found}")
    if file.name.endswith(_INDEX):
        return Tensors(_open_shards(file), where=path)
    return Tensors(_opener(file)(file), where=path)


def _weights(directory: Path) -> Path:
    """The file to open. A name that is there but cannot be read is not passed over for the next one."""
    for name in NAMES:
        if os.path.lexists(directory / name):
            return directory / name
    for ending in ENDINGS:
        found = sorted(file for file in directory.iterdir() if file.suffix == ending)
        if len(found) > 1:
            names = ", ".join(file.name for file in found)
            raise CheckpointError(
                f"{directory}: expected one file of weights, found {names}: name one of them"
            )
        if found:
            return found[0]
    raise CheckpointError(
        f"{directory}: no weights: looked for {', '.join(NAMES)} and *{', *'.join(ENDINGS)}"
    )


def _opener(file: Path) -> Opener:
    if file.suffix not in ENDINGS:
        raise CheckpointError(f"{file}: expected a name ending in {', '.join(ENDINGS)}")
    return open_safetensors if file.suffix == _SAFE else open_legacy


def _open_shards(index: Path) -> dict[str, Stored]:
    """All shards that an index names, each tensor in the shard it is said to be in, and no other tensor."""
    shard_of = _weight_map(index)
    shards = {name: index.parent / name for name in sorted(set(shard_of.values()))}
    missing = [name for name, file in shards.items() if not file.is_file()]
    if missing:
        raise CheckpointError(
            f"{index}: shards that are not in the directory: {', '.join(map(repr, missing))}"
        )
    found: dict[str, Stored] = {}
    for file in shards.values():
        for name, stored in _opener(file)(file).items():
            if name in found:
                raise CheckpointError(f"{file}: the tensor {name!r} is in {found[name].file.name} as well")
            if name not in shard_of:
                raise CheckpointError(f"{file}: the tensor {name!r} is not in {index.name}")
            found[name] = stored
    for name, shard in shard_of.items():
        if name not in found or found[name].file.name != shard:
            place = f"found it in {found[name].file.name}" if name in found else "it is in no shard"
            raise CheckpointError(f"{index}: the tensor {name!r} should be in {shard}, but {place}")
    return found


def _weight_map(index: Path) -> dict[str, str]:
    """``weight_map``: names of tensors to plain names of files of the same kind as the index."""
    found = read_object(index, largest=_LARGEST_INDEX).get("weight_map")
    if not isinstance(found, dict) or not found:
        raise CheckpointError(
            f"{index}: weight_map: expected names of tensors and files, found {found!r:.80}"
        )
    ending = Path(index.name.removesuffix(_INDEX)).suffix
    for name, file in found.items():
        if (
            not isinstance(file, str)
            or Path(file).name != file
            or "\\" in file
            or Path(file).suffix != ending
        ):
            raise CheckpointError(
                f"{index}: weight_map: {name!r}: expected the plain name of a {ending} file beside the index, "
                f"found {file!r}"
            )
    return found
