"""Real digits: one model learns spoken and handwritten digits in minutes on a CPU, and names both.

3,000 recordings (Free Spoken Digit Dataset, its official split) and the 10,000 test pictures of MNIST (8,000 to
train, 2,000 to test). The same model is asked zero-shot (which of ten words is nearest) and for a caption.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from measure import limit_threads, load, save, table
from PIL import Image

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DATA = Path(__file__).parents[2] / "shared" / "data" / "digits"
TEST_TAKES = 5  # recordings 0-4 of each speaker and digit are the test split
TRAIN_PICTURES = 8_000
TARGET = 0.97


@dataclass(frozen=True)
class Thing:
    """A recording or a picture in the work folder."""

    file: str
    digit: int
    group: str
    test: bool


def read_idx(path: Path) -> np.ndarray:
    """The array of bytes in a gzipped IDX file (LeCun's format: two zeros, type, number of axes, sizes)."""
    content = gzip.decompress(path.read_bytes())
    if content[:3] != b"\0\0\x08":
        raise ValueError(f"{path}: not an IDX file of bytes")
    axes = content[3]
    sizes = np.frombuffer(content, ">i4", axes, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(sizes)


def recordings(data: Path, out: Path) -> list[Thing]:
    """Copy the recordings, whose names are digit_speaker_take.wav, to the work folder."""
    (out / "speech").mkdir(parents=True, exist_ok=True)
    found = []
    for path in sorted((data / "spoken").glob("*.wav")):
        digit, speaker, take = path.stem.split("_")
        shutil.copyfile(path, out / "speech" / path.name)
        found.append(Thing(f"speech/{path.name}", int(digit), speaker, int(take) < TEST_TAKES))
    return found


def pictures(data: Path, out: Path, first: int = TRAIN_PICTURES) -> list[Thing]:
    """Write the pictures as PNG files to the work folder; the ``first`` ones are for training."""
    (out / "pictures").mkdir(parents=True, exist_ok=True)
    images = read_idx(data / "t10k-images-idx3-ubyte.gz")
    labels = read_idx(data / "t10k-labels-idx1-ubyte.gz")
    found = []
    for index, (image, digit) in enumerate(zip(images, labels, strict=True)):
        file = f"pictures/{index:05d}.png"
        Image.fromarray(image).save(out / file)
        found.append(Thing(file, int(digit), "mnist", index >= first))
    return found


def records(
    *, audio: list[Thing] | None = None, image: list[Thing] | None = None, prefix: str
) -> Iterator[dict[str, Any]]:
    """Manifest lines. With both lists, each line pairs the two of one place, which show the same digit."""
    for index in range(len(audio if audio is not None else image or [])):
        here = {name: things[index] for name, things in (("image", image), ("audio", audio)) if things}
        thing = here["audio"] if "audio" in here else here["image"]
        word = WORDS[thing.digit]
        files = {name: part.file for name, part in here.items()}
        yield {"key": f"{prefix}-{index:05d}", **files, "text": word, "label": word, "group": thing.group}


def matched(images: list[Thing], sounds: list[Thing], rng: random.Random) -> list[Thing]:
    """For each picture a random recording of the same digit."""
    by_digit: dict[int, list[Thing]] = {}
    for sound in sounds:
        by_digit.setdefault(sound.digit, []).append(sound)
    return [rng.choice(by_digit[image.digit]) for image in images]


def write_data(data: Path, out: Path, seed: int = 0, first: int = TRAIN_PICTURES) -> None:
    """Write media and manifests (train and test: speech, image, pairs) unless they are there."""
    if (out / "test-pairs.jsonl").is_file():  # the last one written
        return
    rng = random.Random(seed)
    sounds, images = recordings(data, out), pictures(data, out, first)
    for split in ("train", "test"):
        heard = [thing for thing in sounds if thing.test == (split == "test")]
        seen = [thing for thing in images if thing.test == (split == "test")]
        sets = {
            "speech": records(audio=heard, prefix="speech"),
            "image": records(image=seen, prefix="image"),
            "pairs": records(image=seen, audio=matched(seen, heard, rng), prefix="pair"),
        }
        for name, lines in sets.items():
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (out / f"{split}-{name}.jsonl").write_text(text)
