from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image
from rich.console import Console

from sensorium.data.duplicates import Repeats
from sensorium.data.preflight import Preflight, inspect, render
from sensorium.data.sources import open_source
from sensorium.data.world import write_world
from sensorium.modalities import standard


def _shown(preflight: Preflight) -> str:
    console = Console(file=io.StringIO(), width=200, color_system=None)
    render(preflight, console)
    return console.file.getvalue()


@pytest.fixture
def media(tmp_path) -> Path:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.png").write_bytes(b"image " + name.encode())
    (tmp_path / "copy.png").write_bytes(b"image a")
    (tmp_path / "bad.png").write_bytes(b"no")
    (tmp_path / "a.wav").write_bytes(b"audio a longer")
    return tmp_path


def test_everything_that_is_there(fakes, media, manifest) -> None:
    path = manifest(
        {"key": "a", "image": "a.png", "audio": "a.wav", "label": "cat", "split": "train", "group": "g"},
        {"key": "b", "image": "b.png", "label": "dog", "text": "one [red]dog[/red]"},
        {"key": "c", "image": "copy.png", "label": "cat", "split": "test", "group": "g"},
        {"key": "d", "image": "c.png", "question": "What?", "answer": "A cat"},
        {"key": "e", "text": "one [red]dog[/red]"},
    )
    found = inspect(open_source(path, modalities=fakes), fakes)
    assert found.ok
    assert (found.name, found.samples, found.decoded) == (str(path), 5, 5)
    assert found.modalities == {"text": 5, "image": 4, "audio": 1}
    assert found.combinations == {"image+text": 3, "image+audio+text": 1, "text": 1}
    assert found.splits == {"train": 4, "test": 1}
    assert (found.labels, found.classes) == ({"cat": 2, "dog": 1}, 2)
    assert (found.sizes["image"].count, found.sizes["image"].unit, found.sizes["image"].max) == (
        4,
        "bytes",
        7.0,
    )
    assert found.examples[0] == ("a", {"image": "7 bytes", "audio": "14 bytes", "label": "3 bytes"})
    assert found.duplicates == {"image": Repeats(1, [("c", "a")]), "text": Repeats(1, [("e", "b")])}
    assert found.leaks == {
        "image": Repeats(1, [("c (test)", "a (train)")]),
        "group": Repeats(1, [("c (test)", "a (train)")]),
    }
    assert [lesson.key for lesson in found.lessons] == ["a", "b", "c"]
    assert json.loads(json.dumps(found.to_json()))["combinations"] == found.combinations
    shown = _shown(found)
    for text in ("image+audio+text", "one [red]dog[/red]", "the same content twice", "c (test) = a (train)"):
        assert text in shown
    assert shown.rstrip().endswith("ok: nothing is broken")


def test_what_is_predicted(fakes, media, manifest) -> None:
    path = manifest(
        {"key": "a", "image": "a.png", "text": "a cat"},
        {"key": "b", "image": "a.png", "questions": [{"question": "A?", "answer": "a"}] * 2},
        {"key": "c", "image": "a.png", "audio": "a.wav"},
        {"key": "d", "text": "x" * 200},
    )
    found = inspect(open_source(path, modalities=fakes), fakes, predict=4)
    root = media.resolve()
    assert [list(lesson.lines) for lesson in found.lessons] == [
        [f"given the image: {root}/a.png", "predict the text: 'a cat'"],
        [
            f"given the image: {root}/a.png",
            "turn 1: given the text of the user: 'A?'",
            "turn 1: predict the text of the assistant: 'a'",
            "turn 2: given the text of the user: 'A?'",
            "turn 2: predict the text of the assistant: 'a'",
        ],
        [
            f"given the image: {root}/a.png",
            f"given the audio: {root}/a.wav",
            "nothing to predict: only objectives without target text, such as contrast, can use this sample",
        ],
        ["predict the text: '" + "x" * 77 + "...'"],
    ]
    assert inspect(open_source(path, modalities=fakes), fakes, predict=0).lessons == []


