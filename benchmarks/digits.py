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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import limit_threads, load, once, save, table
from PIL import Image

import sensorium
from sensorium import run
from sensorium.data.sources.open import open_source
from sensorium.evaluation import Caption, Classify, Retrieval, Withheld, evaluate
from sensorium.evaluation.metrics import Figure

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DATA = Path(__file__).parents[2] / "shared" / "data" / "digits"
TEST_TAKES = 5  # recordings 0-4 of each speaker and digit are the test split
TRAIN_PICTURES = 8_000
TARGET = 0.97
RECIPE = "unified:tiny"
#: Sources and weights: pairs, and each alone, so that the model meets every case it is asked for.
MIXTURE = ("train-pairs.jsonl", "train-speech.jsonl", "train-image.jsonl@0.25")
#: Recordings are sampled at 8 kHz and last half a second; pictures are 28 pixels wide, upright and not to be mirrored.
SETTINGS = (
    "modalities.image.size=32",
    "modalities.image.shift=3",
    "model.encoders.image.stem.patch=[8,8]",
    "modalities.audio.sample_rate=8000",
    "modalities.audio.mels=40",
    "modalities.audio.shift_seconds=0.05",
    "modalities.audio.mask_frequency=6",
    "modalities.audio.mask_time=4",
    "training.loading.withhold=0.9",
    "training.loading.batch=64",
)


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


def train(data: Path, out: Path, minutes: float, overrides: Sequence[str]) -> dict[str, float]:
    """Train one model, and say what it cost; deciding the vocabulary and the statistics is part of the cost."""
    shutil.rmtree(out, ignore_errors=True)
    sources = [str(data / source) for source in MIXTURE]
    plan = run.Plan(RECIPE, sources, out, [*SETTINGS, *overrides], {"minutes": minutes})
    spent = once(partial(run.train, plan))
    return {
        "minutes": round(spent.wall / 60, 2),
        "CPU minutes": round(spent.cpu / 60, 2),
        "steps": spent.result.step,
    }


def examine(model: sensorium.Model, data: Path) -> dict[str, Figure]:
    """The figures on the test sets, by name."""
    words, name, both = Caption(limit=None), Classify(limit=None), Retrieval(limit=None)
    asked = {
        "speech": (name, words),
        "image": (name, words),
        "pairs": (words, Withheld([words], limit=None), both),
    }
    found: dict[str, Figure] = {}
    for test, tasks in asked.items():
        source = open_source(data / f"test-{test}.jsonl", modalities=model.modalities)
        result = evaluate(model, source, name=test, tasks=tasks, limit=None, gallery=0)
        for task, figures in result.figures.items():
            found |= {f"{test}: {task} {metric}": figure for metric, figure in figures.items()}
    return found


#: What is shown, and what must reach the target.
SHOWN = {
    "speech: classify audio accuracy": "speech to word, zero-shot",
    "speech: caption audio exact match": "speech to word, written",
    "image: classify image accuracy": "picture to word, zero-shot",
    "image: caption image exact match": "picture to word, written",
    "pairs: caption together exact match": "pair to word, written",
    "pairs: withheld caption without audio": "... with the speech withheld",
    "pairs: withheld caption without image": "... with the picture withheld",
    "pairs: audio-image audio->image R@1": "speech to a picture of its digit, R@1",
    "pairs: audio-image image->audio R@1": "picture to speech of its digit, R@1",
}
AIMED = tuple(SHOWN)[:4]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of the two data sets")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/digits"), help="for prepared data and the run"
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="of training")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="a quarter of a minute; nothing is written")
    parser.add_argument("overrides", nargs="*", help="settings as path=value")
    arguments = parser.parse_args()
    if not (arguments.data / "spoken").is_dir():
        print(f"digits: there is no data in {arguments.data}; name its folder with --data")
        return
    minutes = 0.25 if arguments.quick else arguments.minutes
    limit_threads(arguments.threads)
    before = load()
    data = arguments.work / "data"
    write_data(arguments.data, data)
    cost = train(data, arguments.work / "run", minutes, arguments.overrides)
    found = examine(sensorium.load(arguments.work / "run"), data)
    rows = [
        (
            title,
            f"{found[name].value:.4f}",
            f"{found[name].low:.4f} .. {found[name].high:.4f}",
            found[name].n,
            TARGET if name in AIMED else "",
        )
        for name, title in SHOWN.items()
    ]
    title = ", ".join(f"{value} {name}" for name, value in cost.items())
    table(f"digits: {title}", ("one model", "share right", "95 %", "n", "target"), rows)
    if not arguments.quick:
        figures = {title: found[name].to_json() for name, title in SHOWN.items()}
        settings = {"recipe": RECIPE, "overrides": [*SETTINGS, *arguments.overrides], "mixture": MIXTURE}
        print(save("digits", settings | cost | figures | {"target": TARGET}, load_before=before))


if __name__ == "__main__":
    main()
