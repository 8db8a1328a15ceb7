"""Embeddings of a whole data set as a table or an array."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from .core import CapabilityError, ConfigError, DataError, nearest
from .data.sources.open import open_source
from .modalities import standard
from .model import Model


@dataclass(frozen=True)
class Written:
    """How many embeddings of which width were written, and what was left out."""

    count: int
    width: int
    problems: list[DataError]


def write_embeddings(
    model: Model,
    data: str,
    out: Path,
    *,
    names: Sequence[str] = (),
    split: str | None = None,
    batch_size: int = 64,
) -> Written:
    """Embed the content segments of ``data`` and write them to ``out`` (.parquet or .npy).

    A broken sample is left out and reported. Raises ConfigError for another file kind or a modality the
    model lacks, CapabilityError where .parquet needs the extra ``data``.
    """
    if out.suffix not in (".parquet", ".npy"):
        raise ConfigError(f"{out}: embeddings go to a .parquet or .npy file")
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1, found {batch_size}")
    chosen = list(names) or list(model.modalities)
    for name in chosen:
        if name not in model.modalities:
            raise ConfigError(f"the model does not know {name!r}{nearest(name, model.modalities)}")
    if out.suffix == ".npy" and len(chosen) > 1:
        raise ConfigError(
            f"{out}: an .npy file holds one modality; choose with --modality among {', '.join(chosen)}"
        )
    source = open_source(data, modalities=standard() | dict(model.modalities), split=split)
    rows: list[tuple[str, str, np.ndarray]] = []
    problems = list(source.problems)
    for name in chosen:
        pending = iter(range(len(source)))
        while part := list(islice(pending, batch_size)):
            keys, values = _read(model, source, name, part, problems)
            if values:
                vectors = model.embed(**{name: values}, batch_size=batch_size).float().cpu().numpy()
                rows += [(key, name, vector) for key, vector in zip(keys, vectors, strict=True)]
    if not rows:
        raise ConfigError(f"{data}: there is nothing to embed as {', '.join(chosen)}")
    _write(out, rows)
    return Written(len(rows), len(rows[0][2]), problems)


def _read(
    model: Model, source: Any, name: str, places: Sequence[int], problems: list[DataError]
) -> tuple[list[str], list[Any]]:
    keys, values = [], []
    for place in places:
        try:
            sample = source[place]
            segment = sample.content(name)
            if segment is not None:
                values.append(model.modalities[name].load_value(segment.value))
                keys.append(sample.key)
        except DataError as error:
            problems.append(error)
    return keys, values


def _write(out: Path, rows: Sequence[tuple[str, str, np.ndarray]]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".npy":
        np.save(out, np.stack([vector for _, _, vector in rows]))
        out.with_suffix(".keys.txt").write_text("".join(f"{key}\n" for key, _, _ in rows))
        return
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError:
        raise CapabilityError("writing .parquet needs: pip install 'sensorium[data]'") from None
    keys, names, vectors = zip(*rows, strict=True)
    table = pa.table({"key": list(keys), "modality": list(names), "vector": [v.tolist() for v in vectors]})
    pq.write_table(table, out)
