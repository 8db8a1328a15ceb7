from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from sensorium.core import DataError
from sensorium.data.sources import ParquetSource

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

MEDIA = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def _write(path: Path, columns: dict[str, Any], *, classes: dict[str, list[str]] | None = None) -> Path:
    table = pa.table(columns)
    if classes:
        features = {name: {"_type": "ClassLabel", "names": names} for name, names in classes.items()}
        info = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": info})
    parquet.write_table(table, path, row_group_size=2)
    return path


def test_round_trip(fakes, tmp_path) -> None:
    images = pa.array(
        [{"bytes": b"image 0"}, {"path": "1.png"}, None, {"bytes": b"image 3", "path": "/home/x/3.png"}, {}],
        MEDIA,
    )
    texts = ["zero", "one", "two", "three", "four"]
    path = _write(
        tmp_path / "x.parquet", {"text": texts, "image": images, "split": [None, "test"] * 2 + [None]}
    )
    source = ParquetSource([path], modalities=fakes)
    assert source.problems == []
    assert [(s.key, s.line, s.split, [x.value for x in s.segments]) for s in source] == [
        ("x:1", 1, None, [b"image 0", "zero"]),
        ("x:2", 2, "test", [tmp_path.resolve() / "1.png", "one"]),
        ("x:3", 3, None, ["two"]),
        ("x:4", 4, "test", [b"image 3", "three"]),
        ("x:5", 5, None, ["four"]),
    ]
    assert [source[i] for i in (4, 0, 3, 1, 2)] == [list(source)[i] for i in (4, 0, 3, 1, 2)]
    assert list(pickle.loads(pickle.dumps(source))) == list(source)
    assert [s.key for s in ParquetSource([path], modalities=fakes, split="test")] == ["x:2", "x:4"]


def test_indexing_reads_no_bytes_of_media(fakes, tmp_path, monkeypatch) -> None:
    path = _write(tmp_path / "x.parquet", {"image": pa.array([{"bytes": b"image", "path": "p"}] * 3, MEDIA)})
    read = parquet.ParquetFile.read_row_group
    columns = []

    def spy(self, group, columns_=None, **options):
        columns.append(options["columns"])
        return read(self, group, **options)

    monkeypatch.setattr(parquet.ParquetFile, "read_row_group", spy)
    source = ParquetSource([path], modalities=fakes)
    assert columns == [["image.path"]] * 2
    assert source[0].segments[0].value == b"image"
    assert columns[2:] == [["image.bytes", "image.path"]]


def test_several_files_and_plain_columns(fakes, tmp_path) -> None:
    paths = [
        _write(
            tmp_path / f"{n}.parquet",
            {"image": [b"image"], "series": [[[1.0, 2.0]]], "label": [n]},
            classes={"label": ["cat", "dog"]},
        )
        for n in (0, 1, 2)
    ]
    source = ParquetSource(paths, modalities=fakes)
    assert [(s.key, s.file, s.labels["label"]) for s in source] == [
        ("0:1", str(paths[0]), "cat"),
        ("1:1", str(paths[1]), "dog"),
    ]
    assert [s.value for s in source[1].segments] == [b"image", [[1.0, 2.0]], "dog"]
    (error,) = source.problems
    assert (error.file, error.line, error.field) == (str(paths[2]), 1, "label")
    assert error.reason == "expected a class from 0 to 1, found 2"


def test_chat_with_media(fakes, tmp_path) -> None:
    message = pa.struct([("role", pa.string()), ("content", pa.string())])
    columns = {
        "messages": pa.array([[{"role": "user", "content": "<image> <image>?"}]] * 2, pa.list_(message)),
        "images": pa.array(
            [[{"bytes": b"image a"}, {"bytes": b"image b"}], [{"bytes": b"c"}]], pa.list_(MEDIA)
        ),
    }
    source = ParquetSource([_write(tmp_path / "x.parquet", columns)], modalities=fakes)
    assert [s.value for s in source[0].segments] == [b"image a", b"image b", "?"]
    (error,) = source.problems
    assert (error.line, error.field) == (2, "images")
    assert error.reason == "the messages have 2 <image>, the field has 1 file"


def test_bad_rows_are_the_only_ones_lost(fakes, tmp_path) -> None:
    path = _write(
        tmp_path / "x.parquet",
        {
            "key": ["a", "b", "c", "a", "e"],
            "image": ["a.png", "/etc/passwd", "c.png", "d.png", None],
            "text": ["one", "two", "", "four", "five"],
        },
    )
    source = ParquetSource([path], modalities=fakes)
    assert [sample.key for sample in source] == ["a", "e"]
    assert [(e.file, e.line, e.key, e.field) for e in source.problems] == [
        (str(path), 2, "b", "image"),
        (str(path), 3, "c", "text"),
        (str(path), 4, "a", "key"),
    ]


def test_unusable_files(fakes, tmp_path) -> None:
    good = _write(tmp_path / "good.parquet", {"text": ["a"]})
    other = _write(tmp_path / "other.parquet", {"text": ["a"], "image": ["a.png"]})
    unknown = _write(tmp_path / "unknown.parquet", {"txet": ["a"]})
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(good.read_bytes()[:-10])
    for paths, file, reason in (
        ([good, other], other, "expected the columns"),
        ([unknown], unknown, r"unknown field \(did you mean 'text'\?\)"),
        ([cut], cut, "not a Parquet file, or damaged"),
        ([tmp_path / "none.parquet"], tmp_path / "none.parquet", "not a Parquet file, or damaged"),
    ):
        with pytest.raises(DataError, match=reason) as caught:
            ParquetSource(paths, modalities=fakes)
        assert caught.value.file == str(file)


def test_media_only_and_no_rows(fakes, tmp_path) -> None:
    path = _write(tmp_path / "x.parquet", {"image": pa.array([b"image", None])})
    source = ParquetSource([path], modalities=fakes)
    assert len(source) == 2
    assert source[0].segments[0].value == b"image"
    with pytest.raises(DataError, match="no modality at all") as caught:
        source[1]
    assert caught.value.line == 2
    empty = _write(tmp_path / "empty.parquet", {"image": pa.array([], pa.binary())})
    assert ParquetSource([empty, path], modalities=fakes)[0].file == str(path)
    assert len(ParquetSource([empty], modalities=fakes)) == 0