def test_broken_items_are_named_and_the_rest_is_read(fakes, media, manifest) -> None:
    path = manifest(
        {"key": "a", "image": "a.png"},
        {"key": "b", "image": ["b.png", "none.png", "bad.png"]},
        "{",
        {"key": "d", "image": "c.png"},
    )
    found = inspect(open_source(path, modalities=fakes), fakes)
    assert not found.ok
    assert [(e.file, e.line, e.key, e.field) for e in found.broken] == [
        (str(path), 3, None, None),
        (str(path), 2, "b", "image[1]"),
        (str(path), 2, "b", "image[2]"),
    ]
    assert [e.reason.split(":")[0] for e in found.broken[1:]] == ["No such file or directory", "not an image"]
    assert (found.samples, found.sizes["image"].count) == (3, 3)
    shown = _shown(found)
    assert "image[2]" in shown
    assert f"{path}:3" in shown
    assert shown.rstrip().endswith("3 broken items")
    assert found.to_json()["broken"][2] == {
        "key": "b",
        "file": str(path),
        "line": 2,
        "field": "image[2]",
        "reason": "not an image",
    }


def test_only_some_are_decoded_but_every_file_is_looked_for(fakes, media, manifest) -> None:
    names = ["a.png", "bad.png", "none.png", "b.png", "bad.png", "c.png"]
    path = manifest(*({"key": i, "image": name} for i, name in enumerate(names)))
    found = inspect(open_source(path, modalities=fakes), fakes, decode=2)  # samples 0 and 3
    assert (found.samples, found.decoded, found.sizes["image"].count) == (6, 2, 2)
    assert [(e.key, e.reason.partition(":")[0]) for e in found.broken] == [("2", "file not found")]


def test_many_samples_keep_their_order(fakes, manifest) -> None:
    path = manifest(*({"key": i, "text": f"{i}"} for i in range(700)))
    found = inspect(open_source(path, modalities=fakes), fakes, predict=700)
    assert [lesson.key for lesson in found.lessons] == [str(i) for i in range(700)]
    assert found.sizes["text"].count == 700


def test_nothing_usable(fakes, manifest) -> None:
    found = inspect(open_source(manifest("{"), modalities=fakes), fakes)
    assert not found.ok
    assert "there are no samples" in _shown(found)
    empty = inspect(open_source(manifest(), modalities=fakes), fakes)
    assert (empty.ok, empty.broken) == (False, [])


def test_real_pictures_and_sound(tmp_path, manifest) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    soundfile.write(tmp_path / "a.wav", np.sin(np.arange(8000) / 10), 16000)
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:300])
    (tmp_path / "page.wav").write_text("<html>not found</html>")
    path = manifest(
        {"key": "good", "image": "a.png", "audio": "a.wav", "text": "noise"},
        {"key": "cut", "image": "cut.png"},
        {"key": "page", "audio": "page.wav"},
        {"key": "none", "image": "none.png"},
    )
    modalities = standard()
    found = inspect(open_source(path, modalities=modalities), modalities)
    assert found.examples[0] == ("good", {"image": "30 px", "audio": "0.5 s", "text": "5 characters"})
    assert [(e.key, e.line, e.field) for e in found.broken] == [
        ("cut", 2, "image"),
        ("page", 3, "audio"),
        ("none", 4, "image"),
    ]


def test_the_embedded_world(tmp_path) -> None:
    modalities = standard()
    world = write_world(
        tmp_path / "world",
        12,
        test_samples=4,
        compositional_samples=0,
        validation_samples=0,
        clips=0.25,
        workers=1,
    )
    source = open_source(world.manifests["train"], modalities=modalities)
    found = inspect(source, modalities)
    assert found.broken == []
    assert found.samples == found.modalities["audio"] == 12
    assert {"image", "audio", "text"} <= found.modalities.keys()
    assert [error.reason for error in found.broken] == []
    assert all(any("predict the text" in line for line in lesson.lines) for lesson in found.lessons)
