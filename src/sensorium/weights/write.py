"""Tensors into a directory in the layout that transformers opens: one file, or shards with an index."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from .safetensors_file import write_safetensors

#: The name that transformers looks for.
SAFETENSORS = "model.safetensors"
_ENDING = ".safetensors"
_INDEX = ".index.json"
_FORMAT: Mapping[str, str] = {"format": "pt"}  # without which transformers refuses the file


def write_tensors(
    directory: Path | str,
    tensors: Mapping[str, Tensor],
    *,
    name: str = SAFETENSORS,
    metadata: Mapping[str, str] = _FORMAT,
    shard_bytes: int = 5_000_000_000,
) -> list[Path]:
    """Write ``tensors`` as ``name``, or in order as shards of at most ``shard_bytes`` (or one tensor) and an index.

    Tensors that share memory are written whole under each name. Whatever fails (OSError: a full disk) leaves
    what was there before; then the old weights of that name go and the new ones get their names, the index last,
    so that a crash between the two leaves a directory that says it has no weights, never a mixture. Returns the
    files.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    stem, index = name.removesuffix(_ENDING), name + _INDEX
    sizes = {key: tensor.numel() * tensor.element_size() for key, tensor in tensors.items()}
    groups = _groups(sizes, shard_bytes)
    shards = [f"{stem}-{number:05d}-of-{len(groups):05d}{_ENDING}" for number in range(1, len(groups) + 1)]
    files = dict(zip(shards, groups, strict=True)) if len(groups) > 1 else {name: groups[0]}
    names = [*files, index] if len(files) > 1 else [*files]
    temporary = Path(tempfile.mkdtemp(prefix=".weights-", dir=directory))
    try:
        for file, keys in files.items():
            write_safetensors(temporary / file, {key: tensors[key] for key in keys}, metadata=metadata)
        if len(files) > 1:
            _write_index(temporary / index, files, sum(sizes.values()))
        old = re.compile(rf"{re.escape(stem)}(-\d{{5}}-of-\d{{5}})?\.safetensors")
        (directory / index).unlink(missing_ok=True)  # first: without it, shards are nothing
        for path in directory.iterdir():
            if old.fullmatch(path.name):
                path.unlink()
        for file in names:
            os.replace(temporary / file, directory / file)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    _sync(directory)
    return [directory / file for file in names]


def _write_index(file: Path, files: Mapping[str, list[str]], size: int) -> None:
    shard_of = {key: shard for shard, keys in files.items() for key in keys}
    content = {"metadata": {"total_size": size}, "weight_map": dict(sorted(shard_of.items()))}
    with file.open("w", encoding="utf-8") as stream:
        json.dump(content, stream, indent=2)
        stream.flush()
        os.fsync(stream.fileno())


def _groups(sizes: Mapping[str, int], most: int) -> list[list[str]]:
    """Names in order, in runs of at most ``most`` bytes; a larger tensor is a run of its own."""
    groups: list[list[str]] = [[]]
    room = most
    for name, size in sizes.items():
        if size > room and groups[-1]:
            groups.append([])
            room = most
        groups[-1].append(name)
        room -= size
    return groups


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
