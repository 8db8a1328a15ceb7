"""Verbs about data: make it, look at it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from tyro.conf import Positional as Free

from ..core import ConfigError

if TYPE_CHECKING:
    pass


def world(out: Path, samples: int = 10_000, seed: int = 0, clips: float = 0.1) -> None:
    """Write the embedded data set: pictures, sounds, clips, captions and questions with exact ground truth.

    Args:
        out: folder to write; refused if it holds anything else.
        samples: training scenes; 200 validation, 500 test and 500 compositional scenes come with them.
        seed: another seed gives other scenes.
        clips: share of scenes that come as a clip instead of a picture.
    """
    from ..data.world import write_world

    summary = write_world(out, samples, seed, clips=clips)
    console = Console()
    if summary.already_there:
        console.print(f"{out} is already there")
    for split, path in summary.manifests.items():
        console.print(f"{split:14} {summary.counts[split]:6} samples  {path}", highlight=False)


def inspect(
    data: Free[str],
    decode: int | None = None,
    split: str | None = None,
    recipe: str | None = None,
    model: str | None = None,
    show: int = 3,
    json_out: Path | None = None,
) -> None:
    """Look at data before training: counts, sizes, duplicates, broken items, and what will be learnt.

    Args:
        data: a manifest (.jsonl, .csv, .tsv), .tar shards (braces allowed), .parquet, or a folder of class folders.
        decode: decode only so many samples, evenly spread; by default all.
        split: look at one split only.
        recipe: take modalities from this recipe too, for example my_file.py:my_recipe.
        model: show the exact tokens that this chat model (a directory or hub id) is given of some samples, which of
            them are learnt, and places for media against rows of features.
        show: of how many samples.
        json_out: also write what was found to this file.
    """
    from ..data.preflight import inspect as look
    from ..data.preflight import render
    from ..data.sources.open import open_source
    from ..modalities import standard
    from ..start import resolve

    if model is not None:
        _show_tokens(model, data, split, show)
        return
    if decode is not None and decode < 0:
        raise ConfigError(f"--decode must be at least 0, found {decode}")
    known = standard()
    if recipe is not None:
        known |= {name: part.build() for name, part in resolve(recipe).spec.modalities.items()}
    found = look(open_source(data, modalities=known, split=split), known, decode=decode)
    render(found, Console())
    if json_out is not None:
        json_out.write_text(json.dumps(found.to_json(), indent=1))
    if not found.ok:
        raise SystemExit(1)


def _show_tokens(model: str, data: str, split: str | None, show: int) -> None:
    from ..core import DataError
    from ..data.sources.open import open_source
    from ..modalities import standard
    from ..model import load
    from ..tokens import reading, render

    if show < 1:
        raise ConfigError(f"--show must be at least 1, found {show}")
    opened = load(model)
    source = open_source(data, modalities=standard() | dict(opened.modalities), split=split)
    count, broken = min(show, len(source)), 0
    console = Console()
    for index in range(count):
        try:
            render([reading(opened, source[index * len(source) // count])], console)
        except DataError as error:
            broken += 1
            console.print(f"not usable: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
    if broken or not count:
        raise SystemExit(1)
