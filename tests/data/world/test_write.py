"""A world on disk: the manifests' format, determinism, splits and refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from sensorium.core.errors import ConfigError
from sensorium.data.world import HELD_OUT, SPLITS, compare, judge, parse, write, write_world

SIZES = {"test_samples": 40, "compositional_samples": 40, "validation_samples": 20}


def rows(out: Path, split: str) -> list[dict]:
    return [json.loads(line) for line in (out / f"{split}.jsonl").read_text().splitlines()]


def contents(out: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("world") / "made"
    write_world(out, 300, seed=1, clips=0.2, workers=1, **SIZES)
    return out


def test_summary_and_card(world):
    summary = write_world(world, 300, seed=1, clips=0.2, **SIZES)
    assert summary.already_there
    assert summary.counts == {"train": 300, "validation": 20, "test": 40, "compositional": 40}
    assert all(path.is_file() for path in summary.manifests.values())
    assert not list(world.rglob("*.partial"))


@pytest.mark.parametrize("split", SPLITS)
def test_manifest_format(world, split):
    for index, row in enumerate(rows(world, split)):
        assert row["key"] == f"{split}-{index:06d}"
        assert row["split"] == split
        facts = parse(row["text"])
        assert facts is not None
        attributes = row["attributes"]
        assert attributes["relation"] == facts.relation
        listed = sorted(zip(attributes["shape"], attributes["colour"], attributes["size"], strict=True))
        assert listed == sorted((thing.shape, thing.colour, thing.size) for thing in facts.things)
        assert 2 <= len(row["questions"]) <= 3
        assert all(set(question) == {"question", "answer", "type"} for question in row["questions"])
        assert ("video" in row) == ("motion" in {question["type"] for question in row["questions"]})
        assert "audio" in row
        if split in ("test", "compositional"):
            assert "image" in row
        else:
            assert ("video" in row) != ("image" in row)


def test_media_open_as_what_they_are(world):
    row = next(row for row in rows(world, "test") if "video" in row)
    with Image.open(world / row["image"]) as image:
        assert (image.size, image.mode) == ((64, 64), "RGB")
        still = np.asarray(image).astype(float)
    info = soundfile.info(world / row["audio"])
    assert (info.samplerate, info.channels, info.subtype) == (16_000, 1, "PCM_16")
    with Image.open(world / row["video"]) as clip:
        first = np.asarray(clip.convert("RGB")).astype(float)
    assert (
        np.abs(first - still).mean() < 6
    )  # the clip starts with the still picture, but for noise and palette


def test_every_clip_keeps_its_eight_frames(world):
    """Also when nothing moves: an encoder may merge equal frames."""
    videos = [row["video"] for split in SPLITS for row in rows(world, split) if "video" in row]
    assert len(videos) > 40
    for video in videos:
        with Image.open(world / video) as clip:
            assert clip.n_frames == 8


def test_no_folder_is_crowded(world):
    assert (
        max(len(list(folder.iterdir())) for folder in (world / "media").rglob("*") if folder.is_dir()) <= 1000
    )
    assert (world / "media/train/001/000250.wav").is_file()


def test_splits_are_disjoint_and_evaluation_captions_distinct(world):
    facts = {split: [parse(row["text"]) for row in rows(world, split)] for split in SPLITS}
    for split in ("validation", "test", "compositional"):
        assert len(set(facts[split])) == len(facts[split])
        assert not set(facts[split]) & set(facts["train"])
    for split, found in facts.items():
        for scene in found:
            held_out = any(thing.pair in HELD_OUT for thing in scene.things)
            assert held_out == (split == "compositional")


def test_attributes_judge_the_caption_they_stand_beside(world):
    for row in rows(world, "train"):
        assert all(judge(row["text"], row["attributes"]).values())
        swapped = row["attributes"] | {"colour": [*row["attributes"]["colour"][1:], "grey"]}
        assert not judge(row["text"], swapped)["colour"]


@pytest.mark.slow
def test_same_bytes_from_two_processes_and_for_more_samples(world, tmp_path):
    seen = []
    counts = SIZES | {"test_samples": 60}
    write_world(
        tmp_path / "two",
        310,
        seed=1,
        clips=0.2,
        workers=2,
        progress=lambda done, total: seen.append((done, total)),
        **counts,
    )
    one, two = contents(world), contents(tmp_path / "two")
    for name, data in one.items():
        if name.endswith((".png", ".wav", ".gif")):
            assert two[name] == data, name
        elif name in ("train.jsonl", "test.jsonl"):
            assert two[name].startswith(data)
        elif name.endswith(".jsonl"):
            assert two[name] == data
    assert seen[-1] == (430, 430)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_another_seed_is_another_world(world, tmp_path):
    write_world(
        tmp_path / "w", 20, seed=2, test_samples=0, compositional_samples=0, validation_samples=0, workers=1
    )
    assert sorted(path.name for path in (tmp_path / "w").iterdir()) == ["media", "train.jsonl", "world.json"]
    same = [
        compare(a["text"], parse(b["text"]))["all"]
        for a, b in zip(rows(tmp_path / "w", "train"), rows(world, "train"), strict=False)
    ]
    assert sum(same) < 3


def test_other_settings_are_refused(world):
    with pytest.raises(ConfigError, match="other settings"):
        write_world(world, 300, seed=2, clips=0.2, **SIZES)
    with pytest.raises(ConfigError, match="other settings"):
        write_world(world, 301, seed=1, clips=0.2, **SIZES)


def test_foreign_folders_are_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(ConfigError, match=r"no world\.json"):
        write_world(tmp_path, 10)
    with pytest.raises(ConfigError, match="found a file"):
        write_world(tmp_path / "mine.txt", 10)
    (tmp_path / "world.json").write_text("{")
    with pytest.raises(ConfigError, match="broken JSON"):
        write_world(tmp_path, 10)
    assert (tmp_path / "mine.txt").read_text() == "keep me"


def test_an_interrupted_world_is_not_taken_for_a_whole_one(tmp_path, monkeypatch):
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_world(tmp_path / "w", 10, workers=1, progress=interrupt)
    assert not list((tmp_path / "w").glob("*.jsonl"))
    with pytest.raises(ConfigError, match="interrupted"):
        write_world(tmp_path / "w", 10)


def test_a_lost_manifest_is_named(tmp_path):
    few = {"test_samples": 1, "compositional_samples": 1, "validation_samples": 1, "workers": 1}
    write_world(tmp_path / "w", 2, **few)
    (tmp_path / "w" / "test.jsonl").unlink()
    with pytest.raises(ConfigError, match=r"lacks test\.jsonl"):
        write_world(tmp_path / "w", 2, **few)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"samples": 0}, "train split: expected 1 or more, found 0"),
        ({"samples": 1, "test_samples": -1}, "test split: expected 0 or more, found -1"),
        ({"samples": 1, "test_samples": write._MOST_DISTINCT + 1}, "test split: expected at most"),
        ({"samples": 1, "seed": -1}, "seed: expected 0 or more"),
        ({"samples": 1, "clips": 1.5}, "clips: expected a share"),
        ({"samples": 1, "workers": 0}, "workers: expected 1 or more"),
    ],
)
def test_values_out_of_range_are_refused(tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        write_world(tmp_path / "w", **settings)
    assert not (tmp_path / "w").exists()
