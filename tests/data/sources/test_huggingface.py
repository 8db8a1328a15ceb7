from __future__ import annotations

import io
import pickle
from pathlib import Path

import pytest
from PIL import Image

from sensorium.core import ConfigError, DataError
from sensorium.data.sources import DatasetSource, open_source

datasets = pytest.importorskip("datasets")


def _png(red: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (red, 0, 0)).save(buffer, "png")
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def _quiet():
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


@pytest.fixture
def data():
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    )
    images = [{"bytes": _png(number), "path": None} for number in range(4)]
    return datasets.Dataset.from_dict({"image": images, "label": [0, 1, 0, 1]}, features=features)


def test_in_memory_without_decoding(fakes, data) -> None:
    source = DatasetSource(data, modalities=fakes)
    assert source.problems == []
    assert [(s.key, s.file, s.line, s.labels["label"]) for s in source] == [
        ("dataset:1", "dataset", 1, "cat"),
        ("dataset:2", "dataset", 2, "dog"),
        ("dataset:3", "dataset", 3, "cat"),
        ("dataset:4", "dataset", 4, "dog"),
    ]
    assert [s.segments[0].value for s in source] == [_png(number) for number in range(4)]
    assert source[2] == list(source)[2]
    assert list(pickle.loads(pickle.dumps(source))) == list(source)


def test_a_selection_keeps_its_order(fakes, data) -> None:
    source = DatasetSource(data.select([3, 0]), modalities=fakes, name="mine")
    assert [(s.key, s.segments[0].value) for s in source] == [("mine:1", _png(3)), ("mine:2", _png(0))]


def test_saved(fakes, data, tmp_path) -> None:
    data.save_to_disk(str(tmp_path / "saved"))
    source = open_source(tmp_path / "saved", modalities=fakes)
    assert isinstance(source, DatasetSource)
    assert [s.key for s in source] == [f"saved:{line}" for line in range(1, 5)]
    assert source[1].segments[0].value == _png(1)


def test_saved_with_splits(fakes, data, tmp_path) -> None:
    parts = datasets.DatasetDict({"train": data, "test": data.select([1, 2])})
    parts.save_to_disk(str(tmp_path / "saved"))
    source = open_source(tmp_path / "saved", modalities=fakes)
    assert [s.split for s in source] == ["train"] * 4 + ["test"] * 2
    assert len({s.key for s in source}) == 6
    test = open_source(tmp_path / "saved", modalities=fakes, split="test")
    assert [s.segments[0].value for s in test] == [_png(1), _png(2)]
    assert [(s.key, s.line) for s in test] == [("test:1", 1), ("test:2", 2)]


def test_bad_rows_are_the_only_ones_lost(fakes) -> None:
    data = datasets.Dataset.from_dict(
        {"image": ["a.png", "/etc/passwd", None], "text": ["one", "two", "three"]}
    )
    source = DatasetSource(data, modalities=fakes)
    assert [s.segments[-1].value for s in source] == ["one", "three"]
    (error,) = source.problems
    assert (error.file, error.line, error.key, error.field) == ("dataset", 2, "dataset:2", "image")


def test_unusable(fakes, tmp_path) -> None:
    with pytest.raises(DataError, match=r"unknown field .*labels"):
        DatasetSource(datasets.Dataset.from_dict({"caption": ["a"]}), modalities=fakes)
    with pytest.raises(ConfigError, match="expected a data set with rows"):
        DatasetSource(datasets.Dataset.from_dict({"text": []}), modalities=fakes)
    with pytest.raises(ConfigError, match="expected a data set with rows"):
        DatasetSource([1, 2], modalities=fakes)
    with pytest.raises(DataError, match="not a saved data set, or damaged") as caught:
        DatasetSource(tmp_path, modalities=fakes)
    assert caught.value.file == str(tmp_path)
    broken = Path(tmp_path / "broken")
    broken.mkdir()
    (broken / "state.json").write_text("{")
    (broken / "dataset_info.json").write_text("{")
    with pytest.raises(DataError, match="not a saved data set, or damaged"):
        DatasetSource(broken, modalities=fakes)
