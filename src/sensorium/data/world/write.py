"""Write a world to disk: media, one manifest per split, and last a card that marks it as whole."""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image

from ...core.errors import ConfigError
from . import language, render, sound
from .scene import SIDE, SPLITS, Scene, distinct_attempts, draw_scene, is_clip

VERSION = 1
CARD = "world.json"
SHARD = 250  # samples per folder and per task; with at most three files each, a folder holds fewer than 1,000
_FRAME_TIME = 125  # milliseconds
_MOST_DISTINCT = 100_000  # samples of a split without repetitions
_SHARDS_PER_WORKER = 4  # starting a process takes about as long as 1,000 samples


@dataclass(frozen=True)
class WorldSummary:
    """A world on disk.

    Args:
        out: its folder.
        manifests: split -> JSON Lines file.
        counts: split -> number of samples.
        already_there: True if it had been written before and nothing was done.
    """

    out: Path
    manifests: dict[str, Path]
    counts: dict[str, int]
    already_there: bool


@dataclass(frozen=True)
class _Shard:
    """The samples start .. start + len(attempts) - 1 of a split."""

    out: Path
    seed: int
    split: str
    start: int
    attempts: tuple[int, ...]
    clips: float


def write_world(
    out: Path,
    samples: int,
    seed: int = 0,
    *,
    test_samples: int = 500,
    compositional_samples: int = 500,
    validation_samples: int = 200,
    clips: float = 0.1,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> WorldSummary:
    """Write training, validation, test and compositional splits with exact ground truth.

    Sample i of a split depends on `seed`, i and whether it has a clip: not on the numbers of samples nor on
    `workers`. No scene of one split occurs in another, under any seed. Captions do not repeat outside the
    training split. The pairs of shape and colour in `scene.HELD_OUT` occur in every compositional scene and
    nowhere else.

    Args:
        out: a new or empty folder, or one with this very world, which is then left as it is.
        samples: of the training split.
        seed: 0 or more.
        test_samples: of the training distribution, in scenes that training never shows.
        compositional_samples: with combinations that training never shows.
        validation_samples: of the training distribution, as in the test split.
        clips: share of samples with a video, which in training and validation replaces the image.
        workers: processes; by default one per processor, fewer for a small world.
        progress: called with (samples done, samples in all).

    Raises:
        ConfigError: for a value out of range, or if `out` holds anything else than this world.
    """
    counts = {
        "train": samples,
        "validation": validation_samples,
        "test": test_samples,
        "compositional": compositional_samples,
    }
    _check(counts, seed=seed, clips=clips, workers=workers)
    out = Path(out)
    counts = {split: count for split, count in counts.items() if count}
    manifests = {split: out / f"{split}.jsonl" for split in counts}
    card = {"format": "sensorium world", "version": VERSION, "seed": seed, "samples": counts, "clips": clips}
    if _is_there(out, card, manifests):
        return WorldSummary(out=out, manifests=manifests, counts=counts, already_there=True)

    out.mkdir(parents=True, exist_ok=True)
    total, done = sum(counts.values()), 0
    if workers is None:
        workers = os.cpu_count() or 1
        workers = min(workers, math.ceil(total / (SHARD * _SHARDS_PER_WORKER)))
    with _mapper(workers) as mapper:
        for split, count in counts.items():
            lines: list[str] = []
            for written in mapper(_write_shard, _shards(out, seed, split, count, clips)):
                lines += written
                done += len(written)
                if progress is not None:
                    progress(done, total)
            _write_text(manifests[split], "".join(lines))
    _write_text(out / CARD, json.dumps(card, indent=2) + "\n")
    return WorldSummary(out=out, manifests=manifests, counts=counts, already_there=False)


def _check(counts: dict[str, int], *, seed: int, clips: float, workers: int | None) -> None:
    for split, count in counts.items():
        least = 1 if split == "train" else 0
        if count < least:
            raise ConfigError(f"samples of the {split} split: expected {least} or more, found {count}")
        if split != "train" and count > _MOST_DISTINCT:
            raise ConfigError(
                f"samples of the {split} split: expected at most {_MOST_DISTINCT}, found {count}"
            )
    if seed < 0:
        raise ConfigError(f"seed: expected 0 or more, found {seed}")
    if not 0 <= clips <= 1:
        raise ConfigError(f"clips: expected a share from 0 to 1, found {clips}")
    if workers is not None and workers < 1:
        raise ConfigError(f"workers: expected 1 or more, found {workers}")


def _is_there(out: Path, card: dict[str, Any], manifests: dict[str, Path]) -> bool:
    """True for the finished world of this card, False for a new or empty folder; else an error."""
    if not out.exists():
        return False
    if not out.is_dir():
        raise ConfigError(f"{out}: expected a folder for the world, found a file")
    if not any(out.iterdir()):
        return False
    if not (out / CARD).is_file():
        raise ConfigError(
            f"{out}: expected an empty folder or a finished world, found other files or an interrupted world"
            f" (no {CARD}); remove it or name another folder"
        )
    try:
        found = json.loads((out / CARD).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(
            f"{out / CARD}: expected the card of a world, found broken JSON ({error})"
        ) from error
    if found != card:
        raise ConfigError(
            f"{out}: holds a world of other settings; expected {json.dumps(card)}, found {json.dumps(found)};"
            " name another folder"
        )
    missing = [path.name for path in manifests.values() if not path.is_file()]
    if missing:
        raise ConfigError(
            f"{out}: the world there lacks {', '.join(missing)}; remove it or name another folder"
        )
    return True


@contextmanager
def _mapper(workers: int) -> Iterator[Callable]:
    """`map`, or its equal over processes, which are spawned: forking under torch's threads is unsafe."""
    if workers == 1:
        yield map
        return
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    try:
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)


def _shards(out: Path, seed: int, split: str, count: int, clips: float) -> list[_Shard]:
    attempts = [0] * count if split == "train" else distinct_attempts(seed, split, count)
    return [
        _Shard(out, seed, split, start, tuple(attempts[start : start + SHARD]), clips)
        for start in range(0, count, SHARD)
    ]


def _write_shard(shard: _Shard) -> list[str]:
    """Write the media of a shard and return its lines of the manifest."""
    folder = f"media/{shard.split}/{shard.start // SHARD:03d}"
    (shard.out / folder).mkdir(parents=True, exist_ok=True)
    lines = []
    for index, attempt in enumerate(shard.attempts, shard.start):
        moving = is_clip(shard.seed, shard.split, index, shard.clips)
        scene = draw_scene(shard.seed, shard.split, index, attempt, moving=moving)
        stem = f"{folder}/{index:06d}"
        media = {}
        if not moving or shard.split in ("test", "compositional"):
            media["image"] = f"{stem}.png"
            # Noise hardly compresses: a higher level would only cost time.
            Image.fromarray(render.picture(scene)).save(shard.out / media["image"], compress_level=1)
        if moving:
            media["video"] = f"{stem}.gif"
            save_clip(shard.out / media["video"], render.clip(scene))
        media["audio"] = f"{stem}.wav"
        save_sound(shard.out / media["audio"], sound.waveform(scene))
        record = {"key": f"{shard.split}-{index:06d}", **media, **describe_sample(scene, moving=moving)}
        lines.append(json.dumps(record) + "\n")
    return lines


def describe_sample(scene: Scene, *, moving: bool) -> dict[str, Any]:
    """The manifest's fields about a scene: text, questions, split and attributes (in the order of its relation)."""
    rng = scene.generator("language")
    things = scene.facts.things
    return {
        "text": language.describe(scene.facts, rng),
        "questions": [asdict(question) for question in language.ask(scene, rng, moving=moving)],
        "split": SPLITS[scene.identity[1]],
        "attributes": {
            "shape": [thing.shape for thing in things],
            "colour": [thing.colour for thing in things],
            "size": [thing.size for thing in things],
            "relation": scene.facts.relation,
        },
    }


def save_clip(path: Path, frames: np.ndarray) -> None:
    """Write UInt8[frames, SIDE, SIDE, 3] as an endless animated GIF with one palette for all frames."""
    strip = Image.fromarray(frames.reshape(-1, SIDE, 3))
    # The octree is four times as fast as the median cut, and its error is below the noise.
    indexed = strip.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    first, *rest = (indexed.crop((0, top, SIDE, top + SIDE)) for top in range(0, indexed.height, SIDE))
    first.save(path, save_all=True, append_images=rest, duration=_FRAME_TIME, loop=0)


def save_sound(path: Path, wave: np.ndarray) -> None:
    """Write Float[samples] within -1 .. 1 as 16-bit WAV at the world's rate."""
    buffer = io.BytesIO()  # four times as fast as letting the library write many small pieces to the file
    soundfile.write(buffer, wave, sound.RATE, format="WAV", subtype="PCM_16")
    path.write_bytes(buffer.getvalue())


def _write_text(path: Path, text: str) -> None:
    """Write a file at once: it is whole, or it is not there."""
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
