from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from sensorium.core import ConfigError, DataError
from sensorium.data.sources import FolderSource


@pytest.fixture
def tree(tmp_path):
    def tree(*names: str) -> Path:
        root = tmp_path / "tree"
        root.mkdir()
        for name in names:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"text of {name}\n")
        return root

    return tree


def test_class_folders_in_sorted_order(fakes, tree) -> None:
    root = tree("dog/1.png", "cat/10.PNG", "cat/2.png", "cat/2.wav", "cat/.hidden", ".git/x", "cat/v1.2.png")
    source = FolderSource(root, modalities=fakes)
    assert source.problems == []
    assert [(s.key, s.modalities(), s.labels) for s in source] == [
        ("cat/10", ("image", "text"), {"label": "cat"}),
        ("cat/2", ("image", "audio", "text"), {"label": "cat"}),
        ("cat/v1.2", ("image", "text"), {"label": "cat"}),
        ("dog/1", ("image", "text"), {"label": "dog"}),
    ]
    first = source[0]
    assert first.file == str(root / "cat/10.PNG")
    assert first.segments[0].value == root / "cat/10.PNG"
    assert (first.segments[1].value, first.segments[1].target, first.segments[1].field) == (
        "cat",
        True,
        "label",
    )
    assert list(pickle.loads(pickle.dumps(source))) == list(source)


def test_a_text_file_is_the_text(fakes, tree) -> None:
    (sample,) = FolderSource(tree("cat/1.png", "cat/1.txt"), modalities=fakes)
    assert [(s.modality, s.value) for s in sample.segments[1:]] == [("text", "text of cat/1.txt")]


def test_the_longest_ending_decides(fakes, tree) -> None:
    (sample,) = FolderSource(tree("cat/1.png", "cat/1.depth.png"), modalities=fakes)
    assert set(sample.modalities()) == {"image", "depth", "text"}


def test_two_files_of_one_stem_and_modality(fakes, tree) -> None:
    (sample,) = FolderSource(tree("cat/1.png", "cat/1.jpg"), modalities=fakes)
    assert [s.field for s in sample.segments] == ["image[0]", "image[1]", "label"]


def test_problems_name_the_file_and_nothing_else_is_lost(fakes, tree) -> None:
    root = tree("cat/1.png", "cat/Thumbs.db", "loose.png", "cat/deeper/2.png", "dog/1.png")
    (root / "bird").mkdir()
    (root / "dog/2.png").symlink_to("/etc/passwd")
    (root / "dog/3.txt").symlink_to("/etc/passwd")
    (root / "dog/4.txt").write_bytes(b"\xff")
    (root / "dog/5.txt").write_bytes(b"")
    source = FolderSource(root, modalities=fakes)
    assert [sample.key for sample in source] == ["cat/1", "dog/1"]
    found = {os.path.relpath(error.file, root): error.reason for error in source.problems}
    expected = {
        "bird": "the folder of this class is empty",
        "cat/Thumbs.db": "unknown kind of file: expected .csv, .depth.png, .jpg, .png, .txt, .wav",
        "cat/deeper": "a folder inside the folder of a class",
        "dog/2.png": "through a symbolic link",
        "dog/3.txt": "through a symbolic link",
        "dog/4.txt": "not UTF-8 text",
        "dog/5.txt": "the text is empty",
        "loose.png": "a file without a class",
    }
    assert found.keys() == expected.keys()
    for name, reason in expected.items():
        assert reason in found[name]


def test_a_name_that_is_no_text(fakes, tree) -> None:
    root = tree("cat/1.png")
    try:
        (Path(os.fsdecode(os.fsencode(root) + b"/cat/\xff.png"))).write_bytes(b"")
    except OSError:
        pytest.skip("this file system has Unicode names only")
    source = FolderSource(root, modalities=fakes)
    assert len(source) == 1
    assert source.problems[0].reason == "the name of the file is not UTF-8 text"
    str(source.problems[0]).encode("utf-8")


def test_no_class_folder(fakes, tree) -> None:
    root = tree("1.png", "2.png")
    with pytest.raises(
        DataError, match=r"a class-less folder: expected one folder per class.*found 2 entries"
    ) as e:
        FolderSource(root, modalities=fakes)
    assert e.value.file == str(root)


def test_a_file_that_went_away_is_found_when_read(fakes, tree) -> None:
    root = tree("cat/1.txt")
    source = FolderSource(root, modalities=fakes)
    (root / "cat/1.txt").unlink()
    with pytest.raises(DataError) as caught:
        source[0]
    assert caught.value.file == str(root / "cat/1.txt")


def test_two_modalities_that_claim_one_ending(fakes, tree) -> None:
    fakes["thermal"] = fakes["image"]
    with pytest.raises(ConfigError, match=r"both 'image' and 'thermal' claim files that end in \.png"):
        FolderSource(tree("cat/1.png"), modalities=fakes)


def test_samples_of_a_folder_belong_to_train(fakes, tree) -> None:
    root = tree("cat/1.png")
    assert len(FolderSource(root, modalities=fakes, split="train")) == 1
    with pytest.raises(ConfigError, match="no sample of the split 'test'; found train: 1"):
        FolderSource(root, modalities=fakes, split="test")
