from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from sensorium.core import CapabilityError, ConfigError
from sensorium.data.sources import (
    FolderSource,
    JsonlSource,
    ParquetSource,
    ShardSource,
    TableSource,
    open_source,
    open_sources,
)


@pytest.fixture
def files(tmp_path) -> Path:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n{"text": "b", "split": "test"}\n')
    (tmp_path / "b.csv").write_text("text\na\n")
    (tmp_path / "c.tsv").write_text("text\na\n")
    for number in range(2):
        with tarfile.open(tmp_path / f"d-{number}.tar", "w"):
            pass
    (tmp_path / "tree" / "cat").mkdir(parents=True)
    (tmp_path / "tree" / "cat" / "1.png").write_bytes(b"image")
    return tmp_path


def test_the_kind_is_by_the_name(fakes, files) -> None:
    for name, kind in (
        ("a.jsonl", JsonlSource),
        ("b.csv", TableSource),
        ("c.tsv", TableSource),
        ("d-0.tar", ShardSource),
        ("d-{0..1}.tar", ShardSource),
        ("tree", FolderSource),
    ):
        source = open_source(f"{files}/{name}", modalities=fakes)
        assert type(source) is kind
        assert source.name == f"{files}/{name}"


def test_folders_of_shards_and_parquet(fakes, files, tmp_path_factory) -> None:
    shards = tmp_path_factory.mktemp("shards")
    (files / "d-0.tar").rename(shards / "d-0.tar")
    assert type(open_source(shards, modalities=fakes)) is ShardSource
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    folder = tmp_path_factory.mktemp("parquet")
    for number in (1, 0):
        parquet.write_table(pa.table({"text": [str(number)]}), folder / f"{number}.parquet")
    source = open_source(folder, modalities=fakes)
    assert type(source) is ParquetSource
    assert [sample.segments[0].value for sample in source] == ["0", "1"]
    assert type(open_source(folder / "0.parquet", modalities=fakes)) is ParquetSource


def test_split_and_root(fakes, files) -> None:
    assert [s.key for s in open_source(files / "a.jsonl", modalities=fakes, split="test")] == ["a:2"]
    (files / "e.jsonl").write_text('{"image": "1.png"}\n')
    source = open_source(files / "e.jsonl", modalities=fakes, root=files / "tree/cat")
    assert source[0].segments[0].value == files.resolve() / "tree/cat/1.png"
    with pytest.raises(ConfigError, match="the data root must be a folder"):
        open_source(files / "e.jsonl", modalities=fakes, root=files / "none")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a.json", r"no such file or folder \(did you mean .*a\.jsonl\?\)"),
        ("none/a.jsonl", "no such file or folder: there is no folder .*none"),
        ("d-{0..2}.tar", r"no such file .*d-2\.tar \(1 of 3 are missing\)"),
        ("d-{0..1}.jsonl", r"a pattern with braces names \.tar shards"),
        (".", r"the folder holds a\.jsonl, b\.csv, c\.tsv; name one of them, as .*a\.jsonl"),
    ],
)
def test_what_is_not_there(fakes, files, name, reason) -> None:
    with pytest.raises(ConfigError, match=reason):
        open_source(f"{files}/{name}", modalities=fakes)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("x.json", r"unknown kind of data; write one JSON object per line and call it \.jsonl"),
        ("x.tar.gz", "unknown kind of data; unpack it first"),
        ("x.xlsx", r"unknown kind of data; expected a \.jsonl, \.csv"),
        ("x", "unknown kind of data; expected"),
    ],
)
def test_unknown_kinds(fakes, tmp_path, name, reason) -> None:
    (tmp_path / name).touch()
    with pytest.raises(ConfigError, match=reason):
        open_source(tmp_path / name, modalities=fakes)


def test_empty_folder(fakes, tmp_path) -> None:
    with pytest.raises(ConfigError, match="the folder is empty"):
        open_source(tmp_path, modalities=fakes)


def test_weights(fakes, files) -> None:
    (files / "at@2.jsonl").write_text('{"text": "a"}\n')
    (files / "at@home.jsonl").write_text('{"text": "a"}\n')
    names = ["a.jsonl", "b.csv@0.5", "at@2.jsonl", "at@2.jsonl@3", "at@home.jsonl"]
    opened = open_sources([f"{files}/{name}" for name in names], modalities=fakes)
    assert [(Path(source.name).name, weight) for source, weight in opened] == [
        ("a.jsonl", 1.0),
        ("b.csv", 0.5),
        ("at@2.jsonl", 1.0),
        ("at@2.jsonl", 3.0),
        ("at@home.jsonl", 1.0),
    ]


@pytest.mark.parametrize("weight", ["0", "-1", "nan", "inf", "half", ""])
def test_bad_weights(fakes, files, weight) -> None:
    with pytest.raises(ConfigError, match=r"expected path@weight with a positive weight, found"):
        open_sources([f"{files}/a.jsonl@{weight}"], modalities=fakes)


@pytest.mark.parametrize(
    ("package", "name"), [("pyarrow", "x.parquet"), ("braceexpand", "x-{0..1}.tar"), ("datasets", "saved")]
)
def test_a_missing_package_names_the_extra(fakes, tmp_path, monkeypatch, package, name) -> None:
    (tmp_path / "x.parquet").touch()
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "dataset_info.json").touch()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(CapabilityError, match=r"pip install 'sensorium\[data\]'"):
        open_source(f"{tmp_path}/{name}", modalities=fakes)


def test_importing_sources_is_light() -> None:
    code = (
        "import sys, sensorium.data.sources, sensorium.data.preflight; "
        "print([name for name in ('pyarrow', 'datasets', 'braceexpand', 'rich') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
