"""From what a user types, ``pairs.csv`` or ``data-{000..012}.tar@0.5``, to a Source."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...core import ConfigError, Modality
from .folder import FolderSource
from .huggingface import DatasetSource
from .jsonl import JsonlSource
from .parquet import ParquetSource
from .shards import ShardSource, expand_shards
from .source import Source
from .table import TableSource

_JSONL = (".jsonl", ".ndjson")
_TABLES = (".csv", ".tsv")
_SAVED = ("dataset_info.json", "dataset_dict.json", "state.json")
_KINDS = (
    "a .jsonl, .csv or .tsv manifest, .tar shards, .parquet files, a folder with one folder per class, "
    "or a saved Hugging Face data set"
)


def open_source(
    text: str | Path,
    *,
    modalities: Mapping[str, Modality],
    split: str | None = None,
    root: str | Path | None = None,
) -> Source:
    """The Source that ``text`` names: a file, a brace pattern of shards, or a folder.

    ``split`` keeps the samples of one split; a sample that names none belongs to ``train``. ``root`` is the
    folder that paths in the data start from and may not leave; the manifest's own folder unless given.
    Raises ConfigError for a missing file, an unknown kind or an empty split, DataError for an unusable file.
    """
    text = str(text)
    if "{" in text and not os.path.exists(text):
        if not text.endswith(".tar"):
            raise ConfigError(f"{text}: a pattern with braces names .tar shards, as data-{{000..012}}.tar")
        paths = expand_shards(text)
        return ShardSource(paths, modalities=modalities, name=text, split=split, root=root)
    path = Path(text)
    if not path.exists():
        raise ConfigError(f"{text}: no such file or folder{_sibling(path)}")
    if path.is_dir():
        return _open_folder(path, modalities=modalities, split=split, root=root)
    kind = path.suffix.lower()
    if root is not None and not Path(root).is_dir():
        raise ConfigError(f"{root}: the data root must be a folder")
    if kind in _JSONL:
        return JsonlSource(path, modalities=modalities, split=split, root=root)
    if kind in _TABLES:
        return TableSource(path, modalities=modalities, split=split, root=root)
    if kind == ".tar":
        return ShardSource([path], modalities=modalities, split=split, root=root)
    if kind == ".parquet":
        return ParquetSource([path], modalities=modalities, split=split, root=root)
    hints = {
        ".json": "; write one JSON object per line and call it .jsonl",
        ".gz": "; unpack it first, because samples are read in any order",
        ".tgz": "; unpack it first, because samples are read in any order",
    }
    raise ConfigError(f"{text}: unknown kind of data{hints.get(kind, '')}; expected {_KINDS}")


def open_sources(
    texts: Sequence[str],
    *,
    modalities: Mapping[str, Modality],
    split: str | None = None,
    root: str | Path | None = None,
) -> list[tuple[Source, float]]:
    """The Source and weight of each ``path`` or ``path@weight``; the weight is 1 unless given.

    Raises what ``open_source`` raises, and ConfigError for a weight that is not a positive number.
    """
    named = [split_weight(text) for text in texts]
    return [
        (open_source(path, modalities=modalities, split=split, root=root), weight) for path, weight in named
    ]


def split_weight(text: str) -> tuple[str, float]:
    path, at, number = text.rpartition("@")
    if not at or os.path.exists(text):
        return text, 1.0
    try:
        weight = float(number)
    except ValueError:
        if os.sep in number or "." in number:  # an @ inside the path, not before a weight
            return text, 1.0
        weight = math.nan
    if not (weight > 0 and math.isfinite(weight)):
        raise ConfigError(f"{text}: expected path@weight with a positive weight, found {number!r}")
    return path, weight


def _open_folder(
    path: Path, *, modalities: Mapping[str, Modality], split: str | None, root: str | Path | None
) -> Source:
    names = sorted(os.listdir(path))
    if any(name in _SAVED for name in names):
        return DatasetSource(path, modalities=modalities, split=split, root=root)
    manifests = [name for name in names if name.endswith((*_JSONL, *_TABLES))]
    if manifests:
        listed = ", ".join(manifests[:8])
        raise ConfigError(f"{path}: the folder holds {listed}; name one of them, as {path / manifests[0]}")
    for ending in (".parquet", ".tar"):
        found = [path / name for name in names if name.endswith(ending)]
        if found and ending == ".parquet":
            return ParquetSource(found, modalities=modalities, name=str(path), split=split, root=root)
        if found:
            return ShardSource(found, modalities=modalities, name=str(path), split=split, root=root)
    if not names:
        raise ConfigError(f"{path}: the folder is empty; expected {_KINDS}")
    return FolderSource(path, modalities=modalities, split=split, root=root)


def _sibling(path: Path) -> str:
    parent = path.parent
    if not parent.is_dir():
        return f": there is no folder {parent}"
    close = difflib.get_close_matches(path.name, os.listdir(parent), n=1, cutoff=0.5)
    return f" (did you mean {parent / close[0]}?)" if close else ""
