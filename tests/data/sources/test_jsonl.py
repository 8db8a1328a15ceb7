from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from sensorium.core import ConfigError, DataError
from sensorium.data.sources import JsonlSource

GOOD = {"image": "a.png", "text": "a cat"}


def _places(source) -> list[tuple[int | None, str | None, str | None]]:
    return [(error.line, error.key, error.field) for error in source.problems]


def test_round_trip(fakes, manifest) -> None:
    path = manifest({"key": "é", "text": "ünï"}, "", {"text": "two"}, "   ", {"text": "three"})
    source = JsonlSource(path, modalities=fakes)
    assert source.name == str(path)
    assert [(s.key, s.line, s.segments[0].value) for s in source] == [
        ("é", 1, "ünï"),
        ("data:3", 3, "two"),
        ("data:5", 5, "three"),
    ]
    assert source.problems == []
    assert [source[i] for i in (2, 0)] == [list(source)[i] for i in (2, 0)]
    assert all(sample.file == str(path) for sample in source)
    with pytest.raises(IndexError):
        source[3]


@pytest.mark.parametrize(
    ("line", "key", "field", "reason"),
    [
        ("{not json}", None, None, "not JSON: Expecting property name"),
        ('{"text": "a"} x', None, None, "not JSON: Extra data at character 15"),
        ("[1, 2]", None, None, "expected a JSON object, found a list"),
        ('"text"', None, None, "expected a JSON object, found the text 'text'"),
        ('{"text": "a", "labels": {"x": NaN}}', None, None, "NaN is not JSON"),
        ('{"series": [-Infinity]}', None, None, "-Infinity is not JSON"),
        ('{"text": "a", "text": "b"}', None, "text", "the field is given twice"),
        ('{"text": "\\ud800"}', None, None, "half of a surrogate pair"),
        ("[" * 100_000, None, None, "nested too deeply"),
        ('{"labels": {"x": ' + "9" * 5000 + "}}", None, None, "a number is too long"),
        ('{"text": ""}', "data:2", "text", "the text is empty"),
        ('{"key": "k", "image": "../x.png"}', "k", "image", "outside the data root"),
        ('{"key": "first", "text": "again"}', "first", "key", "this key is already used on line 1"),
    ],
)
def test_a_bad_line_is_the_only_one_lost(fakes, manifest, line, key, field, reason) -> None:
    path = manifest({"key": "first", **GOOD}, line, {"key": "last", **GOOD})
    source = JsonlSource(path, modalities=fakes)
    assert [sample.key for sample in source] == ["first", "last"]
    (error,) = source.problems
    assert (error.file, error.line, error.key, error.field) == (str(path), 2, key, field)
    assert reason in error.reason


def test_bytes_that_are_no_text(fakes, tmp_path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "one"}\r\n{"text": "\xff"}\n{"text": "three"}')
    source = JsonlSource(path, modalities=fakes)
    assert [sample.segments[0].value for sample in source] == ["one", "three"]
    (error,) = source.problems
    assert (error.line, error.reason) == (2, "not UTF-8 text: byte 10 is 0xff")


def test_a_missing_file_is_no_problem_of_the_index(fakes, manifest) -> None:
    source = JsonlSource(manifest(GOOD), modalities=fakes)
    assert (len(source), source.problems) == (1, [])


def test_every_third_key_repeated(fakes, manifest) -> None:
    source = JsonlSource(manifest(*({"key": i % 3, **GOOD} for i in range(7))), modalities=fakes)
    assert len(source) == 3
    assert _places(source) == [(line, str((line - 1) % 3), "key") for line in range(4, 8)]


def test_split(fakes, manifest) -> None:
    lines = [{"text": "a", "split": "train"}, {"text": "b", "split": "test"}, {"text": "c"}, {"text": ""}]
    path = manifest(*lines)

    def texts(split: str | None) -> list[str]:
        source = JsonlSource(path, modalities=fakes, split=split)
        assert len(source.problems) == 1
        return [sample.segments[0].value for sample in source]

    assert texts(None) == ["a", "b", "c"]
    assert texts("train") == ["a", "c"]
    assert texts("test") == ["b"]
    with pytest.raises(ConfigError, match=r"no sample of the split 'dev'; found train: 2, test: 1"):
        JsonlSource(path, modalities=fakes, split="dev")


def test_root(fakes, tmp_path) -> None:
    media, lists = tmp_path / "media", tmp_path / "lists"
    media.mkdir()
    lists.mkdir()
    path = lists / "data.jsonl"
    path.write_text('{"image": "a.png"}\n{"image": "../lists/b.png"}\n')
    source = JsonlSource(path, modalities=fakes, root=media)
    assert [sample.segments[0].value for sample in source] == [media.resolve() / "a.png"]
    assert _places(source) == [(2, "data:2", "image")]


def test_pickles(fakes, manifest) -> None:
    source = JsonlSource(manifest(GOOD, "{", {"text": "b"}), modalities=fakes)
    copy = pickle.loads(pickle.dumps(source))
    assert list(copy) == list(source)
    assert [str(error) for error in copy.problems] == [str(error) for error in source.problems]


def test_a_manifest_that_goes_away(fakes, manifest) -> None:
    path = manifest(GOOD)
    source = JsonlSource(path, modalities=fakes)
    Path(path).unlink()
    with pytest.raises(DataError) as caught:
        source[0]
    assert (caught.value.file, caught.value.line) == (str(path), 1)
